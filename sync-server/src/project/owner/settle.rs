//! Time: settling texts, leaving memory, expiring awareness.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;
use uspark_shared::id::{BlobHash, DocId};
use uspark_shared::replica::ProjectEdit;
use uspark_shared::schema::Entry;
use uspark_shared::text::as_grown_text;

use super::updates::version_of;
use super::{Flow, Owner};
use crate::ack::Ack;
use crate::metrics::Evicted;
use crate::project::command::Command;
use crate::refusal::Refusal;
use crate::store::{BlobBody, SettledVersion, Write};

/// How often the owner looks around when nothing is due.
const SWEEP: Duration = Duration::from_secs(5);

impl Owner {
    /// When there is something to do next.
    pub(super) fn next_deadline(&self) -> Instant {
        let timing = &self.deps.timing;
        let settle = self.texts.values().filter_map(|text| {
            let unsettled = text.unsettled?;
            Some((unsettled.last + timing.settle_idle).min(unsettled.first + timing.settle_latest))
        });
        let unknown = self.unknown.iter().map(|(until, ..)| *until);
        let sweep = Instant::now() + SWEEP.min(timing.unload_project);
        let waits = unknown.chain(self.unseeded_until());
        settle.chain(waits).fold(sweep, Instant::min)
    }

    /// Does what is due. `is_idle`: no command waits.
    pub(super) fn tick(&mut self, is_idle: bool) -> Flow {
        let now = Instant::now();
        let timing = self.deps.timing;
        let mut writes = Vec::new();
        let due: Vec<DocId> = self
            .texts
            .iter()
            .filter(|(_, text)| {
                text.unsettled.is_some_and(|unsettled| {
                    unsettled.last + timing.settle_idle <= now
                        || unsettled.first + timing.settle_latest <= now
                })
            })
            .map(|(doc, _)| doc.clone())
            .collect();
        for doc in due {
            self.settle(&doc, &mut writes);
        }
        self.unload_idle_texts(now, &mut writes);
        let at = self.now();
        writes.extend(self.log.compact(&self.project, at));
        self.submit(writes, Ack::nobody());
        self.refuse_unknown(now);
        self.refuse_unseeded(now);
        self.rooms.expire_awareness(now);
        let is_over = is_idle
            && self.rooms.is_empty()
            && self.loading.is_empty()
            && Arc::strong_count(&self.fetches) == 1
            && self.texts.values().all(|text| text.unsettled.is_none())
            && now.duration_since(self.used) >= timing.unload_project;
        if is_over {
            self.deps.metrics.evicted(Evicted::Project, 1);
            Flow::Leave
        } else {
            Flow::Go
        }
    }

    /// Settles every text with edits that are not; `ack` when that is durable.
    pub(super) fn settle_all(&mut self, ack: Ack) {
        let writes = self.settle_every_text();
        self.submit(writes, ack);
    }

    /// Settles every text with edits that are not, and gives what is to be written.
    pub(super) fn settle_every_text(&mut self) -> Vec<Write> {
        let mut writes = Vec::new();
        let docs: Vec<DocId> = self.texts.keys().cloned().collect();
        for doc in docs {
            self.settle(&doc, &mut writes);
        }
        writes
    }

    /// Makes what a text says now a version: a blob, a line of history, and the truth in `texts`.
    pub(super) fn settle(&mut self, doc: &DocId, writes: &mut Vec<Write>) {
        let Some(text) = self.texts.get_mut(doc) else {
            return;
        };
        let Some(unsettled) = text.unsettled.take() else {
            return;
        };
        let mut authors = std::mem::take(&mut text.authors);
        let Some(memo) = self.records.get(doc) else {
            return;
        };
        let doc_seq = text.log.last_seq();
        let bytes = Bytes::from(text.replica.text());
        let hash = BlobHash::of(&bytes);
        // A text that came back without its seed may be what that was.
        if hash == memo.content() && !self.waiting.contains_key(&hash) {
            return;
        }
        let version = SettledVersion {
            hash,
            size: bytes.len() as u64,
            mtime: unsettled.at,
        };
        let is_text = as_grown_text(&bytes).is_some();
        // Whoever asks before it is durable is answered after.
        self.deps.facts.learn(&self.id, hash, &bytes);
        self.blob_was_made(hash);
        writes.push(Write::PutBlob {
            project: self.id.clone(),
            hash,
            body: BlobBody::Inline(bytes),
            at: self.now(),
        });
        let (who, also) = (authors.pop(), authors);
        if !is_text {
            self.make_binary(doc, &version, writes);
            self.note_rewritten(who, also, writes);
            return;
        }
        if let Some(memo) = self.records.get_mut(doc) {
            memo.settled = Some(version);
        }
        self.edit_project(
            &[ProjectEdit::SetText(doc.clone(), version_of(&version))],
            None,
            writes,
        );
        let project_seq = self.log.last_seq();
        writes.push(Write::Settle {
            project: self.id.clone(),
            doc: doc.clone(),
            version,
            project_seq,
            doc_seq,
        });
        self.note_settled(doc, hash, who, also, writes);
    }

    /// A text that grew too long, or has a NUL now, goes on as a binary file.
    fn make_binary(&mut self, doc: &DocId, version: &SettledVersion, writes: &mut Vec<Write>) {
        let SettledVersion { hash, size, mtime } = *version;
        let path = self.tree.path_of(doc).cloned();
        if let Some(memo) = self.records.get_mut(doc) {
            memo.is_live = false;
        }
        self.remember(doc, writes);
        if let Some(path) = path
            && let Some(Entry::Text { mode, .. }) = self.tree.get(&path)
        {
            let entry = Entry::Blob {
                hash,
                size,
                mode: *mode,
                mtime,
            };
            tracing::info!(project = %self.id, %doc, %path, size, "a text became binary");
            self.edit_project(&[ProjectEdit::SetFile(path, entry)], None, writes);
        }
        self.texts.remove(doc);
        self.rooms.refuse_document(
            &Some(doc.clone()),
            &Refusal::NotFound("text: it is binary now, and so no document"),
        );
    }

    fn unload_idle_texts(&mut self, now: Instant, writes: &mut Vec<Write>) {
        let (unload, at) = (self.deps.timing.unload_text, self.now());
        let (rooms, before) = (&self.rooms, self.texts.len());
        self.texts.retain(|doc, text| {
            writes.extend(text.log.compact(&text.replica, at));
            let idle = text.unsettled.is_none() && now.duration_since(text.used) >= unload;
            !idle || rooms.has_seats(doc)
        });
        let evicted = before - self.texts.len();
        self.deps.metrics.evicted(Evicted::Text, evicted);
        self.rooms.retain_texts(|doc| self.texts.contains_key(doc));
    }

    fn refuse_unknown(&mut self, now: Instant) {
        let (over, waiting) = std::mem::take(&mut self.unknown)
            .into_iter()
            .partition(|(until, ..)| *until <= now);
        self.unknown = waiting;
        let over: Vec<(Instant, DocId, Command)> = over;
        for (_, _, command) in over {
            if let Command::Join { reply, .. } = command {
                let _ = reply.send(Err(Refusal::NotFound("document")));
            }
        }
    }

    /// Takes up the joins that waited for a document to be named.
    pub(super) fn join_unknown(&mut self, doc: &DocId) {
        let (now, waiting) = std::mem::take(&mut self.unknown)
            .into_iter()
            .partition(|(_, other, _)| other == doc);
        self.unknown = waiting;
        let now: Vec<(Instant, DocId, Command)> = now;
        for (_, doc, command) in now {
            self.load_text(doc, command);
        }
        self.seeded(doc);
    }

    /// Ends the loop from within.
    pub(super) fn stop_soon(&self) {
        let commands = self.commands.clone();
        self.deps.tasks.spawn(async move {
            if let Some(commands) = commands.upgrade() {
                let _ = commands.send(Command::Failed).await;
            }
        });
    }

    /// Answers once everything is settled and stored.
    pub(super) fn close_when_gone(&mut self, done: oneshot::Sender<()>) {
        self.rooms
            .refuse_all(&Refusal::Unavailable("the server is stopping".into()));
        self.settle_all(Ack::new(move |_| {
            let _ = done.send(());
        }));
    }

    /// Leaves logs that load quickly.
    pub(super) fn snapshot(&mut self) {
        let at = self.now();
        let mut writes = self.log.compact(&self.project, at);
        for text in self.texts.values_mut() {
            writes.extend(text.log.compact(&text.replica, at));
        }
        self.submit(writes, Ack::nobody());
    }

    /// Goes: nobody is left waiting, and every write is in before anyone loads again.
    pub(super) async fn leave_memory(self) {
        let Self {
            id, rooms, acks, ..
        } = self;
        drop(rooms);
        let (done, stored) = oneshot::channel();
        acks.after_all(Ack::new(move |_| {
            let _ = done.send(());
        }));
        // A failed commit has been told already.
        let _ = stored.await;
        tracing::debug!(project = %id, "left memory");
    }
}
