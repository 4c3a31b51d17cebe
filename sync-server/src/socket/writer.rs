//! The writing half of a socket.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::Bytes;
use futures_util::SinkExt as _;
use futures_util::stream::SplitSink;
use tokio::time::{MissedTickBehavior, timeout};

use crate::refusal::Refusal;
use crate::subscriber::{Next, Outbox};

/// How often a peer is pinged, and told something where nothing else was since the last time:
/// stable y-websocket reconnects after 30 s without a message, and sees no WebSocket ping.
const TICK: Duration = Duration::from_secs(10);
/// How long one write may take: a peer that reads nothing for so long is dead.
const WRITE: Duration = Duration::from_secs(30);
/// Longest reason in a close frame, in bytes.
const MAX_REASON: usize = 123;

/// How one framing writes.
pub trait Writing: Send + 'static {
    /// A frame that says nothing.
    fn keep_alive(&self) -> Bytes;

    /// The frames for something from the outbox.
    fn frames(&mut self, next: Next) -> impl Future<Output = Frames> + Send;
}

/// Frames, each one message.
#[derive(Debug, Default)]
pub struct Frames {
    /// What is written, in order.
    pub frames: Vec<Bytes>,
    /// What the socket closes with after them.
    pub end: Option<Refusal>,
}

/// The peer is gone, or reads nothing.
struct Gone;

struct Writer<W> {
    sink: SplitSink<WebSocket, Message>,
    writing: W,
}

/// Closes the socket's queue when its writer ends: it also fails, and is aborted.
struct Closing(Outbox);

/// Writes what the outbox holds, until it is closed and empty.
pub(super) async fn write(
    sink: SplitSink<WebSocket, Message>,
    outbox: Outbox,
    writing: impl Writing,
) {
    let closing = Closing(outbox);
    let writer = Writer { sink, writing };
    if let Err(Gone) = writer.run(&closing.0).await {
        tracing::debug!("a socket takes nothing more");
    }
}

/// What a socket closes with.
pub(super) fn close_frame(refusal: &Refusal) -> CloseFrame {
    let mut reason = refusal.to_string();
    reason.truncate(reason.floor_char_boundary(MAX_REASON));
    CloseFrame {
        code: refusal.close_code(),
        reason: reason.into(),
    }
}

impl Frames {
    /// One frame.
    pub fn one(frame: impl Into<Bytes>) -> Self {
        Self {
            frames: vec![frame.into()],
            end: None,
        }
    }
}

impl<W: Writing> Writer<W> {
    async fn run(mut self, outbox: &Outbox) -> Result<(), Gone> {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut spoke = true;
        loop {
            let next = tokio::select! {
                next = outbox.next() => next,
                _ = ticks.tick() => {
                    if !spoke {
                        self.feed(Message::Binary(self.writing.keep_alive())).await?;
                    }
                    spoke = false;
                    self.feed(Message::Ping(Bytes::new())).await?;
                    self.flush().await?;
                    continue;
                }
            };
            let Some(next) = next else {
                return self.close(None).await;
            };
            let Frames { frames, end } = self.writing.frames(next).await;
            spoke |= !frames.is_empty();
            for frame in frames {
                self.feed(Message::Binary(frame)).await?;
            }
            if let Some(refusal) = end {
                return self.close(Some(close_frame(&refusal))).await;
            }
            // In batches while behind, at once while not.
            if outbox.is_idle() {
                self.flush().await?;
            }
        }
    }

    async fn feed(&mut self, message: Message) -> Result<(), Gone> {
        in_time(self.sink.feed(message)).await
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        in_time(self.sink.flush()).await
    }

    async fn close(mut self, frame: Option<CloseFrame>) -> Result<(), Gone> {
        in_time(self.sink.send(Message::Close(frame))).await
    }
}

async fn in_time(write: impl Future<Output = Result<(), axum::Error>>) -> Result<(), Gone> {
    match timeout(WRITE, write).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(Gone),
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}
