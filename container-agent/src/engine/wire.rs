//! The documents on the socket: who was opened, what was sent and not acknowledged.
//!
//! Owns the protocol of `/collab` as a client speaks it. Must not do: know replicas or the disk;
//! it asks for what it needs through what its methods give back.
//!
//! Invariants: per document, acknowledgements come in the order of what was sent; an update leaves
//! only after the journal has it; when the socket is lost, everything unacknowledged is sent again,
//! in order, and the exchange of state vectors makes up for the rest. It comes after what is in
//! line, which says what made it: the server keeps that of whoever brings an edit first.

use std::collections::{BTreeMap, HashMap, VecDeque};

use tokio::sync::mpsc::Sender;
use tokio::time::Instant;
use uspark_shared::codec::collab::{Address, ClientAuth, ClientFrame, CollabMessage};
use uspark_shared::codec::message::SyncMessage;
use uspark_shared::id::{DocumentName, ProjectId};

use crate::config::Secret;
use crate::journal::{Document, Outgoing};

/// Updates that may be under way at once: fewer than the queue holds, with room for exchanges.
const MAX_UNDER_WAY: usize = 256;
/// Their bytes, at most, unless one alone has more.
const MAX_UNDER_WAY_BYTES: usize = 8 << 20;

/// A document on the socket.
#[derive(Debug)]
pub(super) struct Channel {
    /// The server has let us in.
    pub open: bool,
    /// An exchange of state vectors was asked for and has not come back.
    pub exchanging: bool,
    /// When something was last sent or received.
    pub used: Instant,
    /// Sent and not acknowledged, oldest first.
    sent: VecDeque<Sent>,
    /// What the server takes the next update to be made by.
    by: Option<String>,
}

#[derive(Debug)]
enum Sent {
    Update(u64, usize),
    Step2,
}

/// The socket and what is to go over it.
pub(super) struct Wire {
    project: ProjectId,
    token: Secret,
    socket: Option<Sender<Vec<u8>>>,
    channels: HashMap<Document, Channel>,
    frames: Vec<Vec<u8>>,
    /// Own updates that are journalled and not under way, in order, by document.
    waiting: HashMap<Document, VecDeque<u64>>,
    /// Every update that is not acknowledged.
    unacknowledged: BTreeMap<u64, Document>,
    /// Updates of this moment, so that they need not be read back from the journal.
    fresh: HashMap<u64, Outgoing>,
    /// State vectors of the server that are to be answered, by document.
    asked: HashMap<Document, Vec<u8>>,
    under_way: (usize, usize),
    next_seq: u64,
}

impl Wire {
    /// A wire with what was not acknowledged when the last session ended.
    pub fn new(
        project: ProjectId,
        token: Secret,
        unacknowledged: Vec<(u64, Document)>,
        next_seq: u64,
    ) -> Self {
        let mut waiting: HashMap<Document, VecDeque<u64>> = HashMap::new();
        for (seq, document) in &unacknowledged {
            waiting.entry(document.clone()).or_default().push_back(*seq);
        }
        Self {
            project,
            token,
            socket: None,
            channels: HashMap::new(),
            frames: Vec::new(),
            waiting,
            unacknowledged: unacknowledged.into_iter().collect(),
            fresh: HashMap::new(),
            asked: HashMap::new(),
            under_way: (0, 0),
            next_seq,
        }
    }

    /// Takes an own update in line. The result is to be journalled in this turn.
    pub fn outgoing(
        &mut self,
        document: Document,
        bytes: Vec<u8>,
        attribution: Option<String>,
    ) -> Outgoing {
        let outgoing = Outgoing {
            seq: self.next_seq,
            document,
            bytes,
            attribution,
        };
        self.next_seq += 1;
        let (seq, document) = (outgoing.seq, outgoing.document.clone());
        self.unacknowledged.insert(seq, document.clone());
        self.waiting.entry(document).or_default().push_back(seq);
        self.fresh.insert(seq, outgoing.clone());
        outgoing
    }

    /// A new socket is open.
    pub fn up(&mut self, socket: Sender<Vec<u8>>) {
        self.down();
        self.socket = Some(socket);
        self.open(&None);
    }

    /// The socket is gone.
    pub fn down(&mut self) {
        self.socket = None;
        self.frames.clear();
        let channels: Vec<Document> = self.channels.keys().cloned().collect();
        for document in channels {
            self.closed(&document);
        }
    }

    /// Whether there is a socket.
    pub fn is_up(&self) -> bool {
        self.socket.is_some()
    }

    /// Opens a document, unless it is open or there is no socket. The exchange follows by itself.
    pub fn open(&mut self, document: &Document) {
        if self.socket.is_none() || self.channels.contains_key(document) {
            return;
        }
        let channel = Channel {
            open: false,
            exchanging: true,
            used: Instant::now(),
            sent: VecDeque::new(),
            by: None,
        };
        self.channels.insert(document.clone(), channel);
        let token = self.token.expose().to_owned();
        self.frame(
            document,
            CollabMessage::Auth(ClientAuth::Token {
                token: &token,
                version: None,
            }),
        );
    }

    /// The server has let us into a document.
    pub fn opened(&mut self, document: &Document) {
        if let Some(channel) = self.channels.get_mut(document) {
            channel.open = true;
        }
    }

    /// Asks for what we lack of an open document.
    pub fn ask(&mut self, document: &Document, state_vector: &[u8]) {
        if let Some(channel) = self.channels.get_mut(document) {
            channel.exchanging = true;
            channel.used = Instant::now();
        }
        let message = SyncMessage::Step1(state_vector);
        self.frame(document, CollabMessage::Sync(message));
    }

    /// The server asks for what it lacks of a document.
    pub fn asked(&mut self, document: &Document, state_vector: &[u8]) {
        self.asked.insert(document.clone(), state_vector.to_vec());
    }

    /// What the server asked for and can be given now: documents that have nothing in line.
    pub fn answerable(&mut self) -> Vec<(Document, Vec<u8>)> {
        let waiting = &self.waiting;
        let has_left = |document: &Document| waiting.get(document).is_none_or(VecDeque::is_empty);
        let now = self.asked.extract_if(|document, _| has_left(document));
        now.collect()
    }

    /// Gives the server what it lacks of an open document. Nobody knows any more what made it.
    pub fn give(&mut self, document: &Document, update: &[u8]) {
        let Some(channel) = self.channels.get_mut(document) else {
            return;
        };
        channel.sent.push_back(Sent::Step2);
        if channel.by.take().is_some() {
            self.made_by(document, None);
        }
        self.frame(document, CollabMessage::Sync(SyncMessage::Step2(update)));
    }

    /// Says something of ours about a document.
    pub fn say(&mut self, document: &Document, text: &str) {
        self.frame(document, CollabMessage::Stateless(text));
    }

    /// The server acknowledged the oldest thing that was sent on a document. Gives the update, if
    /// it was one.
    pub fn acknowledged(&mut self, document: &Document) -> Option<u64> {
        let channel = self.channels.get_mut(document)?;
        match channel.sent.pop_front()? {
            Sent::Step2 => None,
            Sent::Update(seq, bytes) => {
                self.under_way.0 -= 1;
                self.under_way.1 -= bytes;
                self.unacknowledged.remove(&seq);
                Some(seq)
            }
        }
    }

    /// Whether updates of a document are not acknowledged.
    pub fn owes(&self, document: &Document) -> bool {
        let is_update = |sent: &Sent| matches!(sent, Sent::Update(..));
        let under_way = self.channels.get(document);
        self.waiting
            .get(document)
            .is_some_and(|line| !line.is_empty())
            || under_way.is_some_and(|channel| channel.sent.iter().any(is_update))
    }

    /// A document was closed, by whichever side. What it has under way will be sent again.
    pub fn closed(&mut self, document: &Document) {
        self.asked.remove(document);
        let Some(channel) = self.channels.remove(document) else {
            return;
        };
        for sent in channel.sent.into_iter().rev() {
            if let Sent::Update(seq, bytes) = sent {
                self.under_way.0 -= 1;
                self.under_way.1 -= bytes;
                if self.unacknowledged.contains_key(&seq) {
                    self.waiting
                        .entry(document.clone())
                        .or_default()
                        .push_front(seq);
                }
            }
        }
    }

    /// Closes documents that were not used since `before`.
    pub fn close_idle(&mut self, before: Instant) {
        let idle = |(document, channel): (&Document, &Channel)| {
            let is_idle = document.is_some()
                && channel.open
                && !channel.exchanging
                && channel.sent.is_empty()
                && channel.used < before
                && !self.waiting.contains_key(document)
                && !self.asked.contains_key(document);
            is_idle.then(|| document.clone())
        };
        let idle: Vec<Document> = self.channels.iter().filter_map(idle).collect();
        for document in idle {
            self.frame(&document, CollabMessage::Close { reason: "" });
            self.channels.remove(&document);
        }
    }

    /// A document's channel.
    pub fn channel_mut(&mut self, document: &Document) -> Option<&mut Channel> {
        self.channels.get_mut(document)
    }

    /// Exchanges that have not come back.
    pub fn exchanges(&self) -> usize {
        self.channels
            .values()
            .filter(|channel| channel.exchanging)
            .count()
    }

    /// Updates not acknowledged.
    pub fn unacknowledged(&self) -> &BTreeMap<u64, Document> {
        &self.unacknowledged
    }

    /// The place in line of the next update.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Opens documents that have something to send, and gives the updates that may leave now.
    /// `read` brings those back that are in the journal alone.
    pub fn send_waiting<E>(
        &mut self,
        mut read: impl FnMut(u64) -> Result<Option<Outgoing>, E>,
    ) -> Result<(), E> {
        if self.socket.is_none() {
            // They are in the journal; a long time without a server must not fill the memory.
            self.fresh.clear();
            return Ok(());
        }
        let documents: Vec<Document> = self.waiting.keys().cloned().collect();
        for document in documents {
            if !self.channels.contains_key(&document) {
                self.open(&document);
            }
            while self.has_room() {
                let is_open = self
                    .channels
                    .get(&document)
                    .is_some_and(|channel| channel.open);
                let Some(line) = self.waiting.get_mut(&document).filter(|_| is_open) else {
                    break;
                };
                let Some(seq) = line.pop_front() else {
                    self.waiting.remove(&document);
                    break;
                };
                let outgoing = match self.fresh.remove(&seq) {
                    Some(outgoing) => Some(outgoing),
                    None => read(seq)?,
                };
                match outgoing {
                    Some(outgoing) => self.send(&outgoing),
                    None => drop(self.unacknowledged.remove(&seq)),
                }
            }
        }
        Ok(())
    }

    /// Hands the frames of this turn to the socket. Gives whether it took them: when it did not, it
    /// is given up, and a new one starts from the state vectors.
    pub fn flush(&mut self) -> bool {
        let frames = std::mem::take(&mut self.frames);
        let Some(socket) = &self.socket else {
            return true;
        };
        let taken = frames
            .into_iter()
            .all(|frame| socket.try_send(frame).is_ok());
        if !taken {
            self.down();
        }
        taken
    }

    fn has_room(&self) -> bool {
        self.under_way.0 == 0
            || (self.under_way.0 < MAX_UNDER_WAY && self.under_way.1 < MAX_UNDER_WAY_BYTES)
    }

    fn send(&mut self, outgoing: &Outgoing) {
        let document = &outgoing.document;
        let Some(channel) = self.channels.get_mut(document) else {
            return;
        };
        channel.used = Instant::now();
        let is_other = channel.by != outgoing.attribution;
        channel.by.clone_from(&outgoing.attribution);
        let bytes = outgoing.bytes.len();
        channel.sent.push_back(Sent::Update(outgoing.seq, bytes));
        self.under_way.0 += 1;
        self.under_way.1 += bytes;
        if is_other {
            self.made_by(document, outgoing.attribution.as_deref());
        }
        let update = SyncMessage::Update(&outgoing.bytes);
        self.frame(document, CollabMessage::Sync(update));
    }

    /// Says what makes the updates that follow.
    fn made_by(&mut self, document: &Document, by: Option<&str>) {
        let by = by.unwrap_or("null");
        self.say(document, &format!(r#"{{"by":{by}}}"#));
    }

    fn frame(&mut self, document: &Document, message: CollabMessage<'_, ClientAuth<'_>>) {
        if self.socket.is_none() {
            return;
        }
        let name = DocumentName {
            project: self.project.clone(),
            text: document.clone(),
        };
        let name = name.to_string();
        self.frames
            .push(ClientFrame::new(Address::new(&name), message).encode());
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{Receiver, channel};

    use super::*;

    fn wire() -> (Wire, Receiver<Vec<u8>>) {
        let mut wire = Wire::new("p".parse().unwrap(), "t".parse().unwrap(), vec![], 1);
        let (sender, receiver) = channel(2048);
        wire.up(sender);
        (wire, receiver)
    }

    fn shown(frames: &mut Receiver<Vec<u8>>) -> Vec<String> {
        let mut shown = Vec::new();
        while let Ok(frame) = frames.try_recv() {
            let ClientFrame::Document { address, message } = ClientFrame::decode(&frame).unwrap()
            else {
                continue;
            };
            let what = match message {
                CollabMessage::Auth(_) => "auth".into(),
                CollabMessage::Stateless(text) => text.to_owned(),
                CollabMessage::Sync(SyncMessage::Update(update)) => format!("{update:?}"),
                CollabMessage::Close { .. } => "close".into(),
                other => format!("{other:?}"),
            };
            shown.push(format!("{} {what}", address.as_str()));
        }
        shown
    }

    fn none(_: u64) -> Result<Option<Outgoing>, ()> {
        Ok(None)
    }

    #[test]
    fn updates_leave_once_the_document_is_open_with_what_made_them() {
        let (mut wire, mut frames) = wire();
        let doc: Document = Some("d".parse().unwrap());
        wire.outgoing(doc.clone(), vec![1], Some(r#"{"tool":"Edit"}"#.into()));
        wire.outgoing(doc.clone(), vec![2], Some(r#"{"tool":"Edit"}"#.into()));
        wire.outgoing(doc.clone(), vec![3], None);
        wire.send_waiting(none).unwrap();
        assert!(wire.flush());
        assert_eq!(shown(&mut frames), ["p auth", "p/d auth"]);
        wire.opened(&doc);
        wire.send_waiting(none).unwrap();
        wire.flush();
        let expected = [
            r#"p/d {"by":{"tool":"Edit"}}"#,
            "p/d [1]",
            "p/d [2]",
            r#"p/d {"by":null}"#,
            "p/d [3]",
        ];
        assert_eq!(shown(&mut frames), expected);
        assert_eq!(wire.acknowledged(&doc), Some(1));
        wire.give(&doc, &[]);
        assert_eq!(
            [wire.acknowledged(&doc), wire.acknowledged(&doc)],
            [Some(2), Some(3)]
        );
        assert_eq!(wire.acknowledged(&doc), None);
        assert!(wire.unacknowledged().is_empty());
    }

    #[test]
    fn what_the_server_lacks_comes_after_what_says_who_made_it() {
        let (mut wire, mut frames) = wire();
        let doc: Document = Some("d".parse().unwrap());
        wire.outgoing(doc.clone(), vec![1], Some(r#"{"tool":"Edit"}"#.into()));
        wire.send_waiting(none).unwrap();
        wire.opened(&doc);
        wire.asked(&doc, &[0]);
        assert!(wire.answerable().is_empty());
        wire.send_waiting(none).unwrap();
        assert_eq!(wire.answerable(), [(doc.clone(), vec![0])]);
        assert!(wire.answerable().is_empty());
        wire.give(&doc, &[0, 0]);
        wire.flush();
        let expected = [
            "p auth",
            "p/d auth",
            r#"p/d {"by":{"tool":"Edit"}}"#,
            "p/d [1]",
            r#"p/d {"by":null}"#,
            "p/d Sync(Step2([0, 0]))",
        ];
        assert_eq!(shown(&mut frames), expected);
        // Who asked and went away gets nothing.
        wire.asked(&doc, &[0]);
        wire.closed(&doc);
        assert!(wire.answerable().is_empty());
    }

    #[test]
    fn what_was_under_way_is_sent_again_in_order() {
        let (mut wire, _lost) = wire();
        let doc: Document = None;
        let made: Vec<Outgoing> = (0..3)
            .map(|n| wire.outgoing(doc.clone(), vec![n], None))
            .collect();
        wire.opened(&doc);
        wire.send_waiting(none).unwrap();
        assert_eq!(wire.acknowledged(&doc), Some(1));
        let (sender, mut frames) = channel(64);
        wire.up(sender);
        wire.opened(&doc);
        let read = |seq: u64| Ok::<_, ()>(made.iter().find(|made| made.seq == seq).cloned());
        wire.send_waiting(read).unwrap();
        wire.flush();
        assert_eq!(shown(&mut frames), ["p auth", "p [1]", "p [2]"]);
    }

    #[test]
    fn what_is_owed_is_owed_until_it_is_acknowledged() {
        let (mut wire, _lost) = wire();
        let doc: Document = Some("d".parse().unwrap());
        wire.outgoing(doc.clone(), vec![1], None);
        wire.outgoing(doc.clone(), vec![2], None);
        assert!(wire.owes(&doc) && !wire.owes(&None));
        wire.send_waiting(none).unwrap();
        wire.opened(&doc);
        wire.send_waiting(none).unwrap();
        wire.acknowledged(&doc);
        assert!(wire.owes(&doc));
        let (sender, _frames) = channel(64);
        wire.up(sender);
        assert!(wire.owes(&doc));
        wire.send_waiting(none).unwrap();
        wire.opened(&doc);
        wire.send_waiting(none).unwrap();
        wire.acknowledged(&doc);
        assert!(!wire.owes(&doc));
    }

    #[test]
    fn only_so_much_is_under_way() {
        let (mut wire, mut frames) = wire();
        wire.opened(&None);
        for _ in 0..MAX_UNDER_WAY + 10 {
            wire.outgoing(None, vec![7], None);
        }
        wire.send_waiting(none).unwrap();
        wire.flush();
        assert_eq!(shown(&mut frames).len(), 1 + MAX_UNDER_WAY);
        wire.acknowledged(&None);
        wire.send_waiting(none).unwrap();
        wire.flush();
        assert_eq!(shown(&mut frames).len(), 1);
    }

    #[test]
    fn idle_documents_are_closed_and_busy_ones_are_not() {
        let (mut wire, mut frames) = wire();
        let (idle, busy): (Document, Document) =
            (Some("idle".parse().unwrap()), Some("busy".parse().unwrap()));
        for document in [&idle, &busy] {
            wire.open(document);
            wire.opened(document);
            wire.channel_mut(document).unwrap().exchanging = false;
        }
        wire.outgoing(busy, vec![1], None);
        wire.send_waiting(none).unwrap();
        wire.close_idle(Instant::now() + std::time::Duration::from_secs(1));
        wire.flush();
        assert_eq!(
            shown(&mut frames)
                .iter()
                .filter(|f| f.ends_with("close"))
                .count(),
            1
        );
        assert!(wire.channel_mut(&idle).is_none());
    }

    #[test]
    fn a_full_socket_is_given_up() {
        let mut wire = Wire::new("p".parse().unwrap(), "t".parse().unwrap(), vec![], 1);
        let (sender, _receiver) = channel(1);
        wire.up(sender);
        wire.say(&None, "one too many");
        assert!(!wire.flush() && !wire.is_up());
    }
}
