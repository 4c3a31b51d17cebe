//! How much one token is used: its open sockets, and how often it asks.
//!
//! Owns: the bounds that keep the holder of one token from taking the server from all others. Must
//! not do: say what a token allows.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lru::LruCache;
use tokio::time::Instant;

use super::TokenId;

/// A token that asked nothing for so long may ask as often at once as in that time.
const BURST: Duration = Duration::from_secs(10);
/// Tokens whose requests are counted. Of more, those that asked least recently begin anew.
const COUNTED: NonZeroUsize = NonZeroUsize::new(4096).expect("it is not zero");

/// How much one token may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageLimits {
    /// Sockets open at a time.
    pub sockets: usize,
    /// Requests in a second, on average over [`BURST`].
    pub requests_per_second: u32,
}

/// How much tokens are used. Cheap to clone.
#[derive(Clone)]
pub struct Usage {
    limits: UsageLimits,
    /// When each token's requests so far would have come, had they come evenly.
    due: Arc<Mutex<LruCache<TokenId, Instant>>>,
    sockets: Arc<Mutex<HashMap<TokenId, usize>>>,
}

/// The place of one socket of a token. Dropping it gives the place back.
pub struct SocketPlace {
    token: TokenId,
    sockets: Arc<Mutex<HashMap<TokenId, usize>>>,
}

impl Usage {
    /// Nothing was used yet.
    pub fn new(limits: UsageLimits) -> Self {
        Self {
            limits,
            due: Arc::new(Mutex::new(LruCache::new(COUNTED))),
            sockets: Arc::default(),
        }
    }

    /// Counts a request, or gives how long to wait before the next.
    pub fn request(&self, token: &TokenId) -> Result<(), Duration> {
        let now = Instant::now();
        let mut due = lock(&self.due);
        let next = due.get(token).map_or(now, |due| (*due).max(now));
        let ahead = next - now;
        if ahead >= BURST {
            return Err(ahead - BURST + self.interval());
        }
        due.put(token.clone(), next + self.interval());
        Ok(())
    }

    /// Counts a socket; `None` if the token has as many as it may.
    pub fn socket(&self, token: &TokenId) -> Option<SocketPlace> {
        let mut sockets = lock(&self.sockets);
        let open = sockets.entry(token.clone()).or_default();
        // A limit is at least one, so no entry of none is left behind.
        if *open >= self.limits.sockets {
            return None;
        }
        *open += 1;
        Some(SocketPlace {
            token: token.clone(),
            sockets: Arc::clone(&self.sockets),
        })
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(1) / self.limits.requests_per_second.max(1)
    }
}

impl Drop for SocketPlace {
    fn drop(&mut self) {
        let mut sockets = lock(&self.sockets);
        if let Some(open) = sockets.get_mut(&self.token) {
            *open -= 1;
            if *open == 0 {
                sockets.remove(&self.token);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Token;

    fn usage(sockets: usize, requests_per_second: u32) -> Usage {
        Usage::new(UsageLimits {
            sockets,
            requests_per_second,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_may_ask_in_bursts_but_not_for_ever() {
        let usage = usage(1, 10);
        let (one, other) = (Token::random(), Token::random());
        let asked = |token: &Token| {
            let mut asked = 0;
            while usage.request(token.id()).is_ok() {
                asked += 1;
                assert!(asked < 1000, "it has no end");
            }
            asked
        };
        assert_eq!(asked(&one), 100);
        // Another token is another's business.
        assert_eq!(asked(&other), 100);
        let wait = usage.request(one.id()).unwrap_err();
        assert!(wait <= Duration::from_millis(200), "{wait:?}");
        tokio::time::advance(wait).await;
        usage.request(one.id()).unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(asked(&one), 10);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(asked(&one), 100);
    }

    #[test]
    fn a_place_is_given_back() {
        let usage = usage(2, 1);
        let (one, other) = (Token::random(), Token::random());
        let (first, second) = (usage.socket(one.id()), usage.socket(one.id()));
        assert!(first.is_some() && second.is_some());
        assert!(usage.socket(one.id()).is_none());
        assert!(usage.socket(other.id()).is_some());
        drop(first);
        let third = usage.socket(one.id());
        assert!(third.is_some() && usage.socket(one.id()).is_none());
        drop((second, third));
        assert!(lock(&usage.sockets).is_empty());
    }
}
