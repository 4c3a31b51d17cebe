//! How much of the documents is in memory, and which of them goes when that is too much.
//!
//! Owns: the sum of what the documents of all projects cost, by estimate, and the order in which those that
//! nobody has open were last used. Must not do: drop one. It asks their owner, who stores what is not stored
//! and decides; a document that is used meanwhile stays.
//!
//! Invariant: a document is counted from its loading until it is dropped, in whichever way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc};
use uspark_shared::id::DocId;

use super::command::Command;
use crate::metrics::{HeldDocument, Metrics};

/// What all documents in memory may cost together. Cheap to clone.
#[derive(Clone)]
pub struct Cache {
    /// In bytes. Documents that somebody has open may cost more.
    limit: usize,
    state: Arc<Mutex<State>>,
    /// Something was dropped. One task waits for it.
    freed: Arc<Notify>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    /// Of all documents.
    bytes: usize,
    /// Of those that were asked to go.
    going: usize,
    /// Documents that may be asked to go, by when they were last used.
    idle: BTreeMap<u64, Idle>,
    /// The next moment.
    next: u64,
}

struct Idle {
    bytes: usize,
    document: Option<DocId>,
    owner: mpsc::WeakSender<Command>,
}

/// A document's place in the cache.
pub struct Cached {
    cache: Cache,
    owner: mpsc::WeakSender<Command>,
    /// `None` is the project's own.
    document: Option<DocId>,
    bytes: usize,
    /// When it was last used, unless somebody has it open.
    idle_since: Option<u64>,
    counted: HeldDocument,
}

impl Cache {
    /// A cache of so many bytes, with nothing in it.
    pub fn new(limit: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            limit,
            state: Arc::default(),
            freed: Arc::default(),
            metrics,
        }
    }

    /// A document of `owner`, which nobody has open yet. It costs nothing until it is weighed.
    pub fn document(&self, document: Option<DocId>, owner: mpsc::WeakSender<Command>) -> Cached {
        let mut cached = Cached {
            cache: self.clone(),
            owner,
            document,
            bytes: 0,
            idle_since: None,
            counted: self.metrics.document(),
        };
        cached.rests();
        cached
    }

    /// Waits until documents were dropped since the last call.
    pub async fn freed(&self) {
        self.freed.notified().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cached {
    /// It costs so many bytes now, `pending` of them for updates that wait for others.
    pub fn weighs(&mut self, bytes: usize, pending: usize) {
        self.counted.weighs(bytes, pending);
        if bytes == self.bytes {
            return;
        }
        let mut state = self.cache.state();
        state.bytes = state.bytes + bytes - self.bytes;
        if let Some(since) = self.idle_since {
            match state.idle.get_mut(&since) {
                Some(idle) => idle.bytes = bytes,
                None => state.going = state.going + bytes - self.bytes,
            }
        }
        self.bytes = bytes;
        state.ask(self.cache.limit, self.idle_since);
    }

    /// Somebody has it open: it stays.
    pub fn opens(&mut self) {
        if let Some(since) = self.idle_since.take() {
            self.cache.state().forget(since, self.bytes);
        }
    }

    /// Whether somebody has it open.
    pub fn is_open(&self) -> bool {
        self.idle_since.is_none()
    }

    /// Nobody has it open, and it was used just now.
    pub fn rests(&mut self) {
        let mut state = self.cache.state();
        if let Some(since) = self.idle_since {
            state.forget(since, self.bytes);
        }
        let now = state.next;
        state.next += 1;
        let idle = Idle {
            bytes: self.bytes,
            document: self.document.clone(),
            owner: self.owner.clone(),
        };
        state.idle.insert(now, idle);
        self.idle_since = Some(now);
        state.ask(self.cache.limit, Some(now));
    }
}

impl State {
    /// It is no candidate any more, or was asked already.
    fn forget(&mut self, since: u64, bytes: usize) {
        if self.idle.remove(&since).is_none() {
            self.going -= bytes;
        }
    }

    /// Asks as many to go as it takes, those first that were not used for longest. `user` is about to be used.
    fn ask(&mut self, limit: usize, user: Option<u64>) {
        while self.bytes - self.going > limit {
            let Some(first) = self.idle.first_entry() else {
                return;
            };
            if Some(*first.key()) == user {
                return;
            }
            let Some(owner) = first.get().owner.upgrade() else {
                // It is leaving memory with its project.
                self.going += first.remove().bytes;
                continue;
            };
            // Who is that busy is asked another time.
            if owner
                .try_send(Command::Evict(first.get().document.clone()))
                .is_err()
            {
                return;
            }
            self.going += first.remove().bytes;
        }
    }
}

impl Drop for Cached {
    fn drop(&mut self) {
        self.weighs(0, 0);
        self.opens();
        self.cache.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an owner was asked to put away.
    fn asked(queue: &mut mpsc::Receiver<Command>) -> Vec<String> {
        let mut asked = Vec::new();
        while let Ok(Command::Evict(document)) = queue.try_recv() {
            asked.push(document.map_or_else(String::new, |doc| doc.to_string()));
        }
        asked
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first_and_what_is_open_stays() {
        let cache = Cache::new(30, Arc::default());
        let (owner, mut queue) = mpsc::channel(8);
        let document = |id: &str| {
            let mut cached = cache.document(id.parse().ok(), owner.downgrade());
            cached.weighs(10, 0);
            cached
        };
        let (mut a, mut b, mut c) = (document("a"), document("b"), document("c"));
        assert!(asked(&mut queue).is_empty());
        a.rests();
        b.opens();
        let _d = document("d");
        assert_eq!(asked(&mut queue), ["c"]);
        // Who was asked counts as gone, until it is used again.
        a.weighs(10, 0);
        c.rests();
        assert_eq!(asked(&mut queue), ["a"]);
        drop((a, c));
        let _e = document("e");
        assert!(asked(&mut queue).is_empty());
        b.rests();
        b.weighs(50, 0);
        let _f = document("f");
        assert_eq!(asked(&mut queue), ["d", "e", "b"]);
        assert_eq!(cache.state().bytes, 80);
    }

    #[test]
    fn the_newest_stays_whatever_it_costs_and_all_is_given_back() {
        let cache = Cache::new(1, Arc::default());
        let (owner, mut queue) = mpsc::channel(1);
        let document = |id: &str| {
            let mut cached = cache.document(id.parse().ok(), owner.downgrade());
            cached.weighs(100, 0);
            cached
        };
        let only = document("");
        assert!(asked(&mut queue).is_empty());
        let other = document("b");
        // The queue is full: nobody else is asked now, nor taken for asked.
        let third = document("c");
        assert_eq!(asked(&mut queue), [""]);
        let fourth = document("d");
        assert_eq!(asked(&mut queue), ["b"]);
        drop((only, other, third, fourth));
        let state = cache.state();
        assert_eq!((state.bytes, state.going, state.idle.len()), (0, 0, 0));
    }
}
