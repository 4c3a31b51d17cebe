//! Who is at a document, and where their cursor is.
//!
//! Invariants: a client id belongs to the seat that used it first and is silent otherwise (clients
//! relay others' states by accident); states not renewed for 30 s are gone; what is kept is bounded.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use uspark_shared::codec::DecodeError;
use uspark_shared::codec::awareness::{AwarenessEntry, decode_awareness, encode_awareness};

use crate::subscriber::SeatId;

/// How long a state lives without being renewed; clients renew every 15 s.
pub const EXPIRY: Duration = Duration::from_secs(30);
/// Client ids of one seat: a page that was reloaded on the same socket uses a new one.
const MAX_CLIENTS_PER_SEAT: usize = 8;
/// Bytes of one state: names, colours, a cursor and a selection are a few hundred.
const MAX_STATE_BYTES: usize = 16 << 10;

/// The states of everybody at one document.
#[derive(Debug, Default)]
pub struct Awareness {
    states: HashMap<u64, State>,
}

#[derive(Debug)]
struct State {
    seat: SeatId,
    clock: u32,
    json: Option<String>,
    renewed: Instant,
}

impl Awareness {
    /// Takes a message's states, and gives the body of what to tell everybody, if anything.
    pub fn take(
        &mut self,
        seat: SeatId,
        body: &[u8],
        now: Instant,
    ) -> Result<Option<Vec<u8>>, DecodeError> {
        let mut told = Vec::new();
        for entry in decode_awareness(body)? {
            if self.accepts(seat, &entry) {
                let AwarenessEntry {
                    client,
                    clock,
                    state,
                } = entry.clone();
                self.states.insert(
                    client,
                    State {
                        seat,
                        clock,
                        json: state,
                        renewed: now,
                    },
                );
                told.push(entry);
            }
        }
        Ok((!told.is_empty()).then(|| encode_awareness(&told)))
    }

    /// Everybody's states, as the body of a message; `None` if nobody is there.
    pub fn everybody(&self) -> Option<Vec<u8>> {
        let here = self.states.iter().filter(|(_, state)| state.json.is_some());
        let entries: Vec<_> = here.map(|(client, state)| state.entry(*client)).collect();
        (!entries.is_empty()).then(|| encode_awareness(&entries))
    }

    /// A seat is left: gives what to tell the others.
    pub fn leave(&mut self, seat: SeatId) -> Option<Vec<u8>> {
        self.remove(|state| state.seat == seat)
    }

    /// Forgets who was not heard of: gives what to tell the others.
    pub fn expire(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.remove(|state| now.duration_since(state.renewed) >= EXPIRY)
    }

    fn accepts(&self, seat: SeatId, entry: &AwarenessEntry) -> bool {
        if entry
            .state
            .as_ref()
            .is_some_and(|state| state.len() > MAX_STATE_BYTES)
        {
            return false;
        }
        match self.states.get(&entry.client) {
            // After a reconnect the old seat may still be there; a newer clock shows whose it is.
            Some(known) if known.seat != seat => known.json.is_none() && entry.clock > known.clock,
            Some(known) => {
                let left =
                    entry.clock == known.clock && entry.state.is_none() && known.json.is_some();
                entry.clock > known.clock || left
            }
            None => {
                let own = self.states.values().filter(|state| state.seat == seat);
                entry.state.is_some() && own.count() < MAX_CLIENTS_PER_SEAT
            }
        }
    }

    fn remove(&mut self, gone: impl Fn(&State) -> bool) -> Option<Vec<u8>> {
        let mut told = Vec::new();
        self.states.retain(|client, state| {
            if !gone(state) {
                return true;
            }
            if state.json.is_some() {
                let clock = state.clock.saturating_add(1);
                told.push(AwarenessEntry {
                    client: *client,
                    clock,
                    state: None,
                });
            }
            false
        });
        (!told.is_empty()).then(|| encode_awareness(&told))
    }
}

impl State {
    fn entry(&self, client: u64) -> AwarenessEntry {
        AwarenessEntry {
            client,
            clock: self.clock,
            state: self.json.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(client: u64, clock: u32, state: Option<&str>) -> Vec<u8> {
        encode_awareness(&[AwarenessEntry {
            client,
            clock,
            state: state.map(Into::into),
        }])
    }

    #[test]
    fn a_state_is_its_seats_alone() {
        let (mut all, me, other, now) = (
            Awareness::default(),
            SeatId::fresh(),
            SeatId::fresh(),
            Instant::now(),
        );
        assert!(
            all.take(me, &body(1, 1, Some("{}")), now)
                .unwrap()
                .is_some()
        );
        assert_eq!(all.take(me, &body(1, 1, Some("{}")), now).unwrap(), None);
        assert_eq!(
            all.take(other, &body(1, 9, Some("\"forged\"")), now)
                .unwrap(),
            None
        );
        assert_eq!(all.everybody(), Some(body(1, 1, Some("{}"))));
        assert_eq!(all.leave(other), None);
        assert_eq!(all.leave(me), Some(body(1, 2, None)));
        assert_eq!(all.everybody(), None);
    }

    #[test]
    fn silence_is_leaving() {
        let (mut all, me, now) = (Awareness::default(), SeatId::fresh(), Instant::now());
        all.take(me, &body(1, 1, Some("{}")), now).unwrap();
        assert_eq!(all.expire(now + EXPIRY - Duration::from_millis(1)), None);
        assert_eq!(all.expire(now + EXPIRY), Some(body(1, 2, None)));
    }

    #[test]
    fn what_one_seat_may_keep_is_bounded() {
        let (mut all, me, now) = (Awareness::default(), SeatId::fresh(), Instant::now());
        for client in 0..100 {
            all.take(me, &body(client, 1, Some("{}")), now).unwrap();
        }
        assert_eq!(all.states.len(), MAX_CLIENTS_PER_SEAT);
        let long = format!("\"{}\"", "x".repeat(MAX_STATE_BYTES));
        assert_eq!(
            all.take(SeatId::fresh(), &body(500, 1, Some(&long)), now)
                .unwrap(),
            None
        );
    }
}
