//! Text documents in memory: when they are loaded, exchanged, and let go.
//!
//! A document on disk is loaded from its remembered state, or, never edited, from its first
//! content. One that is not on disk starts empty and gets everything by an exchange.

use tokio::time::Instant;
use uspark_shared::id::{BlobHash, DocId};
use uspark_shared::path::FilePath;
use uspark_shared::schema::Entry;

use super::jobs::{Fetched, Transfer};
use super::run::{Again, Engine, chain};
use super::texts::{Pasts, TextDocument};
use crate::clock::now_ms;
use crate::journal::{Base, Departed, Record, StatePart};
use crate::watch::Urgency;

impl Engine {
    /// The current content of a text entry, as far as it is known here.
    pub(super) fn current_text(&self, entry: &Entry) -> Option<BlobHash> {
        let Entry::Text { doc, seed, .. } = entry else {
            return None;
        };
        if self.stale.contains(doc) || self.inbox.contains_key(doc) {
            return None;
        }
        if let Some(document) = self.texts.get(doc) {
            return Some(document.live_hash());
        }
        match self
            .agreed
            .at_doc(doc)
            .and_then(|path| self.agreed.get(path))
        {
            Some(base) => base.hash,
            None => Some(self.project.settled.get(doc).copied().unwrap_or(*seed)),
        }
    }

    /// Whether nobody has edited a document since it was seeded, as far as is known; nor is it in
    /// memory or remembered.
    pub(super) fn is_unedited(&self, doc: &DocId) -> bool {
        let settled = self.project.settled.get(doc);
        let seed =
            self.project
                .docs
                .get(doc)
                .and_then(|path| match self.project.entries.get(path) {
                    Some(Entry::Text { seed, .. }) => Some(seed),
                    _ => None,
                });
        (settled.is_none() || settled == seed)
            && !self.stale.contains(doc)
            && !self.inbox.contains_key(doc)
            && !self.texts.contains_key(doc)
            && !self.has_state(doc)
    }

    /// Whether a document's state is remembered. A journal that cannot be read has none.
    pub(super) fn has_state(&self, doc: &DocId) -> bool {
        let document = Some(doc.clone());
        let pending = self.records.iter().rev().find_map(|record| match record {
            Record::State(of, _) | Record::WholeState(of, _) if *of == document => Some(true),
            Record::WrittenBack(of, ..) if of == doc => Some(true),
            Record::NoState(of) if of == doc => Some(false),
            _ => None,
        });
        pending.unwrap_or_else(|| self.journal.has_state(&document).unwrap_or(false))
    }

    /// Makes sure that the document of a path that has a base is in memory. If it is not, it is
    /// asked for, and the path is planned again when it is.
    pub(super) fn ensure_loaded(&mut self, path: &FilePath, doc: &DocId) -> bool {
        if self.texts.contains_key(doc) || self.load_from_journal(doc) {
            return true;
        }
        let seed = match self.agreed.get(path).map(|base| &base.entry) {
            Some(Entry::Text { seed, .. }) => *seed,
            _ => return false,
        };
        let Some(work) = self.works.get_mut(path) else {
            return false;
        };
        if !work.asked_base {
            work.asked_base = true;
            work.wants_base = true;
            self.look_again(path);
        } else {
            // It is not kept here, or damaged: the server has it.
            self.jobs.transfer(Transfer::Down {
                path: path.clone(),
                hash: seed,
                size: 0,
            });
            self.busy(path);
        }
        false
    }

    fn load_from_journal(&mut self, doc: &DocId) -> bool {
        let document = Some(doc.clone());
        // What this turn has still to write is in the replicas that wrote it.
        let parts = match self.journal.state(&document) {
            Ok(parts) if !parts.is_empty() => parts,
            _ => return false,
        };
        match TextDocument::from_parts(self.client, &parts, now_ms()) {
            Ok(loaded) => {
                if parts.len() > COMPACT_AFTER && !loaded.has_past() {
                    let state = Record::WholeState(document, loaded.shadow_state());
                    self.records.push(state);
                }
                self.loaded(doc, loaded);
                true
            }
            Err(error) => {
                self.note(format!("the remembered state of {doc} is useless: {error}"));
                false
            }
        }
    }

    /// The first content of a path's document was brought along.
    pub(super) fn load_from_seed(&mut self, base: &Base, text: &str) {
        let Entry::Text { doc, seed, .. } = &base.entry else {
            return;
        };
        if self.texts.contains_key(doc) || self.has_state(doc) {
            return;
        }
        match TextDocument::from_seed(self.client, doc, seed, text) {
            Ok(loaded) => self.loaded(&doc.clone(), loaded),
            Err(error) => self.note(format!("{doc} cannot be seeded: {error}")),
        }
    }

    fn loaded(&mut self, doc: &DocId, mut document: TextDocument) {
        document.used = self.turn_used();
        if let Some(departed) = self.departed.get(doc) {
            document.remember(departed.clone());
        }
        self.texts.insert(doc.clone(), document);
        for update in self.inbox.remove(doc).unwrap_or_default() {
            self.receive_text(doc, &update);
        }
    }

    /// An update of a text document came.
    pub(super) fn text_update(&mut self, doc: &DocId, update: &[u8]) {
        let on_disk = self.agreed.at_doc(doc).cloned();
        if self.texts.contains_key(doc) || (on_disk.is_some() && self.load_from_journal(doc)) {
            self.receive_text(doc, update);
        } else if let Some(path) = &on_disk {
            self.inbox
                .entry(doc.clone())
                .or_default()
                .push(update.to_vec());
            self.mark(path, Urgency::Now);
            if let Some(work) = self.works.get_mut(path) {
                work.wants_base = true;
                // A view without the first content is of no use.
                work.view = None;
            }
        } else {
            // Not on disk: when it gets there it is by an exchange.
            self.stale.insert(doc.clone());
        }
        self.mark_doc(doc);
    }

    fn receive_text(&mut self, doc: &DocId, update: &[u8]) {
        let used = self.turn_used();
        let Some(document) = self.texts.get_mut(doc) else {
            return;
        };
        document.used = used;
        match document.receive(update) {
            Ok(false) => {}
            Ok(true) => self.exchange_document(doc),
            Err(error) => {
                tracing::warn!(%doc, "an update was not taken: {error}");
                self.texts.remove(doc);
                self.stale.insert(doc.clone());
            }
        }
    }

    /// What a document has that the server has not is known now, and the other way round.
    pub(super) fn exchanged(&mut self, doc: &DocId, update: &[u8]) {
        if self.texts.contains_key(doc) {
            self.stale.remove(doc);
            self.receive_text(doc, update);
        }
        self.mark_doc(doc);
        if let Some(path) = self.exchange_line.pop_front() {
            self.works.wake(&path);
        }
    }

    /// Has the paths advanced where a document is, or is to be.
    pub(super) fn mark_doc(&mut self, doc: &DocId) {
        let there = self.project.docs.get(doc).cloned();
        let here = self.agreed.at_doc(doc).cloned();
        for path in [there, here].into_iter().flatten() {
            match self.works.get(&path) {
                None => self.mark(&path, Urgency::Now),
                Some(work) if work.busy => {}
                Some(_) => self.replan(&path),
            }
        }
    }

    /// Has the path of a document advanced, if something about it waits.
    pub(super) fn mark_waiting(&mut self, doc: &DocId) {
        if let Some(path) = self.project.docs.get(doc).cloned()
            && self.works.get(&path).is_some_and(|work| !work.busy)
        {
            self.works.wake(&path);
        }
    }

    /// Asks the server for everything about a path's document. The path goes on when it has come.
    pub(super) fn exchange(&mut self, path: &FilePath, doc: &DocId) {
        if !self.texts.contains_key(doc) {
            if self.agreed.at_doc(doc) == Some(path) {
                if !self.ensure_loaded(path, doc) {
                    return;
                }
            } else if !self.load_from_journal(doc) {
                self.loaded(doc, TextDocument::empty(self.client));
                self.stale.insert(doc.clone());
            }
        }
        if !self.wire.is_up() {
            return self.trouble(path, "the server is away".into(), Again::OnChange);
        }
        let document = Some(doc.clone());
        let under_way = self
            .wire
            .channel_mut(&document)
            .is_some_and(|channel| channel.exchanging);
        if !under_way && self.wire.exchanges() >= self.config.limits.exchanges {
            self.exchange_line.push_back(path.clone());
            return;
        }
        self.exchange_document(doc);
    }

    /// Asks the server for everything about a loaded document.
    fn exchange_document(&mut self, doc: &DocId) {
        let document = Some(doc.clone());
        let Some(state_vector) = self.texts.get(doc).map(TextDocument::state_vector) else {
            return;
        };
        match self.wire.channel_mut(&document) {
            None => self.wire.open(&document),
            Some(channel) if channel.open && !channel.exchanging => {
                self.wire.ask(&document, &state_vector);
            }
            // It comes anyway.
            Some(_) => {}
        }
    }

    /// The disk has the document's current text: the shadow is it.
    pub(super) fn ground(&mut self, doc: &DocId) {
        let remembered = self.has_state(doc);
        let Some(document) = self.texts.get_mut(doc) else {
            return;
        };
        match document.catch_up() {
            Ok(None) if remembered => {}
            Ok(Some(update)) if remembered => {
                self.records.push(Record::State(Some(doc.clone()), update));
            }
            Ok(_) => {
                let state = document.shadow_state();
                self.records
                    .push(Record::WholeState(Some(doc.clone()), state));
            }
            Err(error) => self.note(chain(&error)),
        }
    }

    /// The disk has the document's current text, and the shadow is at most behind.
    pub(super) fn catch_up(&mut self, doc: &DocId) {
        if self
            .texts
            .get(doc)
            .is_some_and(|document| !document.is_even())
        {
            self.ground(doc);
        }
    }

    /// A document in memory turned out to be unusable: it is loaded anew.
    pub(super) fn lose_document(&mut self, path: &FilePath, doc: &DocId, why: &str) {
        self.texts.remove(doc);
        self.stale.insert(doc.clone());
        self.trouble(path, why.to_owned(), Again::Later);
    }

    /// A document is no longer on disk: whoever writes there may have read it, at first or as it was last.
    pub(super) fn forget_document(&mut self, doc: &DocId, seed: &BlobHash) {
        let is_kept = self.departed.len() < MAX_DEPARTED;
        if is_kept && !self.texts.contains_key(doc) {
            self.load_from_journal(doc);
        }
        let loaded = self.texts.remove(doc);
        if loaded.is_some() | self.inbox.remove(doc).is_some() | self.has_state(doc) {
            // Should it come back, it is not what it was seeded with.
            self.stale.insert(doc.clone());
        }
        self.records.push(Record::NoState(doc.clone()));
        let seeded = || {
            let text = self.jobs.base(seed).filter(|_| is_kept)?;
            TextDocument::from_seed(self.client, doc, seed, &text).ok()
        };
        if let Some(document) = loaded.or_else(seeded) {
            let at = now_ms();
            let state = document.shadow_state();
            self.departed.insert(doc.clone(), document.into_past(at));
            let doc = doc.clone();
            self.records
                .push(Record::Departed(Departed { doc, state, at }));
        }
    }

    /// Takes in what was on disk a moment before this session began.
    pub(super) fn remember_departed(&mut self, departed: Vec<Departed>) {
        let now = now_ms();
        for Departed { doc, state, at } in departed {
            let parts = [StatePart::of(state)];
            let document = TextDocument::from_parts(self.client, &parts, now);
            let past = document.map(|document| document.into_past(at));
            self.departed.insert(doc, past.unwrap_or_default());
        }
    }

    /// A first content that was not kept has come from the server. Gives whether it is one.
    pub(super) fn fetched_base(&mut self, base: &Base, fetched: &Fetched) -> bool {
        if let Fetched::Bytes(bytes) = fetched
            && let Ok(text) = std::str::from_utf8(bytes)
        {
            self.load_from_seed(base, text);
        }
        base.entry
            .doc()
            .is_some_and(|doc| self.texts.contains_key(doc))
    }

    /// Lets go of documents that nobody needs: all those idle for long, and the longest idle when
    /// there are too many.
    pub(super) fn unload_idle(&mut self) {
        let now = now_ms();
        let is_old = |_: &DocId, past: &mut Pasts| !TextDocument::are_recent(past, now);
        let old = self.departed.extract_if(is_old);
        self.records
            .extend(old.map(|(doc, _)| Record::NotDeparted(doc)));
        if !self.records.is_empty() {
            // What the journal does not have yet would be missing when they are loaded again.
            return;
        }
        let now = self.turn_used();
        let mut idle: Vec<(u64, DocId)> = self
            .texts
            .iter()
            .filter(|(doc, document)| document.is_even() && !self.stale.contains(*doc))
            .map(|(doc, document)| (document.used, doc.clone()))
            .collect();
        idle.sort();
        let mut excess = self
            .texts
            .len()
            .saturating_sub(self.config.limits.loaded_texts);
        for (used, doc) in idle {
            let paths = [self.project.docs.get(&doc), self.agreed.at_doc(&doc)];
            let worked_on = paths
                .into_iter()
                .flatten()
                .any(|path| self.works.get(path).is_some());
            if !worked_on && (excess > 0 || now.saturating_sub(used) > IDLE_SECONDS) {
                self.texts.remove(&doc);
                excess = excess.saturating_sub(1);
            }
        }
    }

    /// Seconds since the session began: coarse, and enough to tell what was used last.
    pub(super) fn turn_used(&self) -> u64 {
        Instant::now().duration_since(self.began).as_secs()
    }
}

/// Updates of a document's state that are remembered one by one before they become one.
const COMPACT_AFTER: usize = 64;
/// Documents that are gone from disk and were edited, of which it is remembered what they were a
/// moment ago. Who removes more at once is not about to put them back.
const MAX_DEPARTED: usize = 256;
/// How long a document stays in memory without being used.
const IDLE_SECONDS: u64 = 10;
