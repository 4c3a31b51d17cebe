//! What comes from the server, and what jobs give back.

use std::time::SystemTime;

use tokio::time::Instant;
use uspark_shared::codec::collab::{CollabMessage, ServerAuth, ServerFrame};
use uspark_shared::codec::message::SyncMessage;
use uspark_shared::id::DocId;
use uspark_shared::path::FilePath;
use uspark_shared::replica::EMPTY_UPDATE;
use uspark_shared::schema::Entry;

use super::config::{Direction, Progress};
use super::jobs::Done;
use super::report::LinkState;
use super::run::{Again, Engine, Over, chain};
use crate::journal::{Document, Record};
use crate::link::LinkEvent;
use crate::watch::Urgency;

/// Asks the server for the updates of every text of the project.
const FOLLOW: &str = r#"{"follow":"texts"}"#;

impl Engine {
    /// Takes in what happened on the way to the server.
    pub(super) fn linked(&mut self, event: LinkEvent) {
        if self.over.is_some() {
            return;
        }
        match event {
            LinkEvent::Up(socket) => {
                self.following = false;
                self.link = LinkState::Connecting;
                self.wire.up(socket);
            }
            LinkEvent::Frame(frame) => {
                if self.wire.is_up() {
                    self.framed(&frame);
                }
            }
            LinkEvent::Down(why) => self.disconnected(why),
        }
    }

    /// The socket is gone, or is given up.
    pub(super) fn disconnected(&mut self, why: String) {
        let was_online = self.link == LinkState::Online;
        self.wire.down();
        self.following = false;
        self.exchange_line.clear();
        // Who waits for an answer waits for the next connection's.
        self.answered = self.asked;
        self.ask_again();
        if was_online || !matches!(self.link, LinkState::Offline { .. }) {
            (self.progress)(Progress::Offline { why: why.clone() });
        }
        self.link = LinkState::Offline { why };
        if !was_online {
            self.work_alone();
        } else {
            self.alone = true;
        }
    }

    fn framed(&mut self, frame: &[u8]) {
        let (address, message) = match ServerFrame::decode(frame) {
            Ok(ServerFrame::Document { address, message }) => (address, message),
            Ok(_) => return,
            Err(error) => return self.give_up(&chain(&error)),
        };
        let document: Document = match address.document_name() {
            Ok(name) if name.project == self.config.project => name.text,
            _ => return,
        };
        match message {
            CollabMessage::Auth(auth) => self.authenticated(&document, auth),
            CollabMessage::Sync(sync) | CollabMessage::SyncReply(sync) => {
                self.synced(&document, sync);
            }
            CollabMessage::SyncStatus(taken) => self.acknowledged(&document, taken),
            CollabMessage::Stateless(text) => self.told(&document, text),
            CollabMessage::Close { reason } => self.closed(&document, reason),
            // Awareness and what is new to us.
            _ => {}
        }
    }

    fn authenticated(&mut self, document: &Document, auth: ServerAuth<'_>) {
        match auth {
            ServerAuth::TokenRequest => {
                self.wire.closed(document);
                self.wire.open(document);
            }
            ServerAuth::PermissionDenied { reason } => match document {
                None => self.refuse(format!("the server refuses this project: {reason}")),
                Some(doc) => {
                    self.wire.closed(document);
                    let why = format!("the server refuses its document: {reason}");
                    let path = self
                        .project
                        .docs
                        .get(doc)
                        .or_else(|| self.agreed.at_doc(doc));
                    if let Some(path) = path.cloned() {
                        // Its entry and its socket may have raced.
                        self.mark(&path, Urgency::Soon);
                        self.trouble(&path, why, Again::Later);
                    }
                }
            },
            ServerAuth::Authenticated { read_only } => {
                if read_only && self.config.direction != Direction::Pull {
                    return self.refuse("the token may only read this project".into());
                }
                self.wire.opened(document);
                let state_vector = match document {
                    None => self.project.state_vector(),
                    Some(doc) => self.state_vector_of(doc),
                };
                self.wire.ask(document, &state_vector);
                if document.is_none() {
                    self.asked += 1;
                    self.wire.say(document, FOLLOW);
                }
            }
        }
    }

    /// The server's part of an exchange, or an update of somebody.
    fn synced(&mut self, document: &Document, sync: SyncMessage<'_>) {
        match (sync, document) {
            // A pull gives nothing.
            (SyncMessage::Step1(_), _) if self.config.direction == Direction::Pull => {}
            (SyncMessage::Step1(state_vector), _) => self.wire.asked(document, state_vector),
            (SyncMessage::Step2(update), None) => {
                if let Some(channel) = self.wire.channel_mut(&None) {
                    channel.exchanging = false;
                }
                self.project_update(update);
                self.answered = (self.answered + 1).min(self.asked);
                if !std::mem::replace(&mut self.received, true) {
                    self.records.push(Record::Received);
                }
            }
            (SyncMessage::Update(update), None) => self.project_update(update),
            (SyncMessage::Step2(update), Some(doc)) => {
                if let Some(channel) = self.wire.channel_mut(document) {
                    channel.exchanging = false;
                    channel.used = Instant::now();
                }
                self.exchanged(doc, update);
            }
            (SyncMessage::Update(update), Some(doc)) => self.text_update(doc, update),
        }
    }

    /// Gives the server what it lacks of a document.
    pub(super) fn give(&mut self, document: &Document, state_vector: &[u8]) {
        let update = match document {
            None => self.project.diff(state_vector),
            Some(doc) => match self.texts.get(doc) {
                Some(text) => text.diff(state_vector),
                None => Ok(EMPTY_UPDATE.to_vec()),
            },
        };
        match update {
            Ok(update) => self.wire.give(document, &update),
            Err(error) => self.give_up(&chain(&error)),
        }
    }

    fn state_vector_of(&mut self, doc: &DocId) -> Vec<u8> {
        match self.texts.get(doc) {
            Some(text) => text.state_vector(),
            // Opened only to send what is in the journal: what comes back is left aside.
            None => vec![0],
        }
    }

    fn project_update(&mut self, update: &[u8]) {
        let changed = match self.project.receive(update) {
            Ok(changed) => changed,
            Err(error) => return self.give_up(&chain(&error)),
        };
        self.records.push(Record::State(None, update.to_vec()));
        if changed.missing {
            let state_vector = self.project.state_vector();
            if self
                .wire
                .channel_mut(&None)
                .is_some_and(|channel| !channel.exchanging)
            {
                self.asked += 1;
                self.wire.ask(&None, &state_vector);
            }
        }
        for path in changed.paths {
            self.remote_changed(&path);
        }
    }

    /// The project's entry of a path is another.
    pub(super) fn remote_changed(&mut self, path: &FilePath) {
        let by = self.tools.author(path);
        self.mark(path, Urgency::Now);
        if let Some(work) = self.works.get_mut(path) {
            work.by = work.by.take().or(by);
        }
        // The watcher has to see what lies in directories that it was told to ignore.
        if let (Some(watcher), Some(parent)) = (&self.watcher, path.parent())
            && self.project.entries.contains_key(path)
        {
            watcher.require(parent);
        }
    }

    fn acknowledged(&mut self, document: &Document, taken: bool) {
        if !taken {
            return self.refuse("the server refuses changes: the token may only read".into());
        }
        self.last_acknowledged = Some(SystemTime::now());
        if let Some(seq) = self.wire.acknowledged(document) {
            self.records.push(Record::Acknowledged(seq));
            match document {
                None => self.confirm_deletions(),
                // A file that is gone waits for its last edits.
                Some(doc) if !self.wire.owes(document) => self.mark_waiting(doc),
                Some(_) => {}
            }
        }
    }

    fn told(&mut self, document: &Document, text: &str) {
        let Ok(told) = serde_json::from_str::<serde_json::Value>(text) else {
            return;
        };
        if document.is_none() && told["following"] == "texts" {
            self.follows();
        }
        if document.is_none() {
            self.asked_for(&told["lacks"]);
        }
        for repair in told["repaired"].as_array().into_iter().flatten() {
            let field = |name: &str| repair[name].as_str().unwrap_or_default().to_owned();
            self.note(format!(
                "the server repaired `{}`: {}",
                field("path"),
                field("reason")
            ));
        }
    }

    /// From here on every update of every text comes by itself, and what came before is named in
    /// `texts`: whatever differs from what is on disk needs an exchange.
    fn follows(&mut self) {
        self.following = true;
        self.alone = false;
        self.link = LinkState::Online;
        let mut differs = Vec::new();
        for (path, entry) in &self.project.entries {
            let agreed = self.agreed.get(path);
            if agreed.is_none_or(|base| base.entry != *entry) {
                differs.push((path.clone(), None));
            }
            let Entry::Text { doc, seed, .. } = entry else {
                continue;
            };
            let settled = self.project.settled.get(doc).unwrap_or(seed);
            // Where it is on disk may not be where it is in the project.
            let on_disk = self
                .agreed
                .at_doc(doc)
                .and_then(|path| self.agreed.get(path));
            let known = match self.texts.get(doc) {
                Some(text) => Some(text.live_hash()),
                None => on_disk.and_then(|base| base.hash),
            };
            if known.is_some_and(|known| known != *settled) {
                differs.push((path.clone(), Some(doc.clone())));
            }
        }
        for (path, doc) in differs {
            if let Some(doc) = doc {
                self.stale.insert(doc);
            }
            self.remote_changed(&path);
        }
        // What is on disk and was removed while nobody told us.
        let gone = |path: &&FilePath| !self.project.entries.contains_key(*path);
        let gone: Vec<FilePath> = self.agreed.paths().filter(gone).cloned().collect();
        for path in gone {
            self.mark(&path, Urgency::Now);
        }
        let waiting: Vec<FilePath> = self
            .works
            .iter()
            .filter(|(_, work)| !work.busy)
            .map(|(path, _)| path.clone())
            .collect();
        for path in waiting {
            self.replan(&path);
        }
        self.confirm_deletions();
        (self.progress)(Progress::Connected);
    }

    fn closed(&mut self, document: &Document, reason: &str) {
        match document {
            None => self.give_up(&format!("the server closed the project: {reason}")),
            Some(doc) => {
                self.wire.closed(document);
                // If it is still needed it is opened again.
                self.mark_doc(doc);
            }
        }
    }

    /// The server will not let us in, now or later.
    fn refuse(&mut self, why: String) {
        self.end_for_good(Over::Refused(why));
    }

    /// There will be no sync any more, now or later.
    pub(super) fn end_for_good(&mut self, over: Over) {
        self.shut_out.cancel();
        self.wire.down();
        let why = over.to_string();
        self.note(why.clone());
        self.link = LinkState::Offline { why };
        self.over = Some(over);
    }

    /// This connection makes no sense any more; the next starts from the state vectors.
    fn give_up(&mut self, why: &str) {
        tracing::warn!("{why}");
        self.disconnected(why.to_owned());
    }

    /// Takes in what a job gives back.
    pub(super) fn done(&mut self, done: Done) {
        self.jobs.ended(&done);
        match done {
            Done::Looked(looked) => {
                for (path, looked) in looked {
                    self.looked(&path, looked);
                }
            }
            Done::Put(path, result) => self.put(&path, result),
            Done::Taken(path, result) => self.taken(&path, result),
            Done::Renamed(from, to, result) => self.renamed(&from, &to, result),
            Done::ModeSet(path, result) => self.mode_set(&path, result),
            Done::DirMade(path, result) => self.dir_made(&path, result),
            Done::DirRemoved(path, result) => self.dir_removed(&path, result),
            Done::BaseKept(path, result) => match result {
                Ok(true) => {
                    if let Some(work) = self.works.get_mut(&path) {
                        work.kept_base = true;
                    }
                    self.replan(&path);
                }
                Ok(false) => self.look_again(&path),
                Err(error) => self.trouble(&path, chain(&error), Again::Later),
            },
            Done::Discarded(path) => self.discarded(&path),
            Done::Compared(number, differing) => self.compared(number, differing),
            Done::Kept(path, kept, result) => self.kept(&path, kept, result),
            Done::Uploaded(path, hash, result) => self.uploaded(&path, hash, result),
            Done::Fetched(path, hash, result) => self.fetched(&path, hash, result),
        }
    }
}
