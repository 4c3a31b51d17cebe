//! From what a connection is owed to frames of Hocuspocus.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use uspark_shared::codec::awareness::EMPTY_AWARENESS;
use uspark_shared::codec::collab::{Address, CollabMessage, ServerAuth, ServerFrame};
use uspark_shared::codec::message::SyncMessage;
use uspark_shared::id::DocumentName;

use crate::refusal::Refusal;
use crate::socket::{Frames, Writing};
use crate::subscriber::{Next, Outgoing, SeatId};

/// What the writer saw, for whoever keeps the seats.
#[derive(Debug)]
pub enum Told {
    /// The owner ended this seat; its client was told so.
    Ended(Arc<str>, SeatId),
    /// This seat is ready for what it missed.
    CatchUp(SeatId, DocumentName),
}

/// Writes frames of Hocuspocus.
pub struct Encoder {
    told: mpsc::UnboundedSender<Told>,
    /// Whom something was last said to.
    address: Arc<str>,
}

impl Encoder {
    /// Reports to `told`.
    pub fn new(told: mpsc::UnboundedSender<Told>) -> Self {
        Self {
            told,
            address: Arc::from(""),
        }
    }

    fn tell(&self, told: Told) {
        // If nobody listens, the socket is ending.
        let _ = self.told.send(told);
    }
}

impl Writing for Encoder {
    /// Awareness of nobody. The provider knows no pong that it did not ask for, and before version
    /// 4 no ping either.
    fn keep_alive(&self) -> Bytes {
        frame(&self.address, CollabMessage::Awareness(EMPTY_AWARENESS))
    }

    async fn frames(&mut self, next: Next) -> Frames {
        let (address, outgoing) = match next {
            Next::Send(address, outgoing) => (address, outgoing),
            Next::CatchUp(seat, name) => {
                self.tell(Told::CatchUp(seat, name));
                return Frames::default();
            }
        };
        let message = match &outgoing {
            Outgoing::Broadcast(broadcast) => {
                let frame = broadcast.collab_frame(&address);
                self.address = address;
                return Frames::one(frame);
            }
            Outgoing::Pong => return Frames::one(ServerFrame::Pong.encode()),
            Outgoing::End(refusal) => return end(refusal.clone()),
            // Its client shall come back, and only a socket that closes makes it do so.
            Outgoing::Refused(_, refusal) if !refusal.is_final() => return end(refusal.clone()),
            Outgoing::Refused(seat, refusal) => {
                let reason = refusal.to_string();
                let denied = ServerAuth::PermissionDenied { reason: &reason };
                let frames = vec![
                    frame(&address, CollabMessage::Auth(denied)),
                    frame(&address, CollabMessage::Close { reason: &reason }),
                ];
                if let Some(seat) = seat {
                    self.tell(Told::Ended(address, *seat));
                }
                return Frames { frames, end: None };
            }
            Outgoing::Authenticated { read_only } => {
                CollabMessage::Auth(ServerAuth::Authenticated {
                    read_only: *read_only,
                })
            }
            Outgoing::Step1(body) => CollabMessage::Sync(SyncMessage::Step1(body)),
            Outgoing::Step2(body) => CollabMessage::Sync(SyncMessage::Step2(body)),
            Outgoing::Status(stored) => CollabMessage::SyncStatus(*stored),
            Outgoing::Stateless(text) => CollabMessage::Stateless(text),
        };
        let frame = frame(&address, message);
        self.address = address;
        Frames::one(frame)
    }
}

fn frame(address: &str, message: CollabMessage<'_, ServerAuth<'_>>) -> Bytes {
    ServerFrame::new(Address::new(address), message)
        .encode()
        .into()
}

fn end(refusal: Refusal) -> Frames {
    Frames {
        frames: Vec::new(),
        end: Some(refusal),
    }
}
