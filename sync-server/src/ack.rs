//! Acknowledgements that tell the truth: one is given when every part of a change is durable.
//!
//! Invariant: an [`Ack`] that is dropped without [`Ack::done`] (a failed commit, a task that went
//! away) answers that the change failed. Silence is never taken for success.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use uspark_shared::id::ProjectId;

use crate::store::CommitError;

/// One part of a promise to answer. Cloning makes another part; all must be done.
pub struct Ack {
    promise: Arc<Promise>,
    done: bool,
}

struct Promise {
    failed: AtomicBool,
    answer: Option<Box<dyn FnOnce(bool) + Send + Sync>>,
}

/// The order in which commits are awaited and acknowledged: that of their submission.
#[derive(Clone)]
pub struct AckQueue {
    /// Unbounded: what waits here has a place in the committer's queue, which is bounded.
    queue: mpsc::UnboundedSender<Waiting>,
}

/// A commit under way, or nothing but the commits before it.
type Commit = std::pin::Pin<Box<dyn Future<Output = Result<(), CommitError>> + Send>>;

struct Waiting {
    commit: Option<Commit>,
    ack: Ack,
}

impl Ack {
    /// A promise to call `answer` once, with whether everything is durable.
    pub fn new(answer: impl FnOnce(bool) + Send + Sync + 'static) -> Self {
        let promise = Promise {
            failed: AtomicBool::new(false),
            answer: Some(Box::new(answer)),
        };
        Self {
            promise: Arc::new(promise),
            done: false,
        }
    }

    /// A promise to nobody.
    pub fn nobody() -> Self {
        Self::new(|_| {})
    }

    /// This part is durable.
    pub fn done(mut self) {
        self.done = true;
    }
}

impl Clone for Ack {
    fn clone(&self) -> Self {
        Self {
            promise: Arc::clone(&self.promise),
            done: false,
        }
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        if !self.done {
            self.promise.failed.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if let Some(answer) = self.answer.take() {
            answer(!*self.failed.get_mut());
        }
    }
}

impl AckQueue {
    /// Starts awaiting commits; `failed` is called once, for the first that fails.
    pub fn start(
        project: ProjectId,
        tasks: &TaskTracker,
        failed: impl FnOnce(CommitError) + Send + 'static,
    ) -> Self {
        let (queue, mut waiting) = mpsc::unbounded_channel::<Waiting>();
        tasks.spawn(async move {
            let mut failed = Some(failed);
            while let Some(Waiting { commit, ack }) = waiting.recv().await {
                let result = match commit {
                    Some(commit) => commit.await,
                    None => Ok(()),
                };
                match result {
                    // After a failure nothing is acknowledged any more: the owner loads again.
                    Ok(()) if failed.is_some() => ack.done(),
                    Ok(()) => {}
                    Err(error) => {
                        if let Some(failed) = failed.take() {
                            tracing::error!(%project, %error, "an update could not be stored");
                            failed(error);
                        }
                    }
                }
            }
        });
        Self { queue }
    }

    /// Acknowledges when `commit` and everything before it is durable.
    pub fn after(
        &self,
        commit: impl Future<Output = Result<(), CommitError>> + Send + 'static,
        ack: Ack,
    ) {
        // If the task is gone, dropping the ack answers "failed".
        let _ = self.queue.send(Waiting {
            commit: Some(Box::pin(commit)),
            ack,
        });
    }

    /// Acknowledges when everything before is durable.
    pub fn after_all(&self, ack: Ack) {
        let _ = self.queue.send(Waiting { commit: None, ack });
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn ack() -> (Ack, oneshot::Receiver<bool>) {
        let (sender, receiver) = oneshot::channel();
        (
            Ack::new(move |ok| {
                let _ = sender.send(ok);
            }),
            receiver,
        )
    }

    #[tokio::test]
    async fn an_ack_needs_every_part() {
        let (whole, answer) = ack();
        whole.clone().done();
        whole.done();
        assert_eq!(answer.await, Ok(true));
        let (whole, answer) = ack();
        drop(whole.clone());
        whole.done();
        assert_eq!(answer.await, Ok(false));
    }

    #[tokio::test]
    async fn nothing_is_acknowledged_after_a_failure() {
        let (told, failed) = oneshot::channel();
        let queue = AckQueue::start("p".parse().unwrap(), &TaskTracker::new(), move |error| {
            drop(told.send(error));
        });
        let (first, a) = ack();
        let (second, b) = ack();
        let (third, c) = ack();
        queue.after(async { Ok(()) }, first);
        queue.after(async { Err(CommitError::Closed) }, second);
        queue.after_all(third);
        assert_eq!(
            (a.await, b.await, c.await),
            (Ok(true), Ok(false), Ok(false))
        );
        assert_eq!(failed.await, Ok(CommitError::Closed));
    }
}
