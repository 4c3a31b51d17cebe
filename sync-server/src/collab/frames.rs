//! From what a connection is owed to frames of Hocuspocus.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use uspark_shared::codec::collab::{Address, CollabFrame, CollabMessage, ServerAuth, ServerFrame};
use uspark_shared::codec::message::SyncMessage;
use uspark_shared::id::DocumentName;

use crate::socket::{End, Writing};
use crate::subscriber::{Next, Outgoing, SeatId};

/// What the writer saw, for whoever keeps the seats.
#[derive(Debug)]
pub enum Told {
    /// The document of this address is over.
    Ended(Arc<str>),
    /// This seat is ready for what it missed.
    CatchUp(SeatId, DocumentName),
}

/// Writes frames of Hocuspocus.
pub struct Frames {
    told: mpsc::UnboundedSender<Told>,
}

impl Frames {
    /// Reports to `told`.
    pub fn new(told: mpsc::UnboundedSender<Told>) -> Self {
        Self { told }
    }
}

impl Writing for Frames {
    fn keep_alive(&self) -> Bytes {
        // The provider reconnects on its own when it hears nothing: a pong is for no document.
        ServerFrame::Pong.encode().into()
    }

    async fn frames(&mut self, next: Next) -> (Vec<Bytes>, Option<End>) {
        let (address, outgoing) = match next {
            Next::Send(address, outgoing) => (address, outgoing),
            Next::CatchUp(seat, name) => {
                // If nobody listens, the socket is ending.
                let _ = self.told.send(Told::CatchUp(seat, name));
                return (Vec::new(), None);
            }
        };
        let frame =
            |message| Bytes::from(ServerFrame::new(Address::new(&address), message).encode());
        let frame = match outgoing {
            Outgoing::Broadcast(broadcast) => broadcast.collab_frame(&address),
            Outgoing::Authenticated { read_only } => {
                frame(CollabMessage::Auth(ServerAuth::Authenticated { read_only }))
            }
            Outgoing::Step1(body) => frame(CollabMessage::Sync(SyncMessage::Step1(&body))),
            Outgoing::Step2(body) => frame(CollabMessage::Sync(SyncMessage::Step2(&body))),
            Outgoing::Status(stored) => frame(CollabMessage::SyncStatus(stored)),
            Outgoing::Stateless(text) => frame(CollabMessage::Stateless(&text)),
            Outgoing::Pong => CollabFrame::<ServerAuth<'_>>::Pong.encode().into(),
            // The whole socket, or a refusal after which its client shall come back.
            Outgoing::Refused(refusal) if address.is_empty() || !refusal.is_final() => {
                return (Vec::new(), Some(End::With(refusal)));
            }
            Outgoing::Refused(refusal) => {
                let reason = refusal.to_string();
                let denied = CollabMessage::Auth(ServerAuth::PermissionDenied { reason: &reason });
                let frames = vec![
                    frame(denied),
                    frame(CollabMessage::Close { reason: &reason }),
                ];
                let _ = self.told.send(Told::Ended(address));
                return (frames, None);
            }
        };
        (vec![frame], None)
    }
}
