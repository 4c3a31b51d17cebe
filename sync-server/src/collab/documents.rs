//! The documents of one `/collab` socket: who is authenticated where, and what waits for that.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::Instant;
use uspark_shared::codec::collab::{Address, ClientAuth, ClientFrame, CollabFrame, CollabMessage};
use uspark_shared::codec::message::SyncMessage;

use super::frames::Told;
use crate::access::{Access, Grant, TokenId};
use crate::project::{Attribution, By, ProjectHandle, Seat, SeatAck, SeatMessage};
use crate::refusal::Refusal;
use crate::server::AppState;
use crate::socket::stopping;
use crate::subscriber::{Outbox, Outgoing, SeatId};

/// How long a socket may stay without a document.
const FIRST_AUTH: Duration = Duration::from_secs(60);
/// Documents spoken of before their token came; Hocuspocus allows as many.
const MAX_UNAUTHENTICATED: usize = 100;
/// Bytes that may wait for tokens and loading documents. More wait in the socket.
const MAX_QUEUED_BYTES: usize = 5 << 20;

/// The documents of a socket, by address.
pub struct Documents {
    state: AppState,
    outbox: Outbox,
    documents: HashMap<Arc<str>, Document>,
    joining: FuturesUnordered<BoxFuture<'static, Event>>,
    queued_bytes: usize,
    since: Instant,
    /// Unbounded: the writer says one thing for each document that ends or lags.
    told: mpsc::UnboundedReceiver<Told>,
    teller: mpsc::UnboundedSender<Told>,
}

enum Document {
    /// Spoken of, but no token came.
    Unauthenticated(Vec<SeatMessage>),
    /// Its token is being checked, or it is being loaded.
    Joining(Vec<SeatMessage>),
    Open(Open),
}

/// What happened beside the socket.
pub enum Event {
    /// A document was joined, or not.
    Joined(Arc<str>, Result<Open, Refusal>),
    /// The writer saw something.
    Told(Told),
}

/// A document that was joined.
pub struct Open {
    handle: ProjectHandle,
    seat: SeatId,
    grant: Grant,
}

impl Documents {
    /// None yet.
    pub fn new(state: AppState, outbox: Outbox) -> Self {
        let (teller, told) = mpsc::unbounded_channel();
        let (documents, joining) = (HashMap::new(), FuturesUnordered::new());
        Self {
            state,
            outbox,
            documents,
            joining,
            queued_bytes: 0,
            since: Instant::now(),
            told,
            teller,
        }
    }

    /// Where the writer reports what it saw.
    pub fn sinks(&self) -> mpsc::UnboundedSender<Told> {
        self.teller.clone()
    }

    /// Takes a frame.
    pub async fn take(&mut self, frame: &Bytes) -> Result<(), Refusal> {
        let (address, message) = match ClientFrame::decode(frame)? {
            CollabFrame::Ping => {
                self.outbox.push(&Arc::from(""), Outgoing::Pong);
                return Ok(());
            }
            CollabFrame::Pong => return Ok(()),
            CollabFrame::Document { address, message } => (address, message),
        };
        let message = match message {
            CollabMessage::Auth(ClientAuth::Token { token, .. }) => {
                self.authenticate(address, token.to_owned()).await;
                return Ok(());
            }
            CollabMessage::Sync(sync) | CollabMessage::SyncReply(sync) => match sync {
                SyncMessage::Step1(body) => SeatMessage::Step1(frame.slice_ref(body)),
                SyncMessage::Step2(body) | SyncMessage::Update(body) => {
                    SeatMessage::Update(frame.slice_ref(body))
                }
            },
            CollabMessage::Awareness(body) => SeatMessage::Awareness(frame.slice_ref(body)),
            CollabMessage::QueryAwareness => SeatMessage::QueryAwareness,
            CollabMessage::Stateless(text) => match stateless(text) {
                Some(message) => message,
                None => return Ok(()),
            },
            CollabMessage::Close { .. } => {
                self.close(address).await;
                return Ok(());
            }
            // What only servers say, and what we do not know.
            CollabMessage::BroadcastStateless(_)
            | CollabMessage::SyncStatus(_)
            | CollabMessage::Unknown(_) => return Ok(()),
        };
        self.deliver(address, message).await
    }

    /// What happened beside the socket; never ends where nothing does. Cancelling loses nothing.
    pub async fn next_event(&mut self) -> Event {
        tokio::select! {
            Some(event) = self.joining.next() => event,
            Some(told) = self.told.recv() => Event::Told(told),
            else => std::future::pending().await,
        }
    }

    /// Goes on after an event.
    pub async fn handle(&mut self, event: Event) {
        match event {
            Event::Joined(address, joined) => self.joined(address, joined).await,
            Event::Told(told) => self.hear(told).await,
        }
    }

    /// Until when the socket may stay as it is: one without a document is of no use.
    pub fn deadline(&self) -> Option<Instant> {
        let waits = |document: &Document| matches!(document, Document::Unauthenticated(_));
        let idle = self.documents.values().all(waits);
        idle.then(|| self.since + FIRST_AUTH)
    }

    /// When the first of the tokens ends.
    pub fn expires_at(&self) -> Option<u64> {
        self.open()
            .filter_map(|(_, open)| open.grant.expires_at)
            .min()
    }

    /// Ends the documents of a revoked token.
    pub fn revoked(&mut self, token: &TokenId) -> Result<(), Refusal> {
        self.refuse_where(|grant| grant.token_id == *token)
    }

    /// Ends the documents of tokens whose time is over.
    pub fn expired(&mut self) -> Result<(), Refusal> {
        let now = (self.state.clock)();
        self.refuse_where(|grant| grant.check_time(now).is_err())
    }

    /// Closes the socket with a reason, once what is queued is sent.
    pub fn end(&self, refusal: Refusal) {
        self.outbox.push(&Arc::from(""), Outgoing::Refused(refusal));
    }

    /// Leaves every seat.
    pub async fn leave(&mut self) {
        // Joins under way take seats that must be left again.
        while let Some(event) = self.joining.next().await {
            if let Event::Joined(address, Ok(open)) = event {
                self.documents.insert(address, Document::Open(open));
            }
        }
        for (_, document) in self.documents.drain() {
            if let Document::Open(open) = document {
                open.handle.leave(open.seat).await;
            }
        }
    }

    async fn authenticate(&mut self, address: Address<'_>, token: String) {
        let key: Arc<str> = address.as_str().into();
        let queued = match self.documents.remove(&key) {
            // A new token on an open document: a new seat, with what the token allows.
            Some(Document::Open(open)) => {
                open.handle.leave(open.seat).await;
                Vec::new()
            }
            Some(Document::Unauthenticated(queued) | Document::Joining(queued)) => queued,
            None => Vec::new(),
        };
        self.documents
            .insert(Arc::clone(&key), Document::Joining(queued));
        let (state, outbox) = (self.state.clone(), self.outbox.clone());
        self.joining.push(Box::pin(async move {
            let joined = join(&state, outbox, &key, &token).await;
            Event::Joined(key, joined)
        }));
    }

    async fn joined(&mut self, address: Arc<str>, joined: Result<Open, Refusal>) {
        let Some(Document::Joining(queued)) = self.documents.remove(&address) else {
            // Closed meanwhile.
            if let Ok(open) = joined {
                open.handle.leave(open.seat).await;
            }
            return;
        };
        self.queued_bytes -= queued.iter().map(cost).sum::<usize>();
        match joined {
            Ok(open) => {
                for message in queued {
                    if !open.handle.message(open.seat, message).await {
                        self.end(stopping());
                    }
                }
                self.documents.insert(address, Document::Open(open));
            }
            Err(refusal) => self.outbox.push(&address, Outgoing::Refused(refusal)),
        }
    }

    async fn deliver(&mut self, address: Address<'_>, message: SeatMessage) -> Result<(), Refusal> {
        let bytes = cost(&message);
        while self.queued_bytes + bytes > MAX_QUEUED_BYTES && !self.joining.is_empty() {
            let event = self.next_event().await;
            self.handle(event).await;
        }
        if !self.documents.contains_key(address.as_str()) {
            let waits = |document: &&Document| matches!(document, Document::Unauthenticated(_));
            if self.documents.values().filter(waits).count() >= MAX_UNAUTHENTICATED {
                return Err(Refusal::Malformed(
                    "too many documents without a token".into(),
                ));
            }
            let waiting = Document::Unauthenticated(Vec::new());
            self.documents.insert(address.as_str().into(), waiting);
        }
        match self.documents.get_mut(address.as_str()) {
            Some(Document::Open(open)) => {
                let taken = open.handle.message(open.seat, message).await;
                return if taken { Ok(()) } else { Err(stopping()) };
            }
            Some(Document::Joining(queued)) => {
                self.queued_bytes += bytes;
                queued.push(message);
            }
            Some(Document::Unauthenticated(queued)) => {
                if self.queued_bytes + bytes > MAX_QUEUED_BYTES || queued.len() >= 1000 {
                    return Err(Refusal::Malformed(
                        "too much was sent before a token".into(),
                    ));
                }
                self.queued_bytes += bytes;
                queued.push(message);
            }
            None => {}
        }
        Ok(())
    }

    async fn close(&mut self, address: Address<'_>) {
        match self.documents.remove(address.as_str()) {
            Some(Document::Open(open)) => open.handle.leave(open.seat).await,
            Some(Document::Joining(queued) | Document::Unauthenticated(queued)) => {
                self.queued_bytes -= queued.iter().map(cost).sum::<usize>();
            }
            None => {}
        }
    }

    async fn hear(&mut self, told: Told) {
        match told {
            Told::Ended(address) => {
                if let Some(Document::Open(open)) = self.documents.remove(&address) {
                    open.handle.leave(open.seat).await;
                }
            }
            Told::CatchUp(seat, name) => {
                let handle = self
                    .open()
                    .find(|(_, open)| open.seat == seat)
                    .map(|(_, open)| open.handle.clone());
                if let Some(handle) = handle {
                    handle.message(seat, SeatMessage::CatchUp(name.text)).await;
                }
            }
        }
    }

    fn refuse_where(&mut self, over: impl Fn(&Grant) -> bool) -> Result<(), Refusal> {
        let over = self.open().filter(|(_, open)| over(&open.grant));
        let over: Vec<_> = over.map(|(address, _)| Arc::clone(address)).collect();
        if !over.is_empty() && over.len() == self.documents.len() {
            return Err(Refusal::Unauthorised);
        }
        for address in over {
            // The writer tells, and reports back: then the seat is left.
            self.outbox
                .push(&address, Outgoing::Refused(Refusal::Unauthorised));
        }
        Ok(())
    }

    fn open(&self) -> impl Iterator<Item = (&Arc<str>, &Open)> {
        self.documents
            .iter()
            .filter_map(|(address, document)| match document {
                Document::Open(open) => Some((address, open)),
                Document::Joining(_) | Document::Unauthenticated(_) => None,
            })
    }
}

async fn join(
    state: &AppState,
    outbox: Outbox,
    address: &Arc<str>,
    token: &str,
) -> Result<Open, Refusal> {
    let name = Address::new(address).document_name()?;
    let grant = state.tokens.verify(token, (state.clock)()).await?;
    grant.allows(&name.project, Access::Read)?;
    let seat = Seat {
        id: SeatId::fresh(),
        address: Arc::clone(address),
        outbox,
        ack: SeatAck::Status,
        may_write: grant.allows(&name.project, Access::Write).is_ok(),
        who: Attribution::of(&grant),
    };
    let id = seat.id;
    let handle = state.projects.join(&name.project, name.text, seat).await?;
    Ok(Open {
        handle,
        seat: id,
        grant,
    })
}

/// One of our stateless messages; others' are not for us.
fn stateless(text: &str) -> Option<SeatMessage> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    if value.get("follow").and_then(|what| what.as_str()) == Some("texts") {
        return Some(SeatMessage::Follow);
    }
    let by: Option<By> = serde_json::from_value(value.get("by")?.clone()).ok()?;
    Some(SeatMessage::By(by))
}

fn cost(message: &SeatMessage) -> usize {
    let body = match message {
        SeatMessage::Step1(body) | SeatMessage::Update(body) | SeatMessage::Awareness(body) => {
            body.len()
        }
        _ => 0,
    };
    // Also what is empty is kept.
    body + size_of::<SeatMessage>()
}
