//! Which projects are in memory. Loading is single-flight; the owner decides when to go.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::{OnceCell, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uspark_shared::id::{DocId, ProjectId};

use super::command::{Command, Reply, Seat, SeatMessage};
use super::facts::BlobFacts;
use super::owner::Owner;
use crate::blobs::Blobs;
use crate::metrics::Metrics;
use crate::refusal::Refusal;
use crate::store::{Committer, Store};
use crate::subscriber::SeatId;

/// Commands that may wait for one owner. More make their senders wait, and with them the sockets.
const COMMANDS: usize = 256;
/// How often a request is sent again to a project that was just leaving memory.
const ATTEMPTS: usize = 5;

/// What every owner works with.
#[derive(Clone)]
pub struct ProjectDeps {
    /// Documents, texts, projects.
    pub store: Arc<dyn Store>,
    /// All writes.
    pub committer: Committer,
    /// Contents.
    pub blobs: Blobs,
    /// What is known of contents.
    pub facts: BlobFacts,
    /// Milliseconds since 1970.
    pub clock: fn() -> u64,
    /// How long things wait.
    pub timing: Timing,
    /// Events of a project that are kept.
    pub kept_events: u64,
    /// Every settled version is kept for so many milliseconds.
    pub versions_kept: u64,
    /// Every task of the server.
    pub tasks: TaskTracker,
    /// What is measured.
    pub metrics: Arc<Metrics>,
}

/// How long things wait; tests make it short.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// A text settles when nobody edited it for so long.
    pub settle_idle: Duration,
    /// And at the latest so long after the first edit.
    pub settle_latest: Duration,
    /// How long a socket may be ahead of the entry that names its document.
    pub unknown_document: Duration,
    /// A text nobody has open leaves memory after so long.
    pub unload_text: Duration,
    /// So does a project.
    pub unload_project: Duration,
    /// A connection that takes no byte of what is to be sent for so long is cut off.
    pub stalled: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            settle_idle: Duration::from_secs(2),
            settle_latest: Duration::from_secs(10),
            unknown_document: Duration::from_secs(2),
            unload_text: Duration::from_secs(10),
            unload_project: Duration::from_secs(30),
            // As long as for one write on a socket.
            stalled: Duration::from_secs(30),
        }
    }
}

/// All projects. Cheap to clone.
#[derive(Clone)]
pub struct Projects {
    live: Arc<DashMap<ProjectId, Arc<OnceCell<ProjectHandle>>>>,
    deps: ProjectDeps,
}

/// A project in memory. Cheap to clone.
#[derive(Clone)]
pub struct ProjectHandle {
    commands: mpsc::Sender<Command>,
    gone: CancellationToken,
}

impl Projects {
    /// No project is in memory yet.
    pub fn new(deps: ProjectDeps) -> Self {
        Self {
            live: Arc::default(),
            deps,
        }
    }

    /// Asks the owner of a project, which is loaded if it is not in memory.
    ///
    /// `command` may be called again if the project was just leaving.
    pub async fn ask<T>(
        &self,
        project: &ProjectId,
        command: impl Fn(Reply<T>) -> Command,
    ) -> Result<T, Refusal> {
        for _ in 0..ATTEMPTS {
            let handle = self.get(project).await?;
            let (reply, answer) = oneshot::channel();
            if handle.commands.send(command(reply)).await.is_ok()
                && let Ok(answer) = answer.await
            {
                return answer;
            }
        }
        Err(Refusal::Unavailable(
            "the project is being loaded again".into(),
        ))
    }

    /// Takes a seat at a project's document or at one of its texts, and gives the handle that its
    /// messages go to.
    ///
    /// What the client is owed (state vector, answers, updates) comes through the seat's outbox.
    pub async fn join(
        &self,
        project: &ProjectId,
        document: Option<DocId>,
        seat: Seat,
    ) -> Result<ProjectHandle, Refusal> {
        for _ in 0..ATTEMPTS {
            let handle = self.get(project).await?;
            let (reply, answer) = oneshot::channel();
            let join = Command::Join {
                seat: seat.clone(),
                document: document.clone(),
                reply,
            };
            if handle.commands.send(join).await.is_ok()
                && let Ok(answer) = answer.await
            {
                return answer.map(|()| handle);
            }
        }
        Err(Refusal::Unavailable(
            "the project is being loaded again".into(),
        ))
    }

    /// Tells the owner something, if the project is in memory; else there is nobody to tell.
    pub async fn tell(&self, project: &ProjectId, command: Command) {
        let live = self.live.get(project).and_then(|slot| slot.get().cloned());
        if let Some(handle) = live {
            // Whoever is leaving memory learns it from the store when it comes back.
            let _ = handle.commands.send(command).await;
        }
    }

    /// How many projects are in memory.
    pub fn count(&self) -> usize {
        self.live.len()
    }

    /// Settles and stores everything. New requests load projects again, so stop serving first.
    pub async fn close(&self) {
        let handles: Vec<_> = self
            .live
            .iter()
            .filter_map(|slot| slot.get().cloned())
            .collect();
        // All are told before any is waited for: their last writes share commits.
        let mut closing = Vec::new();
        for handle in handles {
            let (done, closed) = oneshot::channel();
            if handle.commands.send(Command::Close(done)).await.is_ok() {
                closing.push(closed);
            }
        }
        for closed in closing {
            // Dropped where its commits failed: that was told.
            let _ = closed.await;
        }
    }

    async fn get(&self, project: &ProjectId) -> Result<ProjectHandle, Refusal> {
        loop {
            let slot = Arc::clone(&self.live.entry(project.clone()).or_default());
            let handle = slot.get_or_try_init(|| self.load(project)).await;
            let is_over = match &handle {
                Ok(handle) if !handle.commands.is_closed() => return Ok((*handle).clone()),
                // Its last writes must be in before anyone loads it again.
                Ok(handle) => {
                    handle.gone.cancelled().await;
                    true
                }
                Err(_) => !slot.initialized(),
            };
            if is_over {
                self.live
                    .remove_if(project, |_, live| Arc::ptr_eq(live, &slot));
            }
            handle?;
        }
    }

    async fn load(&self, project: &ProjectId) -> Result<ProjectHandle, Refusal> {
        let (commands, queue) = mpsc::channel(COMMANDS);
        let owner = Owner::load(project.clone(), self.deps.clone(), commands.downgrade()).await?;
        let gone = CancellationToken::new();
        let (live, project, leaves) = (Arc::clone(&self.live), project.clone(), gone.clone());
        self.deps.tasks.spawn(async move {
            // Also when the owner panics: nobody may wait for ever.
            let _gone = leaves.drop_guard();
            owner.run(queue).await;
            let is_this = |_: &ProjectId, slot: &Arc<OnceCell<ProjectHandle>>| {
                slot.get().is_some_and(|handle| handle.commands.is_closed())
            };
            live.remove_if(&project, is_this);
        });
        Ok(ProjectHandle { commands, gone })
    }
}

impl ProjectHandle {
    /// Sends a seat's message; waits while the owner is busy. `false`: the project left memory,
    /// the socket should close so that its client comes back.
    pub async fn message(&self, seat: SeatId, message: SeatMessage) -> bool {
        self.commands
            .send(Command::Message(seat, message))
            .await
            .is_ok()
    }

    /// Leaves a seat.
    pub async fn leave(&self, seat: SeatId) {
        // If the owner is gone, so is the seat.
        let _ = self.commands.send(Command::Leave(seat)).await;
    }
}
