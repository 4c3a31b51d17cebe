//! A server in this process, and raw clients: what the tests of both sockets use.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt as _;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Message, protocol::CloseFrame};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uspark_shared::id::{DocId, ProjectId};
use uspark_shared::replica::{ClientId, ProjectEdit, ProjectReplica, TextReplica};
use uspark_shared::schema::Entry;

use crate::access::{Access, NewToken, Token, TokenId, TokenScope, Tokens, Usage};
use crate::blobs::{BlobLimits, Blobs};
use crate::config::{Limits, Retention, system_clock};
use crate::metrics::Metrics;
use crate::project::{Attribution, BlobFacts, Command, ProjectDeps, Projects, PutBase, Timing};
use crate::server::AppState;
use crate::store::testing::TestStore;
use crate::store::{BlobFiles, Committer, DataDirectory, MemoryStore, ProjectRecord, Store, Write};

/// The longest that anything may take: more than the 20 s after which a socket says something.
const DEADLINE: Duration = Duration::from_secs(30);
/// Largest update that these servers take.
pub const MAX_UPDATE: usize = 256 << 10;

/// A server with the project `p`, which is empty, and a store that can be held and failed.
pub struct TestServer {
    pub state: AppState,
    pub store: TestStore,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

/// A client that sends and gets what its test says, and nothing by itself.
pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub response: Response,
}

/// What a client got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Got {
    Frame(Bytes),
    Closed(u16, String),
    /// Without a close frame.
    Cut,
}

impl TestServer {
    pub async fn start() -> Self {
        Self::with_timing(brief()).await
    }

    pub async fn with_timing(timing: Timing) -> Self {
        Self::with_routes(timing, |_| Router::new()).await
    }

    /// With more than what a server serves.
    pub async fn with_routes(timing: Timing, more: impl FnOnce(&AppState) -> Router) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDirectory::open(directory.path()).unwrap();
        let store = TestStore::new(Arc::new(MemoryStore::new("epoch")));
        let shared: Arc<dyn Store> = Arc::new(store.clone());
        let metrics = Arc::<Metrics>::default();
        let committer = Committer::measured(Arc::clone(&shared), Arc::clone(&metrics));
        let large = Arc::new(BlobFiles::open(&data).unwrap());
        let limits = BlobLimits::default();
        let (of, by) = (Arc::clone(&shared), committer.clone());
        let blobs = Blobs::new(of, by, large, limits, system_clock);
        let tasks = TaskTracker::new();
        let projects = Projects::new(ProjectDeps {
            store: Arc::clone(&shared),
            committer: committer.clone(),
            facts: BlobFacts::new(blobs.clone()),
            blobs: blobs.clone(),
            clock: system_clock,
            timing,
            kept_events: 1_000,
            versions_kept: u64::MAX,
            tasks: tasks.clone(),
            metrics: Arc::clone(&metrics),
        });
        let state = AppState {
            projects,
            tokens: Tokens::new(Arc::clone(&shared), committer.clone()),
            usage: Usage::new(Limits::default().of_token()),
            blobs,
            store: shared,
            committer,
            metrics,
            limits: Limits {
                max_update_bytes: MAX_UPDATE as u64,
                outbox_bytes: 64 << 10,
                ..Limits::default()
            },
            retention: Retention::default(),
            clock: system_clock,
            tasks,
            stopping: CancellationToken::new(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = crate::http::router(state.clone()).merge(more(&state));
        // As the server does: with a clock that jumps, a segment held back comes too late.
        let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let server = Self {
            state,
            store,
            address,
            _directory: directory,
        };
        server.project("p").await;
        server
    }

    pub async fn project(&self, id: &str) {
        let record = ProjectRecord {
            id: id.parse().unwrap(),
            name: None,
            created_at: 1,
        };
        let write = vec![Write::CreateProject(record)];
        self.state.committer.commit(write).await.unwrap();
    }

    /// A text file of project `p`, and its document.
    pub async fn text(&self, path: &str, content: &str) -> DocId {
        let project: ProjectId = "p".parse().unwrap();
        let content = Bytes::copy_from_slice(content.as_bytes());
        let hash = self.state.blobs.put(&project, content).await.unwrap().hash;
        let command = |reply| Command::Put {
            path: path.parse().unwrap(),
            hash,
            base: PutBase::Nothing,
            mode: None,
            who: Attribution::server(),
            reply,
        };
        let view = self.state.projects.ask(&project, command).await.unwrap();
        view.file.doc.unwrap()
    }

    /// A text file of project `p` whose document somebody named already.
    pub async fn text_of(&self, path: &str, doc: &str, content: &str) {
        let project: ProjectId = "p".parse().unwrap();
        let bytes = Bytes::copy_from_slice(content.as_bytes());
        let seed = self.state.blobs.put(&project, bytes).await.unwrap().hash;
        let doc = doc.parse().unwrap();
        let entry = Entry::Text {
            doc,
            seed,
            mode: 0o644,
            mtime: 1,
        };
        let author = ProjectReplica::new(ClientId::from_random([9, 9, 9, 9]));
        let edit = ProjectEdit::SetFile(path.parse().unwrap(), entry);
        let update = Bytes::from(author.edit(&[edit]).unwrap());
        let command = |reply| Command::Patch {
            update: update.clone(),
            base: PutBase::Nearest,
            who: Attribution::server(),
            reply,
        };
        self.state.projects.ask(&project, command).await.unwrap();
    }

    /// A token for project `p`.
    pub async fn token(&self, access: Access) -> Token {
        self.token_until("p", access, None).await
    }

    pub async fn token_until(&self, project: &str, access: Access, end: Option<u64>) -> Token {
        let new = NewToken {
            scope: TokenScope::Project(project.parse().unwrap()),
            access,
            expires_at: end,
            name: None,
        };
        let (_, token) = self
            .state
            .tokens
            .mint(new, "test", system_clock())
            .await
            .unwrap();
        token
    }

    pub async fn revoke(&self, id: &TokenId) {
        self.state
            .tokens
            .revoke(id, "test", system_clock())
            .await
            .unwrap();
    }

    /// A socket at a path with its query.
    pub async fn connect(&self, path: &str) -> Client {
        self.connect_with(path, &[]).await
    }

    pub async fn connect_with(&self, path: &str, headers: &[(&'static str, &str)]) -> Client {
        let url = format!("ws://{}{path}", self.address);
        let mut request = url.into_client_request().unwrap();
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).unwrap();
            request.headers_mut().insert(*name, value);
        }
        let (socket, response) = connect_async(request).await.unwrap();
        Client { socket, response }
    }

    /// Waits until as many tasks are left.
    pub async fn tasks_left(&self, tasks: usize) {
        eventually("tasks end", async || self.state.tasks.len() <= tasks).await;
    }
}

/// A test that fails must not wait for a store that it held.
impl Drop for TestServer {
    fn drop(&mut self) {
        self.store.release();
    }
}

impl Client {
    pub async fn send(&mut self, frame: impl Into<Bytes>) {
        self.socket
            .send(Message::Binary(frame.into()))
            .await
            .unwrap();
    }

    pub async fn send_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// Bytes past the framing.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        self.socket.get_mut().write_all(bytes).await.unwrap();
    }

    pub async fn close(&mut self) {
        self.socket.send(Message::Close(None)).await.unwrap();
    }

    /// The next thing but pings.
    pub async fn next(&mut self) -> Got {
        loop {
            let next = timeout(DEADLINE, self.socket.next()).await;
            return match next.expect("something comes") {
                Some(Ok(Message::Binary(frame))) => Got::Frame(frame),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Close(Some(CloseFrame { code, reason })))) => {
                    Got::Closed(code.into(), reason.to_string())
                }
                Some(Ok(Message::Close(None))) => Got::Closed(1005, String::new()),
                Some(Ok(other)) => panic!("{other:?}"),
                Some(Err(_)) | None => Got::Cut,
            };
        }
    }

    pub async fn frame(&mut self) -> Bytes {
        match self.next().await {
            Got::Frame(frame) => frame,
            other => panic!("{other:?}"),
        }
    }

    /// The close code, with what came before it.
    pub async fn closed(&mut self) -> (Vec<Bytes>, u16, String) {
        let mut frames = Vec::new();
        let closed = async {
            loop {
                match self.next().await {
                    Got::Frame(frame) => frames.push(frame),
                    Got::Closed(code, reason) => return Some((code, reason)),
                    Got::Cut => return None,
                }
            }
        };
        // Frames that only say that the socket is alive come for ever.
        match timeout(DEADLINE, closed).await {
            Ok(Some((code, reason))) => (frames, code, reason),
            end => panic!("no close frame ({end:?}) after {frames:?}"),
        }
    }
}

/// Nothing settles by itself, and nobody waits long for a document that does not come.
pub fn brief() -> Timing {
    Timing {
        settle_idle: Duration::from_secs(3600),
        settle_latest: Duration::from_secs(3600),
        unknown_document: Duration::from_millis(50),
        unload_text: Duration::from_secs(3600),
        unload_project: Duration::from_secs(3600),
        stalled: Duration::from_secs(30),
    }
}

/// Waits until a condition holds.
pub async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < DEADLINE, "never: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Somebody's text, to make updates with.
pub fn replica(client: u32) -> TextReplica {
    TextReplica::new(ClientId::from_random(client.to_le_bytes()))
}
