//! Whether a socket may still be there.

use std::time::Duration;

use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::come_back;
use crate::access::{Grant, TokenId};
use crate::refusal::Refusal;
use crate::server::AppState;

/// Longest that a token's end is waited for at a time: the clock may be set meanwhile.
const CLOCK_CHECK: Duration = Duration::from_secs(60);

/// Watches over the right to be connected.
pub struct Watch {
    revoked: broadcast::Receiver<TokenId>,
    clock: fn() -> u64,
    stopping: CancellationToken,
}

/// What ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Over {
    /// This token: it was revoked.
    Revoked(TokenId),
    /// Some token: its time has come.
    Expired,
    /// What is known of tokens: revocations were missed.
    Missed,
    /// The server.
    Stopping,
}

impl Watch {
    /// Starts to watch. To be called before any token is looked at, so that no revocation falls
    /// between the two.
    pub fn start(state: &AppState) -> Self {
        Self {
            revoked: state.tokens.revoked(),
            clock: state.clock,
            stopping: state.stopping.clone(),
        }
    }

    /// Waits for the next thing that ends something; `expires_at` is in milliseconds since 1970.
    pub async fn over(&mut self, expires_at: Option<u64>) -> Over {
        tokio::select! {
            revoked = self.revoked.recv() => match revoked {
                Ok(id) => Over::Revoked(id),
                Err(broadcast::error::RecvError::Lagged(_)) => Over::Missed,
                Err(broadcast::error::RecvError::Closed) => Over::Stopping,
            },
            () = until(expires_at, self.clock) => Over::Expired,
            () = self.stopping.cancelled() => Over::Stopping,
        }
    }

    /// Waits until a socket with this one grant must close, and says with what.
    pub async fn over_for(&mut self, grant: &Grant) -> Refusal {
        loop {
            match self.over(grant.expires_at).await {
                Over::Revoked(id) if id != grant.token_id => {}
                Over::Revoked(_) | Over::Expired => return Refusal::Unauthorised,
                // Its client comes back, and its token is looked at again.
                Over::Missed | Over::Stopping => return come_back(),
            }
        }
    }
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
