//! What entries name and the server has not: it is asked of those who follow, and taken from them.
//!
//! A server that was restored from a backup learns of newer files from whoever still has the project's
//! document. Their contents come from whoever has them: a blob by an ordinary upload, which alone gives
//! the right to read it; a text by its document. Who has a document from its beginning can bring it, also
//! when nobody has the bytes any more that it was seeded from.

use std::collections::HashSet;
use std::time::Instant;

use bytes::Bytes;
use serde::Serialize;
use uspark_shared::id::{BlobHash, DocId, DocumentName};
use uspark_shared::schema::Entry;
use uspark_shared::seed::brings_seed;

use super::load::random_client;
use super::{Owner, TextMemo};
use crate::ack::Ack;
use crate::project::command::{Command, SeatMessage};
use crate::project::live::LoadedText;
use crate::project::repair::Waiting;
use crate::refusal::Refusal;
use crate::store::{BlobBody, StoredDocument, Write};
use crate::subscriber::{Outgoing, SeatId};

/// Names in one message.
const NAMES: usize = 1000;

/// Messages, and their bytes, that may wait for a text which nobody has brought: as many as updates that wait
/// for others.
const MAX_WAITING: (usize, usize) = (1024, 16 << 20);

/// What is asked for.
#[derive(Debug, Default, Serialize)]
pub(super) struct Lacking {
    blobs: Vec<BlobHash>,
    texts: Vec<DocId>,
}

/// A text that an entry names, whose seed is not there, and that somebody has open.
pub(super) struct Unseeded {
    /// Until when somebody may bring it.
    until: Instant,
    /// What was said about it meanwhile. Who says more than may wait is refused.
    waiting: Vec<(SeatId, SeatMessage)>,
    bytes: usize,
}

impl Lacking {
    /// A text of which there are edits elsewhere that are not here.
    pub fn text(&mut self, doc: DocId) {
        self.texts.push(doc);
    }

    /// The messages that ask for it.
    fn messages(&self) -> Vec<String> {
        let said = |lacks| serde_json::json!({ "lacks": lacks }).to_string();
        let blobs = self.blobs.chunks(NAMES).map(|blobs| Self {
            blobs: blobs.to_vec(),
            ..Self::default()
        });
        let texts = self.texts.chunks(NAMES).map(|texts| Self {
            texts: texts.to_vec(),
            ..Self::default()
        });
        blobs.chain(texts).map(said).collect()
    }
}

impl Owner {
    /// Adds what a path waits for, if it still does.
    pub(super) fn note_lacking(&self, waiting: &Waiting, lacking: &mut Lacking) {
        match self.tree.get(&waiting.path) {
            Some(Entry::Text { doc, seed, .. })
                if *seed == waiting.hash && !self.records.contains_key(doc) =>
            {
                lacking.texts.push(doc.clone());
            }
            Some(Entry::Blob { hash, .. }) if *hash == waiting.hash => lacking.blobs.push(*hash),
            _ => {}
        }
    }

    /// Asks everybody who follows and may write.
    pub(super) fn ask_followers(&mut self, lacking: &Lacking) {
        let messages = lacking.messages();
        if messages.is_empty() {
            return;
        }
        let followers = self.rooms.followers().iter().copied();
        let asked: Vec<_> = followers.filter(|id| self.may_give(*id)).collect();
        for id in asked {
            if self.rooms.lags(id) {
                // Questions must not pile up for somebody who reads none. Who comes back sees what is
                // different, and is asked for the rest.
                let again = Refusal::Unavailable("too much waits for this connection".into());
                self.rooms.refuse(id, &again);
            } else {
                self.ask(id, &messages);
            }
        }
    }

    /// Asks somebody who begins to follow for all that is not here.
    pub(super) fn ask_follower(&self, id: SeatId) {
        let mut lacking = Lacking::default();
        for waiting in self.waiting.values().flatten() {
            self.note_lacking(waiting, &mut lacking);
        }
        if self.may_give(id) {
            self.ask(id, &lacking.messages());
        }
    }

    /// Whether asking somebody may be of use.
    fn may_give(&self, id: SeatId) -> bool {
        self.rooms.seat(id).is_some_and(|seat| seat.may_write)
    }

    fn ask(&self, id: SeatId, messages: &[String]) {
        for message in messages {
            self.tell(id, Outgoing::Stateless(message.clone()));
        }
    }

    /// Whether a text that is not known is named by an entry, so that somebody may bring it. If so, it is
    /// waited for as long as for an entry that comes after its socket.
    pub(super) fn awaits_text(&mut self, doc: &DocId) -> bool {
        if self.tree.path_of(doc).is_none() {
            return false;
        }
        let until = Instant::now() + self.deps.timing.unknown_document;
        let new = Unseeded {
            until,
            waiting: Vec::new(),
            bytes: 0,
        };
        self.unseeded.entry(doc.clone()).or_insert(new).until = until;
        true
    }

    /// Takes up joins of texts that were not named before.
    pub(super) fn join_awaited(&mut self, lacking: &Lacking) {
        let named: HashSet<&DocId> = lacking.texts.iter().collect();
        self.join_named(|doc| named.contains(doc));
    }

    fn join_named(&mut self, is_named: impl Fn(&DocId) -> bool) {
        let is_named = |(_, doc, _): &mut (Instant, DocId, Command)| is_named(doc);
        let named: Vec<_> = self.unknown.extract_if(.., is_named).collect();
        for (_, _, join) in named {
            self.take(join);
        }
    }

    /// Something was said about such a text: it may be the text.
    pub(super) fn about_unseeded(&mut self, doc: &DocId, seat: SeatId, message: SeatMessage) {
        let path = self.tree.path_of(doc).cloned();
        let entry = path.and_then(|path| Some((self.tree.get(&path)?.clone(), path)));
        if let SeatMessage::Update(update) = &message
            && let Some((Entry::Text { seed, .. }, path)) = entry
            && brings_seed(update, doc, &seed)
        {
            let memo = TextMemo {
                seed,
                path,
                is_live: true,
                settled: None,
            };
            return self.begin_without_seed(doc, memo, (seat, message));
        }
        let Some(unseeded) = self.unseeded.get_mut(doc) else {
            return;
        };
        unseeded.bytes += match &message {
            SeatMessage::Step1(bytes) | SeatMessage::Update(bytes) => bytes.len(),
            _ => 0,
        };
        unseeded.waiting.push((seat, message));
        if unseeded.waiting.len() > MAX_WAITING.0 || unseeded.bytes > MAX_WAITING.1 {
            self.give_up_unseeded(doc);
        }
    }

    /// A text begins with what somebody brings of it. What was said before comes first, as it was said.
    fn begin_without_seed(&mut self, doc: &DocId, memo: TextMemo, brought: (SeatId, SeatMessage)) {
        let stored = StoredDocument {
            updates: Vec::new(),
            next_seq: 1,
        };
        let name = DocumentName::of_text(self.id.clone(), doc.clone());
        let Ok(text) = LoadedText::build(name, &stored, None, None, random_client()) else {
            return;
        };
        let (now, at) = (Instant::now(), self.now());
        let live = text.live(&memo.seed, now, at, self.deps.metrics.document());
        self.texts.insert(doc.clone(), live);
        tracing::info!(project = %self.id, %doc, path = %memo.path, "a text was brought back without its seed");
        let mut writes = Vec::new();
        if memo.seed == BlobHash::of_empty() {
            // No update says so: there is nothing to settle.
            self.deps.facts.learn(&self.id, memo.seed, &[]);
            self.blob_was_made(memo.seed);
            writes.push(Write::PutBlob {
                project: self.id.clone(),
                hash: memo.seed,
                body: BlobBody::Inline(Bytes::new()),
                at,
            });
        }
        self.records.insert(doc.clone(), memo);
        self.remember(doc, &mut writes);
        self.submit(writes, Ack::nobody());
        let unseeded = self.unseeded.remove(doc);
        let waited = unseeded.into_iter().flat_map(|unseeded| unseeded.waiting);
        for (seat, message) in waited.chain([brought]) {
            self.take(Command::Message(seat, message));
        }
        self.join_named(|named| named == doc);
    }

    /// The seed of a text has come: what was said about it is taken up.
    pub(super) fn seeded(&mut self, doc: &DocId) {
        let unseeded = self.unseeded.remove(doc);
        for (seat, message) in unseeded.into_iter().flat_map(|unseeded| unseeded.waiting) {
            self.load_text(doc.clone(), Command::Message(seat, message));
        }
    }

    /// When the next of these texts is given up.
    pub(super) fn unseeded_until(&self) -> impl Iterator<Item = Instant> {
        self.unseeded.values().map(|unseeded| unseeded.until)
    }

    /// Gives up texts that nobody brought.
    pub(super) fn refuse_unseeded(&mut self, now: Instant) {
        let is_over = |(_, unseeded): &(&DocId, &Unseeded)| unseeded.until <= now;
        let over = self.unseeded.iter().filter(is_over);
        let over: Vec<DocId> = over.map(|(doc, _)| doc.clone()).collect();
        for doc in over {
            self.give_up_unseeded(&doc);
        }
    }

    fn give_up_unseeded(&mut self, doc: &DocId) {
        self.unseeded.remove(doc);
        let refusal = Refusal::NotFound("document");
        self.rooms.refuse_document(&Some(doc.clone()), &refusal);
    }

    /// A blob that paths may wait for was made here: they are looked at again in a turn of their own.
    pub(super) fn blob_was_made(&self, hash: BlobHash) {
        if !self.waiting.contains_key(&hash) {
            return;
        }
        let commands = self.commands.clone();
        self.deps.tasks.spawn(async move {
            if let Some(commands) = commands.upgrade() {
                // Whoever is leaving memory finds it when it is loaded.
                let _ = commands.send(Command::BlobArrived(hash)).await;
            }
        });
    }
}
