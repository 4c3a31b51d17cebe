//! Whole sessions against a server in memory.

#![allow(
    clippy::disallowed_methods,
    reason = "what is on disk is looked at, and changed, from outside"
)]

mod basics;
mod conflicts;
mod double;
mod mass_delete;
mod resilience;
mod restored;
mod soak;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::*;
use crate::config::Authorities;
use crate::watch::Notifier;
use double::Double;

/// What a barrier may take.
const SOON: Duration = Duration::from_secs(10);

/// A workspace.
struct Place {
    dir: tempfile::TempDir,
    notes: Arc<Mutex<Vec<Progress>>>,
}

/// A workspace with a session on it.
struct Agent {
    session: Session,
    handle: SessionHandle,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            dir,
            notes: Arc::default(),
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn config(&self, direction: Direction) -> SyncConfig {
        SyncConfig {
            server: "http://127.0.0.1:1".parse().unwrap(),
            token: "t".parse().unwrap(),
            authorities: Authorities::default(),
            project: "p".parse().unwrap(),
            root: self.dir.path().to_owned(),
            direction,
            paths: Vec::new(),
            mass_delete: MassDelete::Held,
            run: None,
            who: "me".into(),
            limits: Limits {
                retry: (Duration::from_millis(20), Duration::from_millis(200)),
                ..Limits::default()
            },
        }
    }

    /// Takes what a session tells.
    fn sink(&self) -> ProgressSink {
        let notes = Arc::clone(&self.notes);
        Arc::new(move |progress| notes.lock().unwrap().push(progress))
    }

    async fn try_start(&self, server: &Double, config: SyncConfig) -> Result<Agent, EngineError> {
        let server = Arc::new(server.clone());
        let session = Session::start_with(config, self.sink(), server).await?;
        Ok(Agent::on(session))
    }

    async fn start(&self, server: &Double, direction: Direction) -> Agent {
        self.try_start(server, self.config(direction))
            .await
            .unwrap()
    }

    /// Watches until the first barrier.
    async fn watch(&self, server: &Double) -> Agent {
        let agent = self.start(server, Direction::Both).await;
        agent.equal().await;
        agent
    }

    /// The same, with any source of the kernel's events.
    async fn watch_with(&self, server: &Double, notifier: Box<dyn Notifier>) -> Agent {
        let config = self.config(Direction::Both);
        let server = Arc::new(server.clone());
        let session = Session::start_on(config, self.sink(), server, notifier).await;
        let agent = Agent::on(session.unwrap());
        agent.equal().await;
        agent
    }

    async fn once(&self, server: &Double, direction: Direction) -> Report {
        let agent = self.start(server, direction).await;
        agent.session.finish(Duration::from_secs(10)).await.unwrap()
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.at(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// How many notes have this in them.
    fn notes_with(&self, word: &str) -> usize {
        let notes = self.notes.lock().unwrap();
        let with = |note: &&Progress| matches!(note, Progress::Note(note) if note.contains(word));
        notes.iter().filter(with).count()
    }

    /// The tree in the double's terms.
    fn tree(&self) -> BTreeMap<String, String> {
        let mut tree = BTreeMap::new();
        walk(self.dir.path(), "", &mut tree);
        tree
    }

    fn sh(&self, script: &str) {
        let mut command = std::process::Command::new("sh");
        let status = command
            .arg("-ec")
            .arg(script)
            .current_dir(self.dir.path())
            .status();
        assert!(status.unwrap().success(), "{script}");
    }
}

impl Agent {
    fn on(session: Session) -> Self {
        let handle = session.handle();
        Self { session, handle }
    }

    async fn barrier(&self) -> Report {
        self.handle.barrier(Instant::now() + SOON).await
    }

    /// A barrier that must pass.
    async fn equal(&self) -> Report {
        self.equal_within(SOON).await
    }

    /// A barrier that must pass, for more than a moment's work.
    async fn equal_within(&self, time: Duration) -> Report {
        let report = self.handle.barrier(Instant::now() + time).await;
        assert!(report.is_equal(), "{report:#?}");
        report
    }

    async fn finish(self) {
        let report = self.session.finish(Duration::from_secs(10)).await.unwrap();
        assert!(report.is_done(), "{report:#?}");
    }

    /// Ends as kill -9 does, as far as a task can: nothing is said or written any more.
    async fn kill(self) {
        drop(self.session);
        // The loop ends before the lock is free for the next session.
        eventually("the session to end", || self.handle.is_over()).await;
    }
}

fn walk(dir: &Path, prefix: &str, tree: &mut BTreeMap<String, String>) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if prefix.is_empty() && name == ".uspark" {
            continue;
        }
        count += 1;
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().unwrap();
        if kind.is_symlink() {
            let target = std::fs::read_link(entry.path()).unwrap();
            tree.insert(path, format!("-> {}", target.display()));
        } else if kind.is_dir() {
            if walk(&entry.path(), &format!("{path}/"), tree) == 0 {
                tree.insert(path, "directory".into());
            }
        } else {
            let bytes = std::fs::read(entry.path()).unwrap();
            let content = match uspark_shared::text::as_text(&bytes) {
                Some(text) => text.to_owned(),
                None => format!("blob {}", uspark_shared::id::BlobHash::of(&bytes)),
            };
            tree.insert(path, content);
        }
    }
    count
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
