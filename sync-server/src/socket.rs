//! What both kinds of sockets share: their life, from upgrade to close.
//!
//! One task reads, one writes. The reader takes no frame while too much waits to be written
//! (backpressure); the writer says something at least every 20 s.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::broadcast;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;
use tokio_util::sync::CancellationToken;
use uspark_shared::codec::DecodeError;

use crate::access::{Grant, TokenId};
use crate::refusal::Refusal;
use crate::subscriber::{Next, Outbox};

/// How often a peer is pinged, and told something where nothing else was since the last time:
/// stable y-websocket reconnects after 30 s without a message, and sees no WebSocket ping.
const TICK: Duration = Duration::from_secs(10);
/// How long a peer may be silent: it answers pings.
const DEAD: Duration = Duration::from_secs(60);
/// How long one write may take: a peer that reads nothing for so long is dead.
const WRITE: Duration = Duration::from_secs(30);
/// Longest reason in a close frame, in bytes.
const MAX_REASON: usize = 123;

/// What came in.
#[derive(Debug)]
pub enum Incoming {
    /// A frame.
    Frame(Bytes),
    /// What cannot be a frame; the socket should close with it.
    Refused(Refusal),
    /// The peer is gone.
    Gone,
}

/// The reading half.
pub struct Reading {
    stream: SplitStream<WebSocket>,
    outbox: Outbox,
    /// Longest message, in bytes.
    limit: u64,
}

/// How a socket ends.
#[derive(Debug)]
pub enum End {
    /// Somebody else ended it.
    Quietly,
    /// With this close code and reason.
    With(Refusal),
}

/// Splits a socket into a reader and the future that writes.
///
/// `frames` turns what the outbox holds into frames; its end is the socket's.
pub fn split<W: Writing>(
    socket: WebSocket,
    outbox: &Outbox,
    limit: u64,
    writing: W,
) -> (Reading, impl Future<Output = ()> + Send + 'static + use<W>) {
    let (sink, stream) = socket.split();
    let writer = write(sink, outbox.clone(), writing);
    (
        Reading {
            stream,
            outbox: outbox.clone(),
            limit,
        },
        writer,
    )
}

/// How one framing writes.
pub trait Writing: Send + 'static {
    /// A frame that says nothing.
    fn keep_alive(&self) -> Bytes;

    /// The frames for something from the outbox; an [`End`] closes the socket after them.
    fn frames(&mut self, next: Next) -> impl Future<Output = (Vec<Bytes>, Option<End>)> + Send;
}

impl Reading {
    /// The next frame. Cancelling loses nothing.
    pub async fn next(&mut self) -> Incoming {
        self.outbox.has_room().await;
        loop {
            let Ok(message) = timeout(DEAD, self.stream.next()).await else {
                return Incoming::Gone;
            };
            return match message {
                Some(Ok(Message::Binary(bytes))) => Incoming::Frame(bytes),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Text(_))) => {
                    Incoming::Refused(Refusal::Malformed("frames are binary".into()))
                }
                Some(Ok(Message::Close(_))) | None => Incoming::Gone,
                Some(Err(error)) => match error.into_inner().downcast::<tungstenite::Error>() {
                    Ok(error) if matches!(*error, tungstenite::Error::Capacity(_)) => {
                        Incoming::Refused(Refusal::TooLarge(self.limit))
                    }
                    _ => Incoming::Gone,
                },
            };
        }
    }
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(format!("malformed frame: {error}"))
    }
}

async fn write<W: Writing>(
    mut sink: SplitSink<WebSocket, Message>,
    outbox: Outbox,
    mut writing: W,
) {
    let mut ticks = tokio::time::interval(TICK);
    let mut spoke = true;
    let end = loop {
        let next = tokio::select! {
            next = outbox.next() => next,
            _ = ticks.tick() => {
                let quiet = (!spoke).then(|| Message::Binary(writing.keep_alive()));
                spoke = false;
                if !send(&mut sink, quiet.into_iter().chain([Message::Ping(Bytes::new())])).await {
                    break End::Quietly;
                }
                continue;
            }
        };
        let Some(next) = next else { break End::Quietly };
        let (frames, end) = writing.frames(next).await;
        spoke |= !frames.is_empty();
        for frame in frames {
            if !matches!(
                timeout(WRITE, sink.feed(Message::Binary(frame))).await,
                Ok(Ok(()))
            ) {
                return;
            }
        }
        if let Some(end) = end {
            break end;
        }
        // In batches while behind, at once while not.
        if outbox.is_idle() && !matches!(timeout(WRITE, sink.flush()).await, Ok(Ok(()))) {
            return;
        }
    };
    let close = match end {
        End::Quietly => None,
        End::With(refusal) => Some(close_frame(&refusal)),
    };
    // The peer may be gone already.
    let _ = timeout(WRITE, sink.send(Message::Close(close))).await;
    outbox.close();
}

async fn send(
    sink: &mut SplitSink<WebSocket, Message>,
    messages: impl Iterator<Item = Message>,
) -> bool {
    for message in messages {
        if !matches!(timeout(WRITE, sink.send(message)).await, Ok(Ok(()))) {
            return false;
        }
    }
    true
}

fn close_frame(refusal: &Refusal) -> CloseFrame {
    let mut reason = refusal.to_string();
    let mut cut = reason.len().min(MAX_REASON);
    while !reason.is_char_boundary(cut) {
        cut -= 1;
    }
    reason.truncate(cut);
    CloseFrame {
        code: refusal.close_code(),
        reason: reason.into(),
    }
}

/// Closes a socket that was never served, so that a browser can tell why.
pub async fn turn_away(mut socket: WebSocket, first: Bytes, refusal: &Refusal) {
    // The peer may be gone already; then there is nobody to tell.
    let _ = timeout(WRITE, socket.send(Message::Binary(first))).await;
    let _ = timeout(
        WRITE,
        socket.send(Message::Close(Some(close_frame(refusal)))),
    )
    .await;
    // Its close frame, so that ours arrives before the connection is reset.
    let _ = timeout(Duration::from_secs(1), async {
        while let Some(Ok(_)) = socket.recv().await {}
    })
    .await;
}

/// Longest that a token's end is waited for at a time: the clock may be set meanwhile.
const CLOCK_CHECK: Duration = Duration::from_secs(60);

/// Watches over the right to be connected.
pub struct Watch {
    revoked: broadcast::Receiver<TokenId>,
    clock: fn() -> u64,
    stopping: CancellationToken,
}

/// Why a token no longer counts, or that everything ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Over {
    /// This token was revoked.
    Revoked(TokenId),
    /// Revocations were missed: every token must be looked at again.
    Missed,
    /// Some token's time is over.
    Expired,
    /// The server stops.
    Stopping,
}

impl Watch {
    /// `revoked` was taken before the token was looked at.
    pub fn new(
        revoked: broadcast::Receiver<TokenId>,
        clock: fn() -> u64,
        stopping: CancellationToken,
    ) -> Self {
        Self {
            revoked,
            clock,
            stopping,
        }
    }

    /// Waits for the next thing that ends something; `expires_at` is in milliseconds since 1970.
    pub async fn over(&mut self, expires_at: Option<u64>) -> Over {
        tokio::select! {
            revoked = self.revoked.recv() => match revoked {
                Ok(id) => Over::Revoked(id),
                Err(broadcast::error::RecvError::Lagged(_)) => Over::Missed,
                // The server is going.
                Err(broadcast::error::RecvError::Closed) => Over::Stopping,
            },
            () = until(expires_at, self.clock) => Over::Expired,
            () = self.stopping.cancelled() => Over::Stopping,
        }
    }

    /// The same for a socket with a single token.
    pub async fn over_for(&mut self, grant: &Grant) -> Refusal {
        loop {
            match self.over(grant.expires_at).await {
                Over::Revoked(id) if id != grant.token_id => {}
                Over::Revoked(_) | Over::Expired => return Refusal::Unauthorised,
                // Its client comes back, and is looked at again.
                Over::Missed | Over::Stopping => return stopping(),
            }
        }
    }
}

/// What a socket that may come back is told.
pub fn stopping() -> Refusal {
    Refusal::Unavailable("the server is stopping or busy: come back".into())
}

async fn until(end: Option<u64>, clock: fn() -> u64) {
    let Some(end) = end else {
        return std::future::pending().await;
    };
    loop {
        let left = end.saturating_sub(clock());
        if left == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(left).min(CLOCK_CHECK)).await;
    }
}
