//! The documents of one `/collab` socket: who is authenticated where, and what waits for that.
//!
//! Invariants: a document has at most one seat; a message waits for its document's token and is
//! then delivered in order, or dropped with the refusal; what waits is bounded; no token that was
//! revoked while a document was being joined opens it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::decoder::{Said, decode};
use super::document::{Document, Joined, Open, cost};
use super::encoder::Told;
use crate::access::{Grant, SocketPlace, TokenId};
use crate::project::SeatMessage;
use crate::refusal::Refusal;
use crate::server::AppState;
use crate::socket;
use crate::subscriber::{Outbox, Outgoing};

/// How long a socket may be without a document.
const IDLE: Duration = Duration::from_secs(60);
/// Documents of one socket: more than anybody opens, and a bound.
const MAX_DOCUMENTS: usize = 10_000;
/// Documents spoken of before their token came, and messages for one of them: Hocuspocus' limits.
const MAX_UNAUTHENTICATED: usize = 100;
const MAX_QUEUED: usize = 1000;
/// Bytes that may wait for tokens and for documents being loaded. For the former more is refused,
/// for the latter more stays in the socket.
const MAX_QUEUED_BYTES: usize = 5 << 20;
/// Documents being joined at a time. More stay in the socket.
const MAX_JOINING: usize = 100;

/// The documents of a socket, by address.
pub struct Documents {
    state: AppState,
    outbox: Outbox,
    documents: HashMap<Arc<str>, Document>,
    joining: FuturesUnordered<BoxFuture<'static, Joined>>,
    attempts: u64,
    queued_bytes: usize,
    /// This socket's place among those of each token in use.
    places: HashMap<TokenId, SocketPlace>,
    /// Tokens that were revoked while documents were being joined.
    revoked: Vec<TokenId>,
    /// When the first of the tokens in use ends.
    expires_at: Option<u64>,
    /// Since when no document is open or being joined.
    idle_since: Option<Instant>,
    was_used: bool,
    /// Unbounded: the writer says one thing for each document that ends or lags.
    told: mpsc::UnboundedReceiver<Told>,
    teller: mpsc::UnboundedSender<Told>,
}

/// What happened beside the socket.
pub enum Event {
    /// A token was looked at, and its document joined.
    Joined(Joined),
    /// The writer saw something.
    Told(Told),
}

impl Documents {
    /// None yet.
    pub fn new(state: AppState, outbox: Outbox) -> Self {
        let (teller, told) = mpsc::unbounded_channel();
        Self {
            state,
            outbox,
            documents: HashMap::new(),
            joining: FuturesUnordered::new(),
            attempts: 0,
            queued_bytes: 0,
            revoked: Vec::new(),
            places: HashMap::new(),
            expires_at: None,
            idle_since: Some(Instant::now()),
            was_used: false,
            told,
            teller,
        }
    }

    /// Where the writer reports what it saw.
    pub fn teller(&self) -> mpsc::UnboundedSender<Told> {
        self.teller.clone()
    }

    /// Whether another frame may be taken before something happened beside the socket.
    pub fn has_room(&self) -> bool {
        self.joining.is_empty()
            || (self.joining.len() < MAX_JOINING && self.queued_bytes < MAX_QUEUED_BYTES)
    }

    /// When a socket of no use is to be closed.
    pub fn deadline(&self) -> Option<Instant> {
        self.idle_since.map(|since| since + IDLE)
    }

    /// What such a socket is told.
    pub fn idle(&self) -> Refusal {
        if self.was_used {
            Refusal::Unavailable("no document is open here: come back with one".into())
        } else {
            Refusal::Unauthorised
        }
    }

    /// When the first of the tokens in use ends.
    pub fn expires_at(&self) -> Option<u64> {
        self.expires_at
    }

    /// Takes a frame.
    pub async fn take(&mut self, frame: &Bytes) -> Result<(), Refusal> {
        match decode(frame)? {
            Said::Ping => self.outbox.push(&Arc::from(""), Outgoing::Pong),
            Said::Token(address, token) => self.authenticate(address, token)?,
            Said::Message(address, message) => self.deliver(address, message).await?,
            Said::Close(address) => self.close(address).await,
            Said::Nothing => {}
        }
        Ok(())
    }

    /// What happened beside the socket; never ends where nothing does. Cancelling loses nothing.
    pub async fn next_event(&mut self) -> Event {
        tokio::select! {
            Some(joined) = self.joining.next() => Event::Joined(joined),
            Some(told) = self.told.recv() => Event::Told(told),
            else => std::future::pending().await,
        }
    }

    /// Goes on after an event.
    pub async fn handle(&mut self, event: Event) -> Result<(), Refusal> {
        match event {
            Event::Joined(joined) => self.joined(joined).await?,
            Event::Told(Told::Ended(address, seat)) => {
                let ended = self.open().find(|(_, open)| open.seat == seat);
                if ended.is_some() {
                    self.forget(&address, Some(Document::Refused)).await;
                }
            }
            Event::Told(Told::CatchUp(seat, name)) => {
                let open = self.open().find(|(_, open)| open.seat == seat);
                if let Some(handle) = open.map(|(_, open)| open.handle.clone()) {
                    handle.message(seat, SeatMessage::CatchUp(name.text)).await;
                }
            }
        }
        Ok(())
    }

    /// Ends the documents of a revoked token, or all if none is left.
    pub async fn revoked(&mut self, token: TokenId) -> Result<(), Refusal> {
        let result = self.refuse_where(|grant| grant.token_id == token).await;
        if !self.joining.is_empty() {
            self.revoked.push(token);
        }
        result
    }

    /// Ends the documents of tokens whose time is over, or all if none is left.
    pub async fn expired(&mut self) -> Result<(), Refusal> {
        let now = (self.state.clock)();
        self.refuse_where(|grant| grant.check_time(now).is_err())
            .await
    }

    /// Says the last thing on the socket.
    pub fn end(&self, reason: Refusal) {
        // A provider takes a socket that closes for a reason to come back, a denial for none.
        let is_denied = reason == Refusal::Unauthorised;
        let open = self.open().filter(|_| is_denied);
        let addresses: Vec<_> = open.map(|(address, _)| Arc::clone(address)).collect();
        self.outbox.end(addresses, reason);
    }

    /// Leaves every seat, those included that are being taken now.
    pub async fn leave(&mut self) {
        for (_, open) in self.open() {
            open.handle.leave(open.seat).await;
        }
        while let Some(joined) = self.joining.next().await {
            if let Ok(open) = joined.result {
                open.handle.leave(open.seat).await;
            }
        }
    }

    fn authenticate(&mut self, address: &str, token: &str) -> Result<(), Refusal> {
        self.attempts += 1;
        let attempt = self.attempts;
        let address = self.entry(address)?;
        let (state, token) = (self.state.clone(), token.to_owned());
        let document = self.documents.get_mut(&address);
        if let Some(Document::Open {
            attempt: newest,
            open,
        }) = document
        {
            *newest = attempt;
            let open = open.clone();
            self.joining.push(Box::pin(async move {
                let result = open.renew(&state, &address, &token).await;
                Joined {
                    address,
                    attempt,
                    result,
                }
            }));
            return Ok(());
        }
        let queued = match document {
            Some(Document::Unauthenticated(queued) | Document::Joining { queued, .. }) => {
                std::mem::take(queued)
            }
            _ => Vec::new(),
        };
        let joining = Document::Joining { attempt, queued };
        self.documents.insert(Arc::clone(&address), joining);
        self.changed();
        let outbox = self.outbox.clone();
        self.joining.push(Box::pin(async move {
            let result = Open::join(&state, outbox, &address, &token).await;
            Joined {
                address,
                attempt,
                result,
            }
        }));
        Ok(())
    }

    async fn joined(&mut self, joined: Joined) -> Result<(), Refusal> {
        let Joined {
            address,
            attempt,
            result,
        } = joined;
        let (newest, seat) = match self.documents.get(&address) {
            Some(Document::Open { attempt, open }) => (Some(*attempt), Some(open.seat)),
            Some(Document::Joining { attempt, .. }) => (Some(*attempt), None),
            _ => (None, None),
        };
        let is_revoked = |open: &Open| self.revoked.contains(&open.grant.token_id);
        let result = match result {
            Ok(open) if newest != Some(attempt) || is_revoked(&open) => {
                // Unless it was only about a newer token for the same seat.
                if seat != Some(open.seat) {
                    open.handle.leave(open.seat).await;
                }
                Err(Refusal::Unauthorised)
            }
            result => result,
        };
        if self.joining.is_empty() {
            self.revoked.clear();
        }
        if newest != Some(attempt) {
            return Ok(());
        }
        let placed = match result {
            Ok(open) => self.place(open).await,
            refused => refused,
        };
        let open = match placed {
            Ok(open) => open,
            Err(refusal) => {
                self.refuse(&address, refusal).await;
                return Ok(());
            }
        };
        self.was_used = true;
        let document = Document::Open {
            attempt,
            open: open.clone(),
        };
        let before = self.documents.insert(address, document);
        self.changed();
        let messages = match before {
            Some(Document::Joining { queued, .. }) => {
                self.queued_bytes -= cost(&queued);
                queued
            }
            _ => vec![open.granted()],
        };
        for message in messages {
            open.deliver(message).await?;
        }
        Ok(())
    }

    /// Takes this socket's place among those of a document's token, or leaves the document.
    async fn place(&mut self, open: Open) -> Result<Open, Refusal> {
        let token = &open.grant.token_id;
        if !self.places.contains_key(token) {
            match socket::place(&self.state, token) {
                Ok(place) => drop(self.places.insert(token.clone(), place)),
                Err(refusal) => {
                    open.handle.leave(open.seat).await;
                    return Err(refusal);
                }
            }
        }
        Ok(open)
    }

    async fn deliver(&mut self, address: &str, message: SeatMessage) -> Result<(), Refusal> {
        let bytes = cost(std::slice::from_ref(&message));
        let address = self.entry(address)?;
        match self.documents.get_mut(&address) {
            Some(Document::Open { open, .. }) => return open.deliver(message).await,
            Some(Document::Joining { queued, .. }) => queued.push(message),
            Some(Document::Unauthenticated(queued)) => {
                if queued.len() >= MAX_QUEUED || self.queued_bytes + bytes > MAX_QUEUED_BYTES {
                    let reason = "too much was sent before a token".into();
                    return Err(Refusal::Malformed(reason));
                }
                queued.push(message);
            }
            Some(Document::Refused) | None => return Ok(()),
        }
        self.queued_bytes += bytes;
        Ok(())
    }

    /// The key of a document, which is noted if it was not spoken of before.
    fn entry(&mut self, address: &str) -> Result<Arc<str>, Refusal> {
        if let Some((address, _)) = self.documents.get_key_value(address) {
            return Ok(Arc::clone(address));
        }
        let waits = |document: &&Document| matches!(document, Document::Unauthenticated(_));
        let waiting = self.documents.values().filter(waits).count();
        if waiting >= MAX_UNAUTHENTICATED || self.documents.len() >= MAX_DOCUMENTS {
            return Err(Refusal::Malformed(
                "too many documents on one socket".into(),
            ));
        }
        let address = Arc::<str>::from(address);
        let document = Document::Unauthenticated(Vec::new());
        self.documents.insert(Arc::clone(&address), document);
        Ok(address)
    }

    async fn close(&mut self, address: &str) {
        if let Some((address, _)) = self.documents.get_key_value(address) {
            self.forget(&Arc::clone(address), None).await;
        }
    }

    async fn refuse(&mut self, address: &Arc<str>, refusal: Refusal) {
        tracing::debug!(address = &**address, %refusal, "a document is refused");
        self.forget(address, Some(Document::Refused)).await;
        self.outbox.push(address, Outgoing::Refused(None, refusal));
    }

    async fn refuse_where(&mut self, over: impl Fn(&Grant) -> bool) -> Result<(), Refusal> {
        let is_used = |document: &&Document| !matches!(document, Document::Refused);
        let used = self.documents.values().filter(is_used).count();
        let over = self.open().filter(|(_, open)| over(&open.grant));
        let over: Vec<_> = over.map(|(address, _)| Arc::clone(address)).collect();
        if !over.is_empty() && over.len() == used {
            return Err(Refusal::Unauthorised);
        }
        for address in over {
            self.refuse(&address, Refusal::Unauthorised).await;
        }
        Ok(())
    }

    /// Leaves a document's seat and drops what waits for it.
    async fn forget(&mut self, address: &Arc<str>, then: Option<Document>) {
        let before = match then {
            Some(document) => self.documents.insert(Arc::clone(address), document),
            None => self.documents.remove(address),
        };
        match before {
            Some(Document::Open { open, .. }) => open.handle.leave(open.seat).await,
            Some(Document::Joining { queued, .. } | Document::Unauthenticated(queued)) => {
                self.queued_bytes -= cost(&queued);
            }
            Some(Document::Refused) | None => {}
        }
        self.changed();
    }

    /// Looks again at what follows from which documents there are.
    fn changed(&mut self) {
        let ends = self.open().filter_map(|(_, open)| open.grant.expires_at);
        self.expires_at = ends.min();
        let documents = &self.documents;
        self.places.retain(|token, _| {
            documents.values().any(|document| match document {
                Document::Open { open, .. } => open.grant.token_id == *token,
                _ => false,
            })
        });
        let counts =
            |document| matches!(document, &Document::Joining { .. } | &Document::Open { .. });
        let is_idle = !self.documents.values().any(counts);
        self.idle_since = is_idle.then(|| self.idle_since.unwrap_or_else(Instant::now));
    }

    fn open(&self) -> impl Iterator<Item = (&Arc<str>, &Open)> {
        let documents = self.documents.iter();
        documents.filter_map(|(address, document)| match document {
            Document::Open { open, .. } => Some((address, open)),
            _ => None,
        })
    }
}
