//! What both kinds of sockets share: their life, from upgrade to close.
//!
//! Owns: accepting, reading frames, noticing that a peer is gone or that its token no longer
//! counts, and the last words. Must not do: know what a frame says.
//!
//! One task reads and one writes. The reader takes no frame while much waits to be written
//! (backpressure); the writer says something at least every 20 s.
//!
//! Invariants:
//! - A socket that is to end does so within a second, also when its peer reads nothing.
//! - When a socket's writer ends, for whatever reason, so does the socket.

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod watch;
mod writer;

use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream::SplitStream;
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite;
use uspark_shared::codec::DecodeError;

use crate::access::{SocketPlace, Token, TokenId};
use crate::metrics::Held;
use crate::refusal::Refusal;
use crate::server::AppState;
use crate::subscriber::Outbox;

pub use watch::{Over, Watch};
pub use writer::{Frames, Writing};

/// How long a peer may be silent. It answers pings, which come every 10 s.
const DEAD: Duration = Duration::from_secs(60);
/// How long saying the last thing may take, and as long again hearing that it arrived.
const LAST_WORDS: Duration = Duration::from_millis(450);
/// What a socket holds to read into, in bytes: enough for what people type. A longer frame gets room of its own; by
/// itself each connection would hold 128 KiB, idle or not.
const READ_BUFFER: usize = 4 << 10;
/// Bytes of a frame beside the update in it: types, lengths, an address.
const ENVELOPE: u64 = 1024;

/// Accepts a socket; `serve` runs in a task of the server's.
///
/// What is no WebSocket request is refused as HTTP. A client that asked for a subprotocol gets one
/// of those it named: browsers hang up otherwise. `counted` is held until the socket has ended.
pub fn accept<F>(
    state: &AppState,
    headers: &HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    counted: Held,
    serve: impl FnOnce(WebSocket) -> F + Send + 'static,
) -> Response
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => {
            let reason = format!("only WebSockets are served here: {rejection}");
            return Refusal::Malformed(reason).into_response();
        }
    };
    let offered: Vec<&str> = subprotocols(headers).collect();
    let is_token = |name: &&&str| name.parse::<Token>().is_ok();
    if let Some(name) = offered
        .iter()
        .find(|name| !is_token(name))
        .or(offered.first())
    {
        upgrade = upgrade.protocols([(*name).to_owned()]);
    }
    // What is somewhat too large is read, so that its sender can be told; more cuts the socket.
    let longest = usize::try_from(state.limits.max_update_bytes.saturating_mul(2));
    let longest = longest
        .unwrap_or(usize::MAX)
        .saturating_add(ENVELOPE as usize);
    let tasks = state.tasks.clone();
    upgrade
        .max_message_size(longest)
        .max_frame_size(longest)
        .read_buffer_size(READ_BUFFER)
        .on_upgrade(move |socket| async move {
            // Tracked, so that stopping waits for its last words.
            if let Err(error) = tasks.spawn(serve(socket)).await {
                tracing::error!(%error, "a socket's task failed");
            }
            drop(counted);
        })
}

/// The subprotocols that a client named.
pub fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    texts
        .flat_map(|text| text.split(',').map(str::trim))
        .filter(|name| !name.is_empty())
}

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

/// The reading half of a socket.
pub struct Reading {
    stream: SplitStream<WebSocket>,
    outbox: Outbox,
    /// Longest update, in bytes.
    limit: u64,
    /// When the peer was last heard of.
    heard: Instant,
}

/// A socket that is being served.
pub struct Served {
    /// What it says.
    pub reading: Reading,
    writer: JoinHandle<()>,
}

impl Served {
    /// Starts to write what `outbox` holds, as `writing` puts it into frames.
    pub fn start(
        state: &AppState,
        socket: WebSocket,
        outbox: &Outbox,
        writing: impl Writing,
    ) -> Self {
        let (sink, stream) = socket.split();
        let writer = state
            .tasks
            .spawn(writer::write(sink, outbox.clone(), writing));
        let reading = Reading {
            stream,
            outbox: outbox.clone(),
            limit: state.limits.max_update_bytes,
            heard: Instant::now(),
        };
        Self { reading, writer }
    }

    /// Lets the socket end, once its outbox was ended or its peer is gone.
    pub async fn finish(self) {
        let Self {
            reading,
            mut writer,
        } = self;
        reading.outbox.close();
        match timeout(LAST_WORDS, &mut writer).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "a socket's writer failed"),
            // The peer reads nothing.
            Err(_) => writer.abort(),
        }
        hear_out(reading.stream).await;
    }
}

impl Reading {
    /// The next frame, as soon as there is room for its consequences. Cancelling loses nothing.
    pub async fn next(&mut self) -> Incoming {
        if self.outbox.has_room().now_or_never().is_none() {
            self.outbox.has_room().await;
            // Nobody listened meanwhile.
            self.heard = Instant::now();
        }
        loop {
            let Ok(message) = timeout_at(self.heard + DEAD, self.stream.next()).await else {
                return Incoming::Gone;
            };
            self.heard = Instant::now();
            return match message {
                Some(Ok(Message::Binary(frame))) if frame.len() as u64 > self.limit + ENVELOPE => {
                    Incoming::Refused(Refusal::TooLarge(self.limit))
                }
                Some(Ok(Message::Binary(frame))) => Incoming::Frame(frame),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Text(_))) => {
                    Incoming::Refused(Refusal::Malformed("frames are binary".into()))
                }
                Some(Ok(Message::Close(_))) | None => Incoming::Gone,
                Some(Err(error)) => self.broken(error),
            };
        }
    }

    fn broken(&self, error: axum::Error) -> Incoming {
        use tungstenite::Error;
        match error.into_inner().downcast().map(|error| *error) {
            Ok(Error::Capacity(_)) => Incoming::Refused(Refusal::TooLarge(self.limit)),
            Ok(Error::Utf8(_)) => Incoming::Refused(Refusal::Malformed("frames are binary".into())),
            Ok(error @ Error::Protocol(_)) => {
                tracing::debug!(%error, "a socket broke");
                Incoming::Gone
            }
            _ => Incoming::Gone,
        }
    }
}

/// Closes a socket that was never served, so that a browser can tell why.
pub async fn turn_away(mut socket: WebSocket, first: Option<Bytes>, refusal: &Refusal) {
    let close = Message::Close(Some(writer::close_frame(refusal)));
    let told = async {
        if let Some(first) = first {
            socket.send(Message::Binary(first)).await?;
        }
        socket.send(close).await
    };
    // The peer may be gone already; then there is nobody to tell.
    let _ = timeout(LAST_WORDS, told).await;
    hear_out(socket).await;
}

/// Takes what still comes, up to the peer's own close frame: were it left unread, the connection
/// would be reset, and our last words with it.
async fn hear_out(mut stream: impl Stream<Item = Result<Message, axum::Error>> + Unpin) {
    let heard = async { while let Some(Ok(_)) = stream.next().await {} };
    let _ = timeout(LAST_WORDS, heard).await;
}

/// Takes the place of a socket of this token.
pub fn place(state: &AppState, token: &TokenId) -> Result<SocketPlace, Refusal> {
    let place = state.usage.socket(token);
    place.ok_or(Refusal::TooMany {
        what: "this token has as many sockets open as it may",
        retry_after: 1,
    })
}

/// What a socket that may come back is told.
pub fn come_back() -> Refusal {
    Refusal::Unavailable("the server is stopping or busy: come back".into())
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(format!("malformed frame: {error}"))
    }
}
