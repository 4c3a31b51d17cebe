//! One document of a `/collab` socket.

use std::sync::Arc;

use uspark_shared::codec::collab::Address;

use crate::access::{Access, Grant};
use crate::project::{Attribution, ProjectHandle, Seat, SeatAck, SeatMessage};
use crate::refusal::Refusal;
use crate::server::AppState;
use crate::socket::come_back;
use crate::subscriber::{Outbox, SeatId};

/// One address, and what is known of it.
pub enum Document {
    /// Spoken of, but no token came.
    Unauthenticated(Vec<SeatMessage>),
    /// Its token is being checked, then it is being loaded.
    Joining {
        /// Which of its tokens.
        attempt: u64,
        /// What came meanwhile.
        queued: Vec<SeatMessage>,
    },
    /// Joined.
    Open {
        /// Which of its tokens is the newest.
        attempt: u64,
        /// The seat.
        open: Open,
    },
    /// Its client was told so. What it still sends is dropped, until it shows a token again.
    Refused,
}

/// A document that was joined.
#[derive(Clone)]
pub struct Open {
    /// Its project.
    pub handle: ProjectHandle,
    /// The seat there.
    pub seat: SeatId,
    /// What the newest token allows.
    pub grant: Grant,
}

/// What came of a token.
pub struct Joined {
    /// The document's address.
    pub address: Arc<str>,
    /// Which of its tokens.
    pub attempt: u64,
    /// Its seat with what the token allows.
    pub result: Result<Open, Refusal>,
}

impl Open {
    /// Takes a seat for the holder of a token.
    pub async fn join(
        state: &AppState,
        outbox: Outbox,
        address: &Arc<str>,
        token: &str,
    ) -> Result<Self, Refusal> {
        let grant = verify(state, address, token).await?;
        let name = Address::new(address).document_name()?;
        let seat = Seat {
            id: SeatId::fresh(),
            address: Arc::clone(address),
            outbox,
            ack: SeatAck::Status,
            may_write: grant.access >= Access::Write,
            who: Attribution::of(&grant),
        };
        let id = seat.id;
        let handle = state.projects.join(&name.project, name.text, seat).await?;
        Ok(Self {
            handle,
            seat: id,
            grant,
        })
    }

    /// The same seat, for the holder of a newer token.
    pub async fn renew(
        self,
        state: &AppState,
        address: &str,
        token: &str,
    ) -> Result<Self, Refusal> {
        let grant = verify(state, address, token).await?;
        Ok(Self { grant, ..self })
    }

    /// Hands a message to the owner.
    pub async fn deliver(&self, message: SeatMessage) -> Result<(), Refusal> {
        if self.handle.message(self.seat, message).await {
            Ok(())
        } else {
            Err(come_back())
        }
    }

    /// What the owner is told of a newer token.
    pub fn granted(&self) -> SeatMessage {
        SeatMessage::Granted {
            who: Attribution::of(&self.grant),
            may_write: self.grant.access >= Access::Write,
        }
    }
}

/// What a token allows at an address.
async fn verify(state: &AppState, address: &str, token: &str) -> Result<Grant, Refusal> {
    let name = Address::new(address).document_name()?;
    let grant = state.tokens.verify(token, (state.clock)()).await?;
    grant.allows(&name.project, Access::Read)?;
    Ok(grant)
}

/// The bytes that messages take while they wait.
pub fn cost(messages: &[SeatMessage]) -> usize {
    let body = |message: &SeatMessage| match message {
        SeatMessage::Step1(body) | SeatMessage::Update(body) | SeatMessage::Awareness(body) => {
            body.len()
        }
        _ => 0,
    };
    // What is empty is kept too.
    messages
        .iter()
        .map(|message| body(message) + size_of::<SeatMessage>())
        .sum()
}
