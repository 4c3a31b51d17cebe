//! The one way to write: many callers' groups, one durable transaction.
//!
//! Owns: the thread that writes, and the queue before it. When idle it commits at once; what
//! arrives meanwhile waits for the commit under way, and shares the next. Must not do: reorder,
//! split or retry for a caller what was refused.
//!
//! Invariants:
//! - Groups are applied in the order of the calls to [`Committer::submit`].
//! - A caller's answer comes after its group is durable, or says that it is not.
//! - Once submitted, a group is written even if nobody waits for the answer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{News, Outcome, Refused, Store, StoreError, Write};
use crate::metrics::Metrics;

/// Memory that queued groups may hold, in KiB: two of the largest updates that are accepted.
const QUEUE_KIB: usize = 128 << 10;

/// Groups in one transaction: a few milliseconds of work beside one sync.
const BATCH_GROUPS: usize = 1024;

/// Bytes in one transaction, unless one group alone is larger.
const BATCH_BYTES: usize = 8 << 20;

/// Why a group of writes is not durable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// This group was refused; the store is well.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The store failed. The group may still turn out to be there: load again.
    #[error(transparent)]
    Failed(Arc<StoreError>),
    /// The queue is full: the disk does not keep up. Nothing was queued.
    #[error("the disk does not keep up: too many writes wait for it")]
    Overloaded,
    /// The committer was closed first.
    #[error("the server is stopping")]
    Closed,
}

/// A handle to the thread that writes. Cheap to clone; the thread ends with the last one.
#[derive(Clone)]
pub struct Committer {
    commands: Sender<Command>,
    /// One permit for each KiB. When none is left, `submit` answers `Overloaded` and `commit`
    /// waits.
    room: Arc<Semaphore>,
    last_error: Arc<Mutex<Option<Arc<StoreError>>>>,
    news: News,
}

enum Command {
    Commit(Group),
    Close(oneshot::Sender<()>),
}

struct Group {
    writes: Vec<Write>,
    answer: oneshot::Sender<Result<(), CommitError>>,
    /// When it was submitted.
    since: Instant,
    /// Given back when the group is done, before its answer.
    room: OwnedSemaphorePermit,
}

impl Committer {
    /// Starts the thread.
    pub fn start(store: Arc<dyn Store>) -> Self {
        Self::measured(store, Arc::default())
    }

    /// Starts the thread; how long commits take, and how many fail, is counted.
    pub fn measured(store: Arc<dyn Store>, metrics: Arc<Metrics>) -> Self {
        let (commands, queue) = mpsc::channel();
        let (last_error, news) = (Arc::default(), News::default());
        let worker = Worker {
            store,
            queue,
            last_error: Arc::clone(&last_error),
            metrics,
            news: news.clone(),
        };
        std::thread::Builder::new()
            .name("committer".into())
            .spawn(|| worker.run())
            .expect("a process that just started can start one more thread");
        Self {
            commands,
            room: Arc::new(Semaphore::new(QUEUE_KIB)),
            last_error,
            news,
        }
    }

    /// Where to hear of events that have become durable.
    pub fn news(&self) -> &News {
        &self.news
    }

    /// Queues a group now, and answers when it is durable.
    ///
    /// The place in the queue is that of this call, not of the first poll. A full queue is
    /// answered with [`CommitError::Overloaded`], and nothing is queued.
    pub fn submit(
        &self,
        writes: Vec<Write>,
    ) -> impl Future<Output = Result<(), CommitError>> + Send + 'static + use<> {
        let room = Arc::clone(&self.room).try_acquire_many_owned(kib(&writes));
        let queued = match room {
            Ok(room) => self.queue(writes, room),
            Err(_) => Err(CommitError::Overloaded),
        };
        async move { queued?.await.unwrap_or(Err(CommitError::Closed)) }
    }

    /// Queues a group as soon as there is room, and answers when it is durable.
    pub async fn commit(&self, writes: Vec<Write>) -> Result<(), CommitError> {
        let room = Arc::clone(&self.room)
            .acquire_many_owned(kib(&writes))
            .await;
        let queued = self.queue(writes, room.map_err(|_| CommitError::Closed)?)?;
        queued.await.unwrap_or(Err(CommitError::Closed))
    }

    /// Writes all that was queued before, then ends. Later groups answer `Closed`.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        // If it is closed already, there is nothing left to wait for.
        if self.commands.send(Command::Close(done)).is_ok() {
            let _ = closed.await;
        }
    }

    /// Whether the last commit succeeded.
    pub fn is_healthy(&self) -> bool {
        self.last_error().is_none()
    }

    /// What the last commit failed with.
    pub fn last_error(&self) -> Option<Arc<StoreError>> {
        self.last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Tells whether the store can be written; after a failure, by trying it.
    pub async fn check(&self) -> Result<(), CommitError> {
        if self.is_healthy() {
            Ok(())
        } else {
            self.commit(Vec::new()).await
        }
    }

    fn queue(
        &self,
        writes: Vec<Write>,
        room: OwnedSemaphorePermit,
    ) -> Result<oneshot::Receiver<Result<(), CommitError>>, CommitError> {
        let (answer, answered) = oneshot::channel();
        let group = Group {
            writes,
            answer,
            since: Instant::now(),
            room,
        };
        let sent = self.commands.send(Command::Commit(group));
        sent.map(|()| answered).map_err(|_| CommitError::Closed)
    }
}

struct Worker {
    store: Arc<dyn Store>,
    queue: Receiver<Command>,
    last_error: Arc<Mutex<Option<Arc<StoreError>>>>,
    metrics: Arc<Metrics>,
    news: News,
}

impl Worker {
    fn run(self) {
        while let Ok(first) = self.queue.recv() {
            let (groups, close) = self.drain(first);
            self.commit(groups);
            if let Some(done) = close {
                // The store is let go of before anyone is told, and so can be opened again.
                drop(self);
                let _ = done.send(());
                return;
            }
        }
    }

    /// Takes `first` and what else is there, up to one batch or the order to close.
    fn drain(&self, first: Command) -> (Vec<Group>, Option<oneshot::Sender<()>>) {
        let (mut groups, mut bytes) = (Vec::new(), 0);
        let mut next = Some(first);
        while let Some(command) = next {
            match command {
                Command::Close(done) => return (groups, Some(done)),
                Command::Commit(group) => {
                    bytes += cost(&group.writes);
                    groups.push(group);
                }
            }
            let full = groups.len() >= BATCH_GROUPS || bytes >= BATCH_BYTES;
            next = if full {
                None
            } else {
                self.queue.try_recv().ok()
            };
        }
        (groups, None)
    }

    fn commit(&self, groups: Vec<Group>) {
        if groups.is_empty() {
            return;
        }
        let (batch, answers): (Vec<_>, Vec<_>) = groups
            .into_iter()
            .map(|group| (group.writes, (group.answer, group.since, group.room)))
            .unzip();
        let results: Vec<_> = match self.attempt(&batch) {
            // One group that does not fit must not fail the small ones beside it.
            Err(error) if batch.len() > 1 && matches!(*error, StoreError::Full { .. }) => {
                let alone = batch.chunks(1).map(|group| self.attempt(group));
                alone.flat_map(|result| each(1, result)).collect()
            }
            result => each(batch.len(), result),
        };
        let durable = batch.iter().zip(&results).filter(|(_, r)| r.is_ok());
        let events = durable.flat_map(|(group, _)| group.iter().filter_map(Write::events_of));
        events.for_each(|project| self.news.tell(project));
        drop(batch);
        for ((answer, since, room), result) in answers.into_iter().zip(results) {
            drop(room);
            if result.is_ok() {
                self.metrics.committed(since.elapsed().as_secs_f64());
            }
            // A caller that went away needs no answer.
            let _ = answer.send(result);
        }
    }

    fn attempt(&self, batch: &[Vec<Write>]) -> Result<Vec<Outcome>, Arc<StoreError>> {
        // A panic must not end the only thread that writes. The store takes back what it began.
        let result = catch_unwind(AssertUnwindSafe(|| self.store.commit(batch)));
        let result = result.unwrap_or_else(|_| {
            let detail = "the commit panicked".into();
            Err(StoreError::Failed {
                place: "the store".into(),
                detail,
            })
        });
        let result = result.map_err(Arc::new);
        if let Err(error) = &result {
            self.metrics.commit_failed();
            tracing::error!(
                groups = batch.len(),
                hint = error.hint(),
                "commit failed: {error}"
            );
        }
        let mut last = self
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *last = result.as_ref().err().cloned();
        result
    }
}

/// The result of a batch for each of its groups.
fn each(
    groups: usize,
    result: Result<Vec<Outcome>, Arc<StoreError>>,
) -> Vec<Result<(), CommitError>> {
    match result {
        Ok(outcomes) => outcomes
            .into_iter()
            .map(|o| o.map_err(CommitError::Refused))
            .collect(),
        Err(error) => vec![Err(CommitError::Failed(error)); groups],
    }
}

fn cost(writes: &[Write]) -> usize {
    writes.iter().map(Write::cost).sum()
}

/// What a group takes of the queue's room: at most all of it, so that any group gets in.
fn kib(writes: &[Write]) -> u32 {
    (cost(writes) / 1024 + 1).min(QUEUE_KIB) as u32
}

#[cfg(test)]
mod tests;
