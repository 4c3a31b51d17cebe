//! Leaving memory: what nobody has open goes after a while, or when memory is short.
//!
//! Invariant: a text leaves when all of it is durable, and then only if nothing came meanwhile. Whoever loads
//! it again so finds all of it.

use std::sync::Arc;
use std::time::Instant;

use uspark_shared::id::DocId;

use super::Owner;
use crate::ack::Ack;
use crate::metrics::Evicted;
use crate::project::cache::Cached;
use crate::project::command::Command;
use crate::store::Write;

/// What is known of a text that is not in memory, and of its path, in bytes: measured with 2000.
const RECORD_BYTES: usize = 1500;

impl Owner {
    /// The place of a text in the cache.
    pub(super) fn cached_text(&self, doc: DocId) -> Cached {
        self.deps.cache.document(Some(doc), self.commands.clone())
    }

    /// Notes what the project costs, but its texts.
    pub(super) fn weigh(&mut self) {
        let bytes = self.project.estimated_bytes() + self.records.len() * RECORD_BYTES;
        self.cached.weighs(bytes, self.project.waiting_bytes());
        if self.cached.is_open() && self.rooms.is_empty() {
            self.cached.rests();
        }
    }

    /// Somebody has taken a seat at a document.
    pub(super) fn opens(&mut self, document: &Option<DocId>) {
        self.cached.opens();
        if let Some(text) = document.as_ref().and_then(|doc| self.texts.get_mut(doc)) {
            text.cached.opens();
        }
    }

    /// A seat at a text was left.
    pub(super) fn text_rests(&mut self, doc: &DocId) {
        if let Some(text) = self.texts.get_mut(doc)
            && !self.rooms.has_seats(doc)
        {
            text.used = Instant::now();
            text.cached.rests();
        }
    }

    /// Stays, though memory is short.
    pub(super) fn rests(&mut self) {
        match self.rooms.is_empty() {
            true => self.cached.rests(),
            false => self.cached.opens(),
        }
    }

    /// Whether nobody has anything open, nor waits for anything.
    pub(super) fn is_alone(&self) -> bool {
        self.rooms.is_empty()
            && self.loading.is_empty()
            && self.unknown.is_empty()
            && Arc::strong_count(&self.fetches) == 1
    }

    /// Whether the project can leave at once. If so everything is settled.
    pub(super) fn may_yield(&mut self) -> bool {
        let may = self.is_alone() && !self.is_new;
        if may {
            self.deps.metrics.evicted(Evicted::Project, 1);
            self.settle_all(Ack::nobody());
        }
        may
    }

    /// Memory is short: a text that nobody has open is settled, stored, and then put away.
    pub(super) fn evict_text(&mut self, doc: DocId) {
        let has_seats = self.rooms.has_seats(&doc);
        let Some(text) = self.texts.get_mut(&doc) else {
            return;
        };
        if has_seats {
            return text.cached.opens();
        }
        let mut writes = Vec::new();
        self.settle(&doc, &mut writes);
        self.store_to_put_away(vec![doc], writes);
    }

    /// Weighs texts, and lets those go that nobody has used for long.
    pub(super) fn look_after_texts(&mut self, now: Instant, writes: &mut Vec<Write>) {
        let (unload, at) = (self.deps.timing.unload_text, self.now());
        let mut idle = Vec::new();
        for (doc, text) in &mut self.texts {
            writes.extend(text.log.compact(&text.replica, at));
            text.weigh();
            if self.rooms.has_seats(doc) {
                continue;
            }
            if text.cached.is_open() {
                text.cached.rests();
            }
            if text.unsettled.is_none() && now.duration_since(text.used) >= unload {
                idle.push(doc.clone());
            }
        }
        if !idle.is_empty() {
            self.store_to_put_away(idle, std::mem::take(writes));
        }
        self.rooms.retain_texts(|doc| self.texts.contains_key(doc));
    }

    /// Puts texts away once all of them is durable.
    fn store_to_put_away(&mut self, docs: Vec<DocId>, mut writes: Vec<Write>) {
        let at = self.now();
        let mut places = Vec::new();
        for doc in docs {
            if let Some(text) = self.texts.get_mut(&doc) {
                writes.extend(text.log.compact(&text.replica, at));
                places.push((doc, text.log.last_seq()));
            }
        }
        let (commands, tasks) = (self.commands.clone(), self.deps.tasks.clone());
        let stored = move |stored: bool| {
            // If not, the owner goes, and all with it.
            let Some(commands) = commands.upgrade().filter(|_| stored) else {
                return;
            };
            tasks.spawn(async move {
                for (doc, seq) in places {
                    let _ = commands.send(Command::PutAway(doc, seq)).await;
                }
            });
        };
        self.submit(writes, Ack::new(stored));
    }

    /// Lets a text go that was durable up to `seq`, unless something came since.
    pub(super) fn put_away(&mut self, doc: &DocId, seq: u64) {
        let has_seats = self.rooms.has_seats(doc);
        let Some(text) = self.texts.get_mut(doc) else {
            return;
        };
        if has_seats {
            text.cached.opens();
        } else if text.unsettled.is_some() || text.log.last_seq() != seq {
            text.cached.rests();
        } else {
            self.texts.remove(doc);
            self.deps.metrics.evicted(Evicted::Text, 1);
        }
    }
}
