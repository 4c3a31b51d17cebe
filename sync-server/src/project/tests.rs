//! The owner as its callers see it: people at documents, requests by path, and a store that can be
//! held, failed and taken over by the next process.

mod conflicts;
mod events;
mod original;
mod random;
mod restored;
mod texts;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::task::TaskTracker;
use uspark_shared::diff::diff;
use uspark_shared::id::{BlobHash, DocId, ProjectId};
use uspark_shared::path::FilePath;
use uspark_shared::replica::{ClientId, ProjectEdit, ProjectReplica, TextReplica};
use uspark_shared::schema::Entry;

use super::{
    Attribution, BlobFacts, Command, FileView, Manifest, Patched, ProjectDeps, ProjectHandle,
    Projects, PutBase, Seat, SeatAck, SeatMessage, Timing,
};
use crate::blobs::{BlobLimits, Blobs};
use crate::refusal::Refusal;
use crate::store::testing::TestStore;
use crate::store::{BlobFiles, Committer, DataDirectory, MemoryStore, ProjectRecord, Store, Write};
use crate::subscriber::{Next, Outbox, Outgoing, SeatId};

/// A server without sockets. Dropping it is a kill -9: nothing is settled or said.
struct Server {
    store: TestStore,
    inner: Arc<dyn Store>,
    projects: Projects,
    blobs: Blobs,
    project: ProjectId,
    directory: Arc<tempfile::TempDir>,
}

/// Short waits; settling happens when it is asked for.
fn timing() -> Timing {
    Timing {
        settle_idle: Duration::from_secs(3600),
        settle_latest: Duration::from_secs(3600),
        unknown_document: Duration::from_millis(50),
        unload_text: Duration::from_secs(3600),
        unload_project: Duration::from_secs(3600),
        stalled: Duration::from_secs(30),
    }
}

impl Server {
    async fn new() -> Self {
        let server = Self::over(
            Arc::new(MemoryStore::new("e")),
            Arc::new(tempfile::tempdir().unwrap()),
            timing(),
        );
        let record = ProjectRecord {
            id: server.project.clone(),
            name: None,
            created_at: 1,
        };
        Committer::start(Arc::clone(&server.inner))
            .commit(vec![Write::CreateProject(record)])
            .await
            .unwrap();
        server
    }

    fn over(inner: Arc<dyn Store>, directory: Arc<tempfile::TempDir>, timing: Timing) -> Self {
        let store = TestStore::new(Arc::clone(&inner));
        let shared: Arc<dyn Store> = Arc::new(store.clone());
        let committer = Committer::start(Arc::clone(&shared));
        // A directory of its own for each start: small blobs are in the store.
        let place = tempfile::tempdir_in(directory.path()).unwrap().keep();
        let large = BlobFiles::open(&DataDirectory::open(&place).unwrap()).unwrap();
        let blobs = Blobs::new(
            Arc::clone(&shared),
            committer.clone(),
            Arc::new(large),
            BlobLimits::default(),
            || 1_000,
        );
        let projects = Projects::new(ProjectDeps {
            store: shared,
            committer,
            blobs: blobs.clone(),
            facts: BlobFacts::new(blobs.clone()),
            clock: || 1_000,
            timing,
            kept_events: 1_000,
            versions_kept: u64::MAX,
            tasks: TaskTracker::new(),
            metrics: Arc::default(),
        });
        Self {
            store,
            inner,
            projects,
            blobs,
            project: "p".parse().unwrap(),
            directory,
        }
    }

    /// The next process, on what this one made durable.
    fn restart(self) -> Self {
        Self::over(self.inner, self.directory, timing())
    }

    async fn blob(&self, content: &str) -> BlobHash {
        let stored = self
            .blobs
            .put(&self.project, Bytes::copy_from_slice(content.as_bytes()))
            .await
            .unwrap();
        self.projects
            .tell(&self.project, Command::BlobArrived(stored.hash))
            .await;
        stored.hash
    }

    /// A text file with its document.
    async fn text_file(&self, at: &str, id: &str, content: &str) {
        let entry = text(id, self.blob(content).await);
        let author = ProjectReplica::new(client());
        author.apply(&self.state().await).unwrap();
        self.patch(author.edit(&[set(at, entry)]).unwrap())
            .await
            .unwrap();
    }

    async fn state(&self) -> Bytes {
        self.projects
            .ask(&self.project, |reply| Command::State { since: None, reply })
            .await
            .unwrap()
            .0
    }

    async fn version(&self) -> u64 {
        self.projects
            .ask(&self.project, |reply| Command::State { since: None, reply })
            .await
            .unwrap()
            .1
    }

    async fn replica(&self) -> ProjectReplica {
        let replica = ProjectReplica::new(client());
        replica.apply(&self.state().await).unwrap();
        replica
    }

    async fn patch(&self, update: Vec<u8>) -> Result<Patched, Refusal> {
        self.patch_from(update, PutBase::Nearest, "ann").await
    }

    async fn patch_from(
        &self,
        update: Vec<u8>,
        base: PutBase,
        name: &str,
    ) -> Result<Patched, Refusal> {
        let update = Bytes::from(update);
        let command = |reply| Command::Patch {
            update: update.clone(),
            base,
            who: who(name),
            reply,
        };
        self.projects.ask(&self.project, command).await
    }

    async fn put(&self, at: &str, content: &str, base: PutBase) -> Result<FileView, Refusal> {
        let hash = self.blob(content).await;
        let command = |reply| Command::Put {
            path: path(at),
            hash,
            base,
            mode: None,
            who: who("ann"),
            reply,
        };
        self.projects.ask(&self.project, command).await
    }

    async fn manifest(&self) -> Manifest {
        self.projects
            .ask(&self.project, Command::Manifest)
            .await
            .unwrap()
    }

    /// Every path with its content (links and directories: what they are), settled.
    async fn files(&self) -> HashMap<String, String> {
        let mut files = HashMap::new();
        for (at, file) in self.manifest().await.files {
            let content = match (&file.hash, &file.link) {
                (Some(hash), _) => {
                    let blob = self
                        .blobs
                        .open(Some(&self.project), hash)
                        .await
                        .unwrap()
                        .unwrap();
                    String::from_utf8_lossy(&blob.read_all().await.unwrap()).into_owned()
                }
                (None, Some(link)) => format!("-> {link}"),
                (None, None) => "/".into(),
            };
            files.insert(at.to_string(), content);
        }
        files
    }

    async fn person(&self, document: Option<&str>) -> Person {
        self.try_person(document, true).await.unwrap()
    }

    async fn try_person(&self, document: Option<&str>, may_write: bool) -> Result<Person, Refusal> {
        let mut person = self.sit(document, may_write).await?;
        person.ask().await;
        Ok(person)
    }

    /// Somebody who took a seat and has said nothing yet.
    async fn sit(&self, document: Option<&str>, may_write: bool) -> Result<Person, Refusal> {
        let outbox = Outbox::new(1 << 20);
        let address: Arc<str> = "address".into();
        let seat = Seat {
            id: SeatId::fresh(),
            address,
            outbox: outbox.clone(),
            ack: SeatAck::Status,
            may_write,
            who: who("pat"),
        };
        let id = seat.id;
        let document = document.map(|id| id.parse::<DocId>().unwrap());
        let handle = self.projects.join(&self.project, document, seat).await?;
        Ok(Person {
            id,
            outbox,
            handle,
            text: TextReplica::new(client()),
            saved: 0,
            told: Vec::new(),
        })
    }
}

/// Somebody at a document, with a replica of their own.
struct Person {
    id: SeatId,
    outbox: Outbox,
    handle: ProjectHandle,
    text: TextReplica,
    /// Updates that were acknowledged.
    saved: usize,
    /// What else came, in order.
    told: Vec<String>,
}

impl Person {
    async fn say(&self, message: SeatMessage) {
        assert!(
            self.handle.message(self.id, message).await,
            "the project is in memory"
        );
    }

    /// Asks for what they lack, and waits until they have it, or are refused.
    async fn ask(&mut self) {
        let since = self.text.state_vector();
        self.say(SeatMessage::Step1(since.into())).await;
        self.until(|person| {
            let is_answer = |told: &String| told == "step2" || told.starts_with("refused");
            person.told.iter().any(is_answer)
        })
        .await;
    }

    /// Makes the text this, by the smallest edit.
    async fn write(&mut self, new: &str) {
        let update = self.text.edit(&diff(&self.text.text(), new)).unwrap();
        self.say(SeatMessage::Update(update.into())).await;
    }

    /// Takes what comes until something holds.
    async fn until(&mut self, holds: impl Fn(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while !holds(self) {
            let next = tokio::time::timeout_at(deadline, self.outbox.next()).await;
            match next.unwrap_or_else(|_| panic!("never came; told {:?}", self.told)) {
                Some(Next::Send(_, outgoing)) => self.take(outgoing).await,
                other => panic!("{other:?}"),
            }
        }
    }

    async fn take(&mut self, outgoing: Outgoing) {
        match outgoing {
            Outgoing::Step1(since) => {
                let update = self.text.diff(&since).unwrap();
                self.told.push("step1".into());
                if update != uspark_shared::replica::EMPTY_UPDATE {
                    self.say(SeatMessage::Update(update.into())).await;
                }
            }
            Outgoing::Step2(update) => {
                self.text.apply(&update).unwrap();
                self.told.push("step2".into());
            }
            Outgoing::Broadcast(broadcast) => {
                if let Some(update) = broadcast.update() {
                    self.text.apply(update).unwrap();
                    self.told.push("update".into());
                }
            }
            Outgoing::Status(true) => self.saved += 1,
            Outgoing::Status(false) => self.told.push("rejected".into()),
            Outgoing::Stateless(text) => self.told.push(text),
            Outgoing::Refused(_, refusal) => {
                self.told.push(format!("refused {}", refusal.close_code()))
            }
            Outgoing::End(refusal) => self.told.push(format!("ended {}", refusal.close_code())),
            Outgoing::Authenticated { .. } | Outgoing::Pong => {}
        }
    }

    async fn sees(&mut self, text: &str) {
        self.until(|person| person.text.text() == text).await;
    }

    async fn is_saved(&mut self, times: usize) {
        self.until(|person| person.saved >= times).await;
    }

    async fn is_told(&mut self, what: &str) {
        self.until(|person| person.told.iter().any(|told| told.contains(what)))
            .await;
    }
}

fn client() -> ClientId {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).unwrap();
    ClientId::from_random(bytes)
}

fn who(name: &str) -> Attribution {
    Attribution {
        token: Some("abcdefghijkl".parse().unwrap()),
        name: name.into(),
        by: None,
    }
}

fn path(at: &str) -> FilePath {
    at.parse().unwrap()
}

fn text(id: &str, seed: BlobHash) -> Entry {
    Entry::Text {
        doc: id.parse().unwrap(),
        seed,
        mode: 0o644,
        mtime: 7,
    }
}

fn set(at: &str, entry: Entry) -> ProjectEdit {
    ProjectEdit::SetFile(path(at), entry)
}
