//! Documents in memory, and what of them is in the log.

use std::time::Instant;

use bytes::Bytes;
use uspark_shared::id::{BlobHash, DocumentName};
use uspark_shared::replica::{ClientId, Replica, ReplicaError, TextReplica};

use super::cache::Cached;
use crate::store::{Origin, StoredDocument, Write};

/// Updates in a log that are worth one snapshot: fewer load in under a millisecond.
const COMPACT_AFTER: usize = 256;

/// A document's place in its log.
#[derive(Debug)]
pub struct Log {
    name: DocumentName,
    next_seq: u64,
    /// Updates since the last snapshot.
    updates: usize,
}

impl Log {
    /// Goes on where what was stored ends.
    pub fn after(name: DocumentName, stored: &StoredDocument) -> Self {
        Self {
            name,
            next_seq: stored.next_seq,
            updates: stored.updates.len(),
        }
    }

    /// The place of the last update; 0 before the first.
    pub fn last_seq(&self) -> u64 {
        self.next_seq - 1
    }

    /// Whether nothing was ever stored.
    pub fn is_empty(&self) -> bool {
        self.next_seq == 1
    }

    /// Appends an update as it was received.
    pub fn append(&mut self, update: Bytes, origin: Option<Origin>, at: u64) -> Write {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.updates += 1;
        Write::Append {
            name: self.name.clone(),
            seq,
            update,
            origin,
            at,
        }
    }

    /// A snapshot in place of the log, when that is worth it. What waits for others is in no
    /// snapshot: it is appended again.
    pub fn compact(&mut self, replica: &Replica, at: u64) -> Vec<Write> {
        if self.updates < COMPACT_AFTER {
            return Vec::new();
        }
        let waiting = replica.waiting_updates();
        if self.updates < COMPACT_AFTER + 2 * waiting.len() {
            return Vec::new();
        }
        let (name, through) = (self.name.clone(), self.last_seq());
        let mut writes = vec![Write::Compact {
            name,
            through,
            state: replica.weighed_state().into(),
        }];
        self.updates = 1;
        let again = |update: Vec<u8>| self.append(update.into(), None, at);
        writes.extend(waiting.into_iter().map(again));
        writes
    }
}

/// Authors of one settled version that are named.
const AUTHORS: usize = 8;

/// A text document in memory.
pub struct LiveText {
    /// The text.
    pub replica: TextReplica,
    /// Its log.
    pub log: Log,
    /// The seed, while the log is empty: it goes there before the first update does.
    pub seed: Option<Bytes>,
    /// Since when there are edits that are not settled.
    pub unsettled: Option<Unsettled>,
    /// Who made these edits, the last one at the end.
    pub authors: Vec<Origin>,
    /// When it was last of use.
    pub used: Instant,
    /// Its place in the cache.
    pub cached: Cached,
}

/// Edits that wait to be settled.
#[derive(Debug, Clone, Copy)]
pub struct Unsettled {
    /// When the first of them came.
    pub first: Instant,
    /// When the last one came.
    pub last: Instant,
    /// The same in milliseconds since 1970.
    pub at: u64,
}

/// A text document as the loader hands it over.
pub struct LoadedText {
    replica: TextReplica,
    log: Log,
    seed: Option<Bytes>,
    author: Option<Origin>,
}

impl LoadedText {
    /// Builds the replica of what was stored, or of the seed if nothing was. `author` made the last
    /// update.
    pub fn build(
        name: DocumentName,
        stored: &StoredDocument,
        author: Option<Origin>,
        seed: Option<Vec<u8>>,
        client: ClientId,
    ) -> Result<Self, ReplicaError> {
        let replica = TextReplica::new(client);
        for update in stored
            .updates
            .iter()
            .map(Bytes::as_ref)
            .chain(seed.as_deref())
        {
            replica.apply(update)?;
        }
        Ok(Self {
            replica,
            log: Log::after(name, stored),
            seed: seed.map(Bytes::from),
            author,
        })
    }

    /// Takes it into use. `settled` is the content that is known to be settled.
    pub fn live(self, settled: &BlobHash, now: Instant, at: u64, cached: Cached) -> LiveText {
        let Self {
            replica,
            log,
            seed,
            author,
        } = self;
        // Edits that were stored but not settled before a restart.
        let differs = !log.is_empty() && BlobHash::of(replica.text().as_bytes()) != *settled;
        let unsettled = differs.then_some(Unsettled {
            first: now,
            last: now,
            at,
        });
        let mut live = LiveText {
            replica,
            log,
            seed,
            unsettled,
            authors: author.into_iter().filter(|_| differs).collect(),
            used: now,
            cached,
        };
        live.weigh();
        live
    }
}

impl LiveText {
    /// Notes what it costs.
    pub fn weigh(&mut self) {
        let pending = self.replica.waiting_bytes();
        self.cached.weighs(self.replica.estimated_bytes(), pending);
    }

    /// Notes an edit; `author` is `None` for the server.
    pub fn edited(&mut self, now: Instant, at: u64, author: Option<Origin>) {
        if let Some(author) = author
            && self.authors.last() != Some(&author)
        {
            self.authors.retain(|other| *other != author);
            if self.authors.len() == AUTHORS {
                self.authors.remove(0);
            }
            self.authors.push(author);
        }
        let first = self.unsettled.map_or(now, |unsettled| unsettled.first);
        self.unsettled = Some(Unsettled {
            first,
            last: now,
            at,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_appended_after_the_snapshot() {
        let replica = |n| TextReplica::new(ClientId::from_random([n; 4]));
        let edit = |replica: &TextReplica, old: &str, new: &str| {
            let edit = uspark_shared::diff::diff(old, new);
            replica.edit(&edit).unwrap()
        };
        let (ann, server) = (replica(1), replica(2));
        let (first, second) = (edit(&ann, "", "a"), edit(&ann, "a", "ab"));
        server.apply(&second).unwrap();
        let name = DocumentName::of_project("p".parse().unwrap());
        let stored = StoredDocument {
            next_seq: 1,
            updates: Vec::new(),
        };
        let mut log = Log::after(name, &stored);
        for _ in 0..COMPACT_AFTER + 2 {
            log.append(second.clone().into(), None, 0);
        }
        let writes = log.compact(&server, 0);
        let [
            Write::Compact { through, state, .. },
            Write::Append { seq, update, .. },
        ] = &writes[..]
        else {
            panic!("{writes:?}");
        };
        assert_eq!(*seq, through + 1);
        let loaded = replica(3);
        for update in [state, update, &Bytes::from(first)] {
            loaded.apply(update).unwrap();
        }
        assert_eq!(loaded.text(), "ab");
    }
}
