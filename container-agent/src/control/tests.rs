use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::message::{LinkView, Request};
use super::*;
use crate::config::ServerUrl;
use crate::disk::Root;
use crate::disk::state::StateDir;
use crate::engine::MassDelete;

/// A barrier of this length is never answered.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// An agent that notes what it is told.
#[derive(Clone)]
struct Fake {
    told: mpsc::UnboundedSender<String>,
    report: Arc<Mutex<ReportView>>,
}

impl Agent for Fake {
    async fn status(&self) -> StatusView {
        StatusView {
            pid: 7,
            command: "watch".into(),
            project: "p".parse().unwrap(),
            server: ServerUrl::default_server(),
            link: LinkView::Online,
            report: ReportView::default(),
            unacknowledged: 3,
            last_acknowledged: None,
            watches: 1,
            watches_allowed: None,
            events: 0,
            files: 2,
        }
    }

    async fn barrier(&self, timeout: Duration, meant: Meant) -> ReportView {
        let Meant { mass_delete, paths } = meant;
        self.told
            .send(format!("barrier {timeout:?} {mass_delete:?} {paths:?}"))
            .unwrap();
        if timeout >= FOR_EVER {
            std::future::pending::<()>().await;
        }
        self.report.lock().unwrap().clone()
    }

    async fn unknown(&self, paths: Vec<FilePath>) -> Vec<Reason> {
        let reason = |path: FilePath| Reason {
            path: Some(path.into()),
            why: "the test says so".into(),
        };
        paths.into_iter().map(reason).collect()
    }

    fn tool_started(&self, call: ToolStart) {
        let _ = self
            .told
            .send(format!("started {} {:?}", call.id, call.paths));
    }

    fn tool_finished(&self, id: &str) {
        let _ = self.told.send(format!("finished {id}"));
    }
}

struct Setup {
    root: TempDir,
    server: Option<ControlServer>,
    agent: Fake,
    told: mpsc::UnboundedReceiver<String>,
}

impl Setup {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(".uspark")).unwrap();
        let (sender, told) = mpsc::unbounded_channel();
        let agent = Fake {
            told: sender,
            report: Arc::default(),
        };
        let server = Some(ControlServer::start(root.path(), agent.clone()).unwrap());
        Self {
            root,
            server,
            agent,
            told,
        }
    }

    fn socket(&self) -> PathBuf {
        self.root.path().join(".uspark/agent.sock")
    }

    async fn client(&self) -> ControlClient {
        connect(self.root.path()).await.expect("the agent listens")
    }

    async fn told(&mut self) -> String {
        tokio::time::timeout(Duration::from_secs(10), self.told.recv())
            .await
            .expect("something is told soon")
            .unwrap()
    }
}

async fn connect(root: &Path) -> Option<ControlClient> {
    ControlClient::connect(root).await.unwrap()
}

#[tokio::test]
async fn questions_are_answered_on_one_connection() {
    let mut setup = Setup::new();
    let mut client = setup.client().await;
    assert_eq!(client.status().await.unwrap(), setup.agent.status().await);

    let report = ReportView {
        sent: 5,
        ..ReportView::default()
    };
    *setup.agent.report.lock().unwrap() = report.clone();
    assert_eq!(
        client.barrier(Duration::from_secs(9)).await.unwrap(),
        report
    );
    assert_eq!(setup.told().await, "barrier 9s Held []");
    client.set_meant(Meant {
        mass_delete: MassDelete::Passes,
        paths: vec!["a".parse().unwrap()],
    });
    client.barrier(Duration::from_secs(9)).await.unwrap();
    assert_eq!(setup.told().await, r#"barrier 9s Passes [FilePath("a")]"#);
    let unknown = client.unknown(vec!["a".parse().unwrap()]).await.unwrap();
    assert_eq!(unknown[0].path.as_deref(), Some("a"));
    assert_eq!(client.status().await.unwrap().unacknowledged, 3);
}

#[tokio::test]
async fn tool_calls_are_passed_on_and_a_lost_peer_ends_its_own() {
    let mut setup = Setup::new();
    let mut client = setup.client().await;
    for id in ["a", "b"] {
        let call = ToolStart {
            id: id.into(),
            name: "Write".into(),
            paths: vec!["/w/f".into()],
        };
        client.tell(&Request::ToolStarted(call)).await.unwrap();
        assert_eq!(setup.told().await, format!("started {id} [\"/w/f\"]"));
    }
    client
        .tell(&Request::ToolFinished { id: "a".into() })
        .await
        .unwrap();
    assert_eq!(setup.told().await, "finished a");
    drop(client);
    assert_eq!(setup.told().await, "finished b");
}

#[tokio::test]
async fn the_socket_is_its_owners_alone_and_goes_with_the_agent() {
    let mut setup = Setup::new();
    assert_eq!(
        setup.socket().symlink_metadata().unwrap().mode() & 0o777,
        0o600
    );
    let mut client = setup.client().await;
    setup.server.take().unwrap().stop().await;
    assert!(!setup.socket().exists());
    assert!(matches!(client.status().await, Err(ControlError::Gone)));
    assert!(connect(setup.root.path()).await.is_none());
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_barrier() {
    let mut setup = Setup::new();
    let mut client = setup.client().await;
    let asked = tokio::spawn(async move { client.barrier(FOR_EVER).await });
    setup.told().await;
    setup.server.take().unwrap().stop().await;
    assert!(matches!(asked.await.unwrap(), Err(ControlError::Gone)));
}

#[tokio::test]
async fn a_socket_left_by_a_killed_agent_is_nobody_and_is_replaced() {
    let setup = Setup::new();
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join(".uspark")).unwrap();
    let left = root.path().join(".uspark/agent.sock");
    drop(std::os::unix::net::UnixListener::bind(&left).unwrap());
    assert!(left.exists());
    assert!(connect(root.path()).await.is_none());
    let _server = ControlServer::start(root.path(), setup.agent.clone()).unwrap();
    assert!(connect(root.path()).await.is_some());
}

#[tokio::test]
async fn an_agent_that_is_starting_is_waited_for() {
    let setup = Setup::new();
    let root = tempfile::tempdir().unwrap();
    let state = StateDir::open(&Root::open(root.path()).unwrap()).unwrap();
    for lock in [None, Some(state.lock().unwrap())] {
        let mut soon = std::pin::pin!(ControlClient::connect_soon(root.path(), FOR_EVER));
        assert!(futures_util::poll!(&mut soon).is_pending());
        let _server = ControlServer::start(root.path(), setup.agent.clone()).unwrap();
        assert!(soon.await.unwrap().is_some());
        drop(lock);
    }
}

#[tokio::test]
async fn a_command_that_answers_nobody_is_waited_for_no_longer_than_asked() {
    let root = tempfile::tempdir().unwrap();
    let state = StateDir::open(&Root::open(root.path()).unwrap()).unwrap();
    let _lock = state.lock().unwrap();
    for patience in [Duration::ZERO, Duration::from_millis(100)] {
        let began = std::time::Instant::now();
        let found = ControlClient::connect_soon(root.path(), patience).await;
        assert!(found.unwrap().is_none() && began.elapsed() >= patience);
    }
}

#[tokio::test]
async fn a_workspace_with_a_long_path_has_its_socket_too() {
    let setup = Setup::new();
    let root = setup.root.path().join("d".repeat(200));
    std::fs::create_dir_all(root.join(".uspark")).unwrap();
    let _server = ControlServer::start(&root, setup.agent.clone()).unwrap();
    let mut client = connect(&root).await.unwrap();
    assert_eq!(client.status().await.unwrap().pid, 7);
}

#[tokio::test]
async fn what_is_no_request_is_refused_and_what_is_too_long_is_left() {
    let setup = Setup::new();
    let stream = UnixStream::connect(setup.socket()).await.unwrap();
    let mut peer = BufReader::new(stream);
    for odd in [
        Value::Null,
        serde_json::json!({"ask": "fly"}),
        serde_json::json!([1]),
    ] {
        socket::write_line(&mut peer, &odd).await.unwrap();
        let reply = socket::read_line(&mut peer, 10_000).await.unwrap().unwrap();
        assert!(
            reply.starts_with(b"{\"refused\":"),
            "{}",
            String::from_utf8_lossy(&reply)
        );
    }
    // The agent may have left before all of this is written.
    let _ = socket::write_line(&mut peer, &"x".repeat(5_000_000)).await;
    let left = socket::read_line(&mut peer, 10_000).await;
    assert!(!matches!(left, Ok(Some(_))), "{left:?}");
    assert_eq!(setup.client().await.status().await.unwrap().pid, 7);
}

#[tokio::test]
async fn where_there_is_no_workspace_there_is_no_agent() {
    let root = tempfile::tempdir().unwrap();
    assert!(connect(root.path()).await.is_none());
}
