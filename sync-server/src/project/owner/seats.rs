//! Who sits at which document, and what they are told.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use uspark_shared::id::{DocId, DocumentName};
use uspark_shared::replica::Replica;

use super::Owner;
use crate::project::awareness::Awareness;
use crate::project::command::{Attribution, Command, Reply, Seat, SeatAck, SeatMessage};
use crate::refusal::Refusal;
use crate::subscriber::{Broadcast, BroadcastKind, Outgoing, SeatId};

/// Updates after which a document's state vector is noted again, as what seats are known to have.
const NOTE_AFTER: u32 = 64;
/// The state vector of somebody who has nothing.
const NOTHING: [u8; 1] = [0];

/// The documents that somebody has open.
pub(super) struct Rooms {
    name: DocumentName,
    /// By document; the project's own is `None`.
    rooms: HashMap<Option<DocId>, Room>,
    seats: HashMap<SeatId, Option<DocId>>,
    /// Seats at the project's document that get every text's updates.
    followers: Vec<SeatId>,
}

struct Room {
    name: DocumentName,
    address: Arc<str>,
    seats: HashMap<SeatId, Seat>,
    awareness: Awareness,
    /// A state vector that every seat has, unless it lags.
    since: Bytes,
    updates_since: u32,
}

impl Rooms {
    /// Nobody is there; `since` is the project document's state vector.
    pub fn new(name: DocumentName, since: Bytes) -> Self {
        let mut rooms = Self {
            name,
            rooms: HashMap::new(),
            seats: HashMap::new(),
            followers: Vec::new(),
        };
        rooms.room(None, || since);
        rooms
    }

    fn room(&mut self, document: Option<DocId>, since: impl FnOnce() -> Bytes) -> &mut Room {
        let name = self.document_name(&document);
        self.rooms.entry(document).or_insert_with(|| Room {
            address: name.to_string().into(),
            name,
            seats: HashMap::new(),
            awareness: Awareness::default(),
            since: since(),
            updates_since: 0,
        })
    }

    /// Which document a seat is at.
    pub fn document_of(&self, seat: SeatId) -> Option<&Option<DocId>> {
        self.seats.get(&seat)
    }

    /// A seat.
    pub fn seat(&self, seat: SeatId) -> Option<&Seat> {
        self.rooms.get(self.seats.get(&seat)?)?.seats.get(&seat)
    }

    fn seat_mut(&mut self, seat: SeatId) -> Option<&mut Seat> {
        self.rooms
            .get_mut(self.seats.get(&seat)?)?
            .seats
            .get_mut(&seat)
    }

    /// Who gets every text's updates.
    pub fn followers(&self) -> &[SeatId] {
        &self.followers
    }

    /// Whether a follower missed updates of the project's document, and may have missed more.
    pub fn lags(&self, follower: SeatId) -> bool {
        let seat = self.seat(follower);
        seat.is_some_and(|seat| seat.outbox.lags(follower, &self.name))
    }

    /// Whether anybody has a text open.
    pub fn has_seats(&self, doc: &DocId) -> bool {
        let room = self.rooms.get(&Some(doc.clone()));
        room.is_some_and(|room| !room.seats.is_empty())
    }

    /// Forgets the rooms of texts that left memory.
    pub fn retain_texts(&mut self, in_memory: impl Fn(&DocId) -> bool) {
        self.rooms.retain(|document, room| match document {
            Some(doc) => !room.seats.is_empty() || in_memory(doc),
            None => true,
        });
    }

    /// Whether nobody has anything open.
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    fn push(&self, seat: SeatId, outgoing: Outgoing) {
        if let Some(seat) = self.seat(seat) {
            seat.outbox.push(&seat.address, outgoing);
        }
    }

    /// Sends an update to everybody but its author. `now` gives the state vector with it.
    pub fn broadcast(
        &mut self,
        document: &Option<DocId>,
        update: &Bytes,
        author: Option<SeatId>,
        now: impl FnOnce() -> Bytes,
    ) {
        let mut now = Some(now);
        let followed = document.is_some() && !self.followers.is_empty();
        if followed {
            // Followers may lag behind a document that nobody joined.
            self.room(document.clone(), || Bytes::from_static(&NOTHING));
        }
        let author_outbox = author
            .and_then(|seat| self.seat(seat))
            .map(|seat| seat.outbox.clone());
        let Some(room) = self.rooms.get_mut(document) else {
            return;
        };
        let broadcast = Broadcast::new(room.name.clone(), BroadcastKind::Update, update.clone());
        for (id, seat) in room.seats.iter().filter(|(id, _)| Some(**id) != author) {
            seat.outbox
                .push_broadcast(*id, &seat.address, &broadcast, &room.since);
        }
        room.updates_since += 1;
        let note = room.updates_since >= NOTE_AFTER;
        if followed {
            self.tell_followers(document, &broadcast, author_outbox.as_ref());
        }
        if let (true, Some(room), Some(now)) = (note, self.rooms.get_mut(document), now.take()) {
            room.since = now();
            room.updates_since = 0;
        }
    }

    fn tell_followers(
        &self,
        document: &Option<DocId>,
        broadcast: &Arc<Broadcast>,
        author: Option<&crate::subscriber::Outbox>,
    ) {
        let Some(room) = self.rooms.get(document) else {
            return;
        };
        for id in &self.followers {
            let Some(follower) = self.seat(*id) else {
                continue;
            };
            let is = |outbox: &crate::subscriber::Outbox| follower.outbox.is(outbox);
            let joined = room.seats.values().any(|seat| is(&seat.outbox));
            if !joined && !author.is_some_and(is) {
                follower
                    .outbox
                    .push_broadcast(*id, &room.address, broadcast, &room.since);
            }
        }
    }

    /// Sends an update to one seat.
    fn push_update(&self, id: SeatId, document: &Option<DocId>, update: Bytes) {
        let name = self.document_name(document);
        let broadcast = Broadcast::new(name, BroadcastKind::Update, update);
        self.push(id, Outgoing::Broadcast(broadcast));
    }

    fn document_name(&self, document: &Option<DocId>) -> DocumentName {
        DocumentName {
            project: self.name.project.clone(),
            text: document.clone(),
        }
    }

    /// Ends a seat's lag with what it missed; `false` if there is no saying what that was.
    fn caught_up(
        &self,
        id: SeatId,
        document: &Option<DocId>,
        diff: impl FnOnce(&Bytes) -> Option<(Bytes, Vec<Vec<u8>>)>,
    ) -> bool {
        let Some(seat) = self.seat(id) else {
            return true;
        };
        let name = self.document_name(document);
        let address: Arc<str> = match self.document_of(id) == Some(document) {
            true => Arc::clone(&seat.address),
            false => name.to_string().into(),
        };
        let update = |update| Broadcast::new(name.clone(), BroadcastKind::Update, update);
        let mut waiting = Vec::new();
        let caught_up = seat
            .outbox
            .caught_up((id, name.clone()), &address, |since| {
                let (diff, updates) = diff(since)?;
                waiting = updates;
                Some(update(diff))
            });
        for waits in waiting {
            seat.outbox
                .push(&address, Outgoing::Broadcast(update(waits.into())));
        }
        caught_up
    }

    fn tell_awareness(&self, document: &Option<DocId>, body: Option<Vec<u8>>) {
        if let (Some(body), Some(room)) = (body, self.rooms.get(document)) {
            let broadcast =
                Broadcast::new(room.name.clone(), BroadcastKind::Awareness, body.into());
            for (id, seat) in &room.seats {
                seat.outbox
                    .push_broadcast(*id, &seat.address, &broadcast, &room.since);
            }
        }
    }

    /// Forgets the awareness of whoever was not heard of.
    pub fn expire_awareness(&mut self, now: Instant) {
        let documents: Vec<_> = self.rooms.keys().cloned().collect();
        for document in documents {
            let gone = self
                .rooms
                .get_mut(&document)
                .and_then(|room| room.awareness.expire(now));
            self.tell_awareness(&document, gone);
        }
    }

    /// Tells a seat that its document is over for it.
    pub fn refuse(&mut self, seat: SeatId, refusal: &Refusal) {
        self.push(seat, Outgoing::Refused(Some(seat), refusal.clone()));
        self.leave(seat);
    }

    /// Tells everybody at one document that it is over.
    pub fn refuse_document(&mut self, document: &Option<DocId>, refusal: &Refusal) {
        let room = self.rooms.get(document);
        let seats: Vec<_> = room
            .iter()
            .flat_map(|room| room.seats.keys().copied())
            .collect();
        for seat in seats {
            self.refuse(seat, refusal);
        }
    }

    /// Tells everybody that everything is over.
    pub fn refuse_all(&mut self, refusal: &Refusal) {
        let seats: Vec<_> = self.seats.keys().copied().collect();
        for seat in seats {
            self.refuse(seat, refusal);
        }
    }

    /// Removes a seat.
    pub fn leave(&mut self, id: SeatId) {
        let Some(document) = self.seats.remove(&id) else {
            return;
        };
        self.followers.retain(|follower| *follower != id);
        let mut gone = None;
        if let Some(room) = self.rooms.get_mut(&document) {
            if let Some(seat) = room.seats.remove(&id) {
                seat.outbox.leave(id);
            }
            gone = room.awareness.leave(id);
        }
        self.tell_awareness(&document, gone);
    }
}

/// Nobody is left waiting, not even when the owner panics.
impl Drop for Rooms {
    fn drop(&mut self) {
        self.refuse_all(&Refusal::Unavailable("the project is loaded again".into()));
    }
}

impl Owner {
    pub(super) fn join(&mut self, seat: Seat, document: Option<DocId>, reply: Reply<()>) {
        let unknown = document.as_ref();
        let unknown = unknown.filter(|doc| !self.records.contains_key(*doc));
        let is_awaited = seat.may_write && unknown.is_some_and(|doc| self.awaits_text(doc));
        if let (Some(doc), false) = (unknown, is_awaited) {
            // An entry and the socket of its document race.
            let until = Instant::now() + self.deps.timing.unknown_document;
            let doc = doc.clone();
            self.unknown.push((
                until,
                doc,
                Command::Join {
                    seat,
                    document,
                    reply,
                },
            ));
            return;
        }
        let state_vector = match is_awaited {
            true => Some(Bytes::from_static(&NOTHING)),
            false => self.state_vector(&document),
        };
        let Some(state_vector) = state_vector else {
            let _ = reply.send(Err(Refusal::NotFound("document")));
            return;
        };
        if seat.ack == SeatAck::Status {
            let read_only = !seat.may_write;
            let granted = Outgoing::Authenticated { read_only };
            seat.outbox.push(&seat.address, granted);
        }
        if seat.may_write {
            // Before their SyncStep1 is answered: a client that got ours later may have dropped
            // what it was about to give.
            seat.outbox
                .push(&seat.address, Outgoing::Step1(state_vector.clone()));
        }
        self.rooms.seats.insert(seat.id, document.clone());
        let room = self.rooms.room(document.clone(), || state_vector);
        let id = seat.id;
        room.seats.insert(id, seat);
        self.opens(&document);
        // Last: whoever asked may have a word for the client that must come after ours. If nobody
        // asks any more, nobody would leave the seat.
        if reply.send(Ok(())).is_err() {
            self.leave(id);
        }
    }

    pub(super) fn leave(&mut self, seat: SeatId) {
        let document = self.rooms.document_of(seat).cloned();
        self.unknown.retain(
            |(_, _, join)| !matches!(join, Command::Join { seat: other, .. } if other.id == seat),
        );
        self.rooms.leave(seat);
        if let Some(Some(doc)) = document {
            self.text_rests(&doc);
        }
        if self.rooms.is_empty() {
            self.cached.rests();
        }
    }

    pub(super) fn message(&mut self, id: SeatId, message: SeatMessage) {
        let Some(document) = self.rooms.document_of(id).cloned() else {
            return;
        };
        match message {
            SeatMessage::Step1(state_vector) => self.answer_step1(id, &document, &state_vector),
            SeatMessage::Update(update) => self.update(id, document, update),
            SeatMessage::Awareness(body) => self.awareness(id, &document, &body),
            SeatMessage::QueryAwareness => self.send_everybody(id, &document),
            SeatMessage::Follow => self.follow(id),
            SeatMessage::Granted { who, may_write } => self.granted(id, &document, who, may_write),
            SeatMessage::By(by) => {
                if let Some(seat) = self.rooms.seat_mut(id) {
                    seat.who.by = by;
                }
            }
            SeatMessage::CatchUp(document) => self.catch_up(id, document),
        }
    }

    /// Makes up for what a seat missed of a document, or lets it come back for it.
    fn catch_up(&mut self, id: SeatId, document: Option<DocId>) {
        let replica = match &document {
            None => Some(&*self.project),
            Some(doc) => self.texts.get(doc).map(|text| &*text.replica),
        };
        let diff = |since: &Bytes| {
            let diff = replica?.diff(since).ok()?;
            Some((diff.into(), replica?.waiting_updates()))
        };
        if !self.rooms.caught_up(id, &document, diff) {
            let again = Refusal::Unavailable("the document is loaded again".into());
            self.rooms.refuse(id, &again);
        }
    }

    /// A seat's client showed another token.
    fn granted(&mut self, id: SeatId, document: &Option<DocId>, who: Attribution, may_write: bool) {
        let state_vector = self.state_vector(document);
        let Some(seat) = self.rooms.seat_mut(id) else {
            return;
        };
        let gives = may_write && !seat.may_write;
        let by = seat.who.by.take();
        seat.who = Attribution { by, ..who };
        seat.may_write = may_write;
        let read_only = !may_write;
        self.tell(id, Outgoing::Authenticated { read_only });
        if let (true, Some(state_vector)) = (gives, state_vector) {
            self.tell(id, Outgoing::Step1(state_vector));
        }
    }

    fn answer_step1(&mut self, id: SeatId, document: &Option<DocId>, state_vector: &[u8]) {
        let replica: &Replica = match document {
            None => &self.project,
            Some(doc) => match self.texts.get_mut(doc) {
                Some(text) => {
                    text.used = Instant::now();
                    &text.replica
                }
                None => return,
            },
        };
        match replica.diff(state_vector) {
            Ok(diff) => {
                let waiting = replica.waiting_updates();
                self.rooms.push(id, Outgoing::Step2(diff.into()));
                for update in waiting {
                    self.rooms.push_update(id, document, update.into());
                }
                self.send_everybody(id, document);
            }
            Err(error) => self.rooms.refuse(id, &error.into()),
        }
    }

    fn send_everybody(&mut self, id: SeatId, document: &Option<DocId>) {
        let Some(room) = self.rooms.rooms.get(document) else {
            return;
        };
        if let Some(body) = room.awareness.everybody() {
            let broadcast =
                Broadcast::new(room.name.clone(), BroadcastKind::Awareness, body.into());
            self.rooms.push(id, Outgoing::Broadcast(broadcast));
        }
    }

    fn awareness(&mut self, id: SeatId, document: &Option<DocId>, body: &[u8]) {
        let Some(room) = self.rooms.rooms.get_mut(document) else {
            return;
        };
        match room.awareness.take(id, body, Instant::now()) {
            Ok(told) => self.rooms.tell_awareness(document, told),
            Err(error) => self
                .rooms
                .refuse(id, &Refusal::Malformed(error.to_string())),
        }
    }

    /// Subscribes first, then settles what was edited before, then says so: every edit is in a
    /// settled version or comes as an update.
    fn follow(&mut self, id: SeatId) {
        if self.rooms.document_of(id) != Some(&None) {
            return;
        }
        if !self.rooms.followers.contains(&id) {
            self.rooms.followers.push(id);
        }
        let Some(seat) = self.rooms.seat(id).cloned() else {
            return;
        };
        self.ask_follower(id);
        let following = r#"{"following":"texts"}"#.to_owned();
        self.settle_all(crate::ack::Ack::new(move |stored| {
            if stored {
                seat.outbox
                    .push(&seat.address, Outgoing::Stateless(following));
            }
        }));
    }

    /// What tells a seat that its update is durable.
    pub(super) fn seat_ack(&self, id: SeatId, update: &Bytes) -> crate::ack::Ack {
        let Some(seat) = self.rooms.seat(id).cloned() else {
            return crate::ack::Ack::nobody();
        };
        let name = self
            .rooms
            .document_of(id)
            .and_then(|document| self.rooms.rooms.get(document));
        let echo = match (seat.ack, name) {
            (SeatAck::Echo, Some(room)) => {
                let name = room.name.clone();
                Outgoing::Broadcast(Broadcast::new(name, BroadcastKind::Update, update.clone()))
            }
            _ => Outgoing::Status(true),
        };
        crate::ack::Ack::new(move |stored| {
            if stored {
                seat.outbox.push(&seat.address, echo);
            }
        })
    }

    /// Tells a seat something of ours, or asks it for what is missing.
    pub(super) fn tell(&self, id: SeatId, outgoing: Outgoing) {
        self.rooms.push(id, outgoing);
    }

    /// The state vector of a document that is in memory.
    pub(super) fn state_vector(&self, document: &Option<DocId>) -> Option<Bytes> {
        match document {
            None => Some(self.project.state_vector().into()),
            Some(doc) => self
                .texts
                .get(doc)
                .map(|text| text.replica.state_vector().into()),
        }
    }
}
