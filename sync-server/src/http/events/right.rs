//! Whether a reader may still be there.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::access::Grant;
use crate::server::CutOff;
use crate::socket::Watch;

/// How long a reader has to take the end of its stream. One that reads nothing is cut off then.
const LAST_BYTES: Duration = Duration::from_millis(450);

/// A stream's right to go on. Dropped with the stream, it ends the task that watches over it.
pub(super) struct Right {
    over: CancellationToken,
    _gone: DropGuard,
}

impl Right {
    /// Watches over a grant for as long as its stream lasts.
    pub(super) fn watch(
        tasks: &TaskTracker,
        grant: Grant,
        mut watch: Watch,
        cut_off: Option<CutOff>,
    ) -> Self {
        let (over, gone) = (CancellationToken::new(), CancellationToken::new());
        let right = Self {
            over: over.clone(),
            _gone: gone.clone().drop_guard(),
        };
        tasks.spawn(gone.run_until_cancelled_owned(async move {
            watch.over_for(&grant).await;
            over.cancel();
            sleep(LAST_BYTES).await;
            if let Some(cut_off) = cut_off {
                cut_off.cut();
            }
        }));
        right
    }

    /// Waits until it is over.
    pub(super) async fn over(&self) {
        self.over.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Access, TokenScope};

    fn grant(expires_at: u64) -> Grant {
        Grant {
            token_id: "abcdefghijkl".parse().unwrap(),
            name: None,
            scope: TokenScope::Server,
            access: Access::Read,
            expires_at: Some(expires_at),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_does_not_end_with_its_right_is_cut_off() {
        let (_directory, state) = super::super::follower::tests::state().await;
        let (stuck, ending) = (CutOff::default(), CutOff::default());
        let watch = |cut_off: &CutOff| {
            let watch = Watch::start(&state);
            Right::watch(&state.tasks, grant(1), watch, Some(cut_off.clone()))
        };
        let (right, other) = (watch(&stuck), watch(&ending));
        other.over().await;
        drop(other);
        right.over().await;
        assert!(!stuck.is_cut());
        sleep(2 * LAST_BYTES).await;
        assert!(stuck.is_cut() && !ending.is_cut());
    }
}
