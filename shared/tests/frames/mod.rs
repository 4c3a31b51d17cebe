//! Frames of real clients, and what becomes of them when a few bytes change.

#[path = "../bytes/mod.rs"]
pub mod bytes;

use fastrand::Rng;
use uspark_shared::codec::awareness::decode_awareness;
use uspark_shared::codec::collab::{Address, ClientFrame, CollabFrame, CollabMessage};
use uspark_shared::codec::message::{Message, SyncMessage, decode_frame};
use uspark_shared::update::{scan, scan_state_vector};

/// The framing of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// `/ws`.
    YWebsocket,
    /// `/collab`.
    Hocuspocus,
}

/// What clients have sent, by what it is.
pub struct Recorded {
    updates: Vec<Vec<u8>>,
    state_vectors: Vec<Vec<u8>>,
    websocket: Vec<Vec<u8>>,
    collab: Vec<Vec<u8>>,
}

impl Recorded {
    /// Every recording.
    pub fn all() -> Self {
        let recorded = |is: fn(&str) -> bool| -> Vec<Vec<u8>> {
            let found = bytes::all().filter(|(name, _)| is(name));
            found.map(|(_, bytes)| bytes).collect()
        };
        Self {
            updates: recorded(|name| {
                let others = ["ws_", "client_", "server_", "awareness", "state_vector"];
                !others.iter().any(|kind| name.starts_with(kind))
            }),
            state_vectors: recorded(|name| name == "state_vector"),
            websocket: recorded(|name| name.starts_with("ws_")),
            collab: recorded(|name| name.starts_with("client_")),
        }
    }

    /// A frame in which a few bytes are others: within its update, or anywhere.
    pub fn mutated(&self, framing: Framing, document: &str, random: &mut Rng) -> Vec<u8> {
        let updates = if random.u8(..) < 16 {
            &self.state_vectors
        } else {
            &self.updates
        };
        let mut inner = any(updates, random).clone();
        let within = random.u8(..4) > 0;
        if within {
            mutate(random, &mut inner);
        }
        let message = match random.u8(..8) {
            _ if std::ptr::eq(updates, &self.state_vectors) => SyncMessage::Step1(&inner),
            0 => SyncMessage::Step2(&inner),
            _ => SyncMessage::Update(&inner),
        };
        let mut frame = match (framing, random.bool()) {
            (Framing::YWebsocket, true) if !within => any(&self.websocket, random).clone(),
            (Framing::Hocuspocus, true) if !within => any(&self.collab, random).clone(),
            _ => framed(framing, document, message),
        };
        if within {
            return frame;
        }
        mutate(random, &mut frame);
        frame
    }
}

fn any<'a>(of: &'a [Vec<u8>], random: &mut Rng) -> &'a Vec<u8> {
    &of[random.usize(..of.len())]
}

fn framed(framing: Framing, document: &str, message: SyncMessage<'_>) -> Vec<u8> {
    match framing {
        Framing::YWebsocket => Message::Sync(message).encode(),
        Framing::Hocuspocus => {
            ClientFrame::new(Address::new(document), CollabMessage::Sync(message)).encode()
        }
    }
}

/// Changes a few bytes: to anything, to the neighbour, away, or to those of somewhere else.
fn mutate(random: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..random.usize(1..=2) {
        if bytes.is_empty() {
            return;
        }
        let at = random.usize(..bytes.len());
        match random.u8(..6) {
            0 => bytes[at] = random.u8(..),
            1 => bytes[at] ^= 1 << random.u8(..8),
            2 => bytes[at] = bytes[at].wrapping_add(1),
            3 => bytes.truncate(at),
            4 => bytes.insert(at, [0, 1, 0x7f, 0x80, 0xff][random.usize(..5)]),
            _ => {
                let from = random.usize(..bytes.len());
                let copied: Vec<u8> = bytes[from..].iter().take(8).copied().collect();
                bytes.splice(at..at, copied);
            }
        }
    }
}

/// What a server is to do with a frame: its sync messages, or nothing of it, because something in it cannot be read.
pub fn messages(framing: Framing, frame: &[u8]) -> Option<Vec<SyncMessage<'_>>> {
    let mut found = Vec::new();
    let mut awareness = Vec::new();
    match framing {
        Framing::YWebsocket => {
            for message in decode_frame(frame).ok()? {
                match message {
                    Message::Sync(message) => found.push(message),
                    Message::Awareness(body) => awareness.push(body),
                    _ => {}
                }
            }
        }
        Framing::Hocuspocus => match ClientFrame::decode(frame).ok()? {
            CollabFrame::Document {
                message: CollabMessage::Sync(message) | CollabMessage::SyncReply(message),
                ..
            } => found.push(message),
            CollabFrame::Document {
                message: CollabMessage::Awareness(body),
                ..
            } => awareness.push(body),
            _ => {}
        },
    }
    let is_readable = |message: &SyncMessage<'_>| match message {
        SyncMessage::Step1(state_vector) => scan_state_vector(state_vector).is_ok(),
        SyncMessage::Step2(update) | SyncMessage::Update(update) => scan(update).is_ok(),
    };
    let all = found.iter().all(is_readable)
        && awareness.iter().all(|body| decode_awareness(body).is_ok());
    all.then_some(found)
}
