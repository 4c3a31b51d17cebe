//! What a connection is owed, and the bound on it.
//!
//! Owners push, one connection pulls. Control messages (answers, acknowledgements, refusals) are
//! never dropped; document updates that no longer fit are replaced by one catch-up diff, taken when
//! the connection has caught its breath. So a slow reader costs bounded memory and sees no gap.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uspark_shared::codec::collab::{Address, CollabMessage, ServerFrame};
use uspark_shared::codec::message::{Message, SyncMessage};
use uspark_shared::id::DocumentName;

use crate::metrics::{Held, Metrics};
use crate::refusal::Refusal;

/// One connection's seat at one document. Unique in the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeatId(u64);

impl SeatId {
    /// An id nobody has.
    pub fn fresh() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A document message that many connections get, encoded once for each framing, by whoever sends
/// it first.
#[derive(Debug)]
pub struct Broadcast {
    document: DocumentName,
    kind: BroadcastKind,
    payload: Bytes,
    websocket: OnceLock<Bytes>,
    collab: OnceLock<Bytes>,
}

/// What a [`Broadcast`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BroadcastKind {
    /// An update of the document.
    Update,
    /// The body of an awareness message.
    Awareness,
}

/// One thing to send on a connection.
#[derive(Debug, Clone)]
pub enum Outgoing {
    /// An update or awareness that others get too.
    Broadcast(Arc<Broadcast>),
    /// The seat is taken, on `/collab` only.
    Authenticated {
        /// Whether its updates will be refused.
        read_only: bool,
    },
    /// The server's state vector: "send me what I lack".
    Step1(Bytes),
    /// The answer to the client's SyncStep1.
    Step2(Bytes),
    /// Whether one received update is durable (`false`: it was refused).
    Status(bool),
    /// The answer to a ping, on `/collab` only.
    Pong,
    /// A JSON text of ours, on `/collab` only.
    Stateless(String),
    /// The document is over for this seat; without one, for a client that never had a seat.
    Refused(Option<SeatId>, Refusal),
    /// The connection is over.
    End(Refusal),
}

/// What a connection should do next.
#[derive(Debug)]
pub enum Next {
    /// Send this to the seat with this address.
    Send(Arc<str>, Outgoing),
    /// Ask the owner to call [`Outbox::caught_up`] for this seat.
    CatchUp(SeatId, DocumentName),
}

/// The queue of one connection; cheap to clone.
#[derive(Debug, Clone)]
pub struct Outbox(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// Something was queued. One task waits for it.
    wake: Notify,
    /// Something was taken. One task waits for it.
    room: Notify,
    closed: CancellationToken,
    /// Bytes of document updates that may wait. More become a catch-up diff.
    capacity: usize,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<(Arc<str>, Outgoing)>,
    /// What `queue` costs.
    bytes: Held,
    /// Seats whose updates no longer fitted, with the state vector they have up to there.
    lagging: HashMap<(SeatId, DocumentName), Lag>,
    closed: bool,
}

#[derive(Debug)]
struct Lag {
    since: Bytes,
    asked: bool,
}

impl Broadcast {
    /// Wraps a payload for sending.
    pub fn new(document: DocumentName, kind: BroadcastKind, payload: Bytes) -> Arc<Self> {
        Arc::new(Self {
            document,
            kind,
            payload,
            websocket: OnceLock::new(),
            collab: OnceLock::new(),
        })
    }

    /// The update, if it is one.
    pub fn update(&self) -> Option<&Bytes> {
        (self.kind == BroadcastKind::Update).then_some(&self.payload)
    }

    /// The frame of `/ws`.
    pub fn websocket_frame(&self) -> Bytes {
        let encode = || match self.kind {
            BroadcastKind::Update => Message::Sync(SyncMessage::Update(&self.payload)).encode(),
            BroadcastKind::Awareness => Message::Awareness(&self.payload).encode(),
        };
        self.websocket.get_or_init(|| encode().into()).clone()
    }

    /// The frame of `/collab` for an address of its document.
    pub fn collab_frame(&self, address: &str) -> Bytes {
        let encode = |address: &str| {
            let message = match self.kind {
                BroadcastKind::Update => CollabMessage::Sync(SyncMessage::Update(&self.payload)),
                BroadcastKind::Awareness => CollabMessage::Awareness(&self.payload),
            };
            Bytes::from(ServerFrame::new(Address::new(address), message).encode())
        };
        // Only providers that share a socket and a document have addresses of their own.
        if address.contains('\0') {
            return encode(address);
        }
        self.collab
            .get_or_init(|| encode(&self.document.to_string()))
            .clone()
    }
}

impl Outgoing {
    fn cost(&self) -> usize {
        match self {
            Self::Broadcast(broadcast) => broadcast.payload.len(),
            Self::Step1(bytes) | Self::Step2(bytes) => bytes.len(),
            Self::Stateless(text) => text.len(),
            Self::Authenticated { .. } | Self::Status(_) | Self::Pong => 0,
            Self::Refused(..) | Self::End(_) => 0,
        }
    }
}

impl Outbox {
    /// A queue in which `capacity` bytes of document updates may wait.
    pub fn new(capacity: usize) -> Self {
        Self::measured(capacity, Arc::default())
    }

    /// The same; what waits, and what is refused, is counted.
    pub fn measured(capacity: usize, metrics: Arc<Metrics>) -> Self {
        let state = State {
            bytes: metrics.queued(),
            ..State::default()
        };
        Self(Arc::new(Inner {
            state: Mutex::new(state),
            wake: Notify::new(),
            room: Notify::new(),
            closed: CancellationToken::new(),
            capacity,
            metrics,
        }))
    }

    /// Whether two handles are of one connection.
    pub fn is(&self, other: &Outbox) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Queues a control message.
    pub fn push(&self, address: &Arc<str>, outgoing: Outgoing) {
        let mut state = self.state();
        if !state.closed {
            if let Outgoing::Refused(_, refusal) = &outgoing {
                self.0.metrics.socket_refused(refusal);
            }
            state.add(outgoing.cost());
            state.queue.push_back((Arc::clone(address), outgoing));
            self.0.wake.notify_one();
        }
    }

    /// Queues a broadcast, or notes that the seat lags.
    ///
    /// `since` is a state vector of the document that the seat is known to have.
    pub fn push_broadcast(
        &self,
        seat: SeatId,
        address: &Arc<str>,
        broadcast: &Arc<Broadcast>,
        since: &Bytes,
    ) {
        let mut state = self.state();
        let key = (seat, broadcast.document.clone());
        if state.closed || state.lagging.contains_key(&key) {
            return;
        }
        let cost = broadcast.payload.len();
        if state.bytes.get() + cost > self.0.capacity && !state.queue.is_empty() {
            // Awareness is repeated by its client; an update is made up for.
            if broadcast.kind == BroadcastKind::Update {
                let since = since.clone();
                state.lagging.insert(
                    key,
                    Lag {
                        since,
                        asked: false,
                    },
                );
            }
            return;
        }
        state.add(cost);
        let outgoing = Outgoing::Broadcast(Arc::clone(broadcast));
        state.queue.push_back((Arc::clone(address), outgoing));
        self.0.wake.notify_one();
    }

    /// Ends a seat's lag with the diff since the state that it has, computed by `diff`; `false` if
    /// there is none, and so a gap.
    pub fn caught_up(
        &self,
        (seat, document): (SeatId, DocumentName),
        address: &Arc<str>,
        diff: impl FnOnce(&Bytes) -> Option<Arc<Broadcast>>,
    ) -> bool {
        let Some(lag) = self.state().lagging.remove(&(seat, document)) else {
            return true;
        };
        let Some(broadcast) = diff(&lag.since) else {
            return false;
        };
        self.push(address, Outgoing::Broadcast(broadcast));
        true
    }

    /// Whether updates of a document no longer fitted for a seat, and it has not caught up.
    pub fn lags(&self, seat: SeatId, document: &DocumentName) -> bool {
        let key = (seat, document.clone());
        self.state().lagging.contains_key(&key)
    }

    /// Forgets a seat that was left.
    pub fn leave(&self, seat: SeatId) {
        self.state().lagging.retain(|(other, _), _| *other != seat);
    }

    /// The next thing to do; `None` once closed and empty.
    pub async fn next(&self) -> Option<Next> {
        loop {
            let woken = self.0.wake.notified();
            if let Some(next) = self.take() {
                return next;
            }
            woken.await;
        }
    }

    /// Whether there is nothing to do now.
    pub fn is_idle(&self) -> bool {
        self.state().queue.is_empty()
    }

    /// Waits until the queue is at most half full: what a reader does before it takes more work in.
    pub async fn has_room(&self) {
        loop {
            let taken = self.0.room.notified();
            {
                let state = self.state();
                if state.closed || state.bytes.get() <= self.0.capacity / 2 {
                    return;
                }
            }
            taken.await;
        }
    }

    /// Takes no more, and lets [`Outbox::next`] end when what is queued is gone.
    pub fn close(&self) {
        self.state().closed = true;
        self.0.wake.notify_one();
        self.0.room.notify_one();
        self.0.closed.cancel();
    }

    /// Drops what is queued, tells these addresses and then the connection that they are over, and
    /// takes no more.
    pub fn end(&self, addresses: impl IntoIterator<Item = Arc<str>>, reason: Refusal) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        state.closed = true;
        state.lagging.clear();
        state.bytes.set(0);
        self.0.metrics.socket_refused(&reason);
        let refused = |address| (address, Outgoing::Refused(None, reason.clone()));
        state.queue = addresses.into_iter().map(refused).collect();
        state
            .queue
            .push_back((Arc::from(""), Outgoing::End(reason)));
        self.0.wake.notify_one();
        self.0.room.notify_one();
    }

    /// Waits until somebody closed it.
    pub async fn closed(&self) {
        self.0.closed.cancelled().await;
    }

    fn take(&self) -> Option<Option<Next>> {
        let mut state = self.state();
        if state.bytes.get() <= self.0.capacity / 2
            && let Some(((seat, document), lag)) =
                state.lagging.iter_mut().find(|(_, lag)| !lag.asked)
        {
            lag.asked = true;
            return Some(Some(Next::CatchUp(*seat, document.clone())));
        }
        match state.queue.pop_front() {
            Some((address, outgoing)) => {
                let left = state.bytes.get() - outgoing.cost();
                state.bytes.set(left);
                self.0.room.notify_one();
                Some(Some(Next::Send(address, outgoing)))
            }
            None if state.closed => Some(None),
            None => None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(bytes: &'static [u8]) -> Arc<Broadcast> {
        Broadcast::new("p/d".parse().unwrap(), BroadcastKind::Update, bytes.into())
    }

    #[tokio::test]
    async fn what_does_not_fit_becomes_one_catch_up_and_nothing_else_is_lost() {
        let outbox = Outbox::new(10);
        let (seat, address) = (SeatId::fresh(), Arc::<str>::from("p/d"));
        let since = Bytes::from("sv");
        let push = |bytes| outbox.push_broadcast(seat, &address, &update(bytes), &since);
        push(b"12345678");
        push(b"too much");
        push(b"x");
        outbox.push(&address, Outgoing::Status(true));
        assert!(matches!(
            outbox.next().await,
            Some(Next::Send(_, Outgoing::Broadcast(_)))
        ));
        assert!(matches!(outbox.next().await, Some(Next::CatchUp(s, _)) if s == seat));
        let caught_up = outbox.caught_up((seat, "p/d".parse().unwrap()), &address, |since| {
            assert_eq!(since, "sv");
            Some(update(b"diff"))
        });
        assert!(caught_up);
        push(b"after");
        assert!(matches!(
            outbox.next().await,
            Some(Next::Send(_, Outgoing::Status(true)))
        ));
        for expected in ["diff", "after"] {
            let Some(Next::Send(_, Outgoing::Broadcast(b))) = outbox.next().await else {
                panic!("an update")
            };
            assert_eq!(b.payload, expected);
        }
        outbox.close();
        assert!(outbox.next().await.is_none());
    }

    #[tokio::test]
    async fn an_end_comes_before_what_is_queued_and_nothing_after_it() {
        let outbox = Outbox::new(10);
        let (seat, address) = (SeatId::fresh(), Arc::<str>::from("p/d"));
        for _ in 0..3 {
            outbox.push_broadcast(seat, &address, &update(b"12345678"), &Bytes::new());
        }
        outbox.end([Arc::clone(&address)], Refusal::Unauthorised);
        outbox.push(&address, Outgoing::Status(true));
        assert!(matches!(
            outbox.next().await,
            Some(Next::Send(a, Outgoing::Refused(None, Refusal::Unauthorised))) if a == address
        ));
        assert!(matches!(
            outbox.next().await,
            Some(Next::Send(_, Outgoing::End(Refusal::Unauthorised)))
        ));
        assert!(outbox.next().await.is_none());
        outbox.has_room().await;
    }

    #[test]
    fn a_broadcast_is_encoded_once_for_each_framing() {
        let broadcast = update(b"u");
        assert_eq!(broadcast.websocket_frame().as_ref(), [0, 2, 1, b'u']);
        let frame = broadcast.collab_frame("p/d");
        assert_eq!(frame.as_ref(), [3, b'p', b'/', b'd', 0, 2, 1, b'u']);
        assert_eq!(frame.as_ptr(), broadcast.collab_frame("p/d").as_ptr());
        assert_eq!(broadcast.collab_frame("p/d\0s").first(), Some(&5));
    }
}
