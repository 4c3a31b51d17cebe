//! Awareness: who is here, and where their cursor is.
//!
//! The body of an awareness message, in y-websocket and in Hocuspocus alike:
//! `n`, then n times client id, clock, and the state as JSON text (`null`: has left).
//! States stay text: nobody here needs to look into them.

use super::{DecodeError, Reader, Writer, check_json};

/// The body of an awareness message about nobody.
///
/// Harmless to every client, and a sign of life: stable y-websocket reconnects after 30 s without
/// a message, and does not see WebSocket pings.
pub const EMPTY_AWARENESS: &[u8] = &[0];

/// [`EMPTY_AWARENESS`] as a whole y-websocket frame.
pub const KEEP_ALIVE_FRAME: &[u8] = &[1, 1, 0];

/// Client id, clock and length of the state, one byte each; no state is shorter than that.
const MIN_ENTRY_BYTES: u64 = 3;

/// What one client says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwarenessEntry {
    /// The client id of the Y.Doc, below 2^53.
    pub client: u64,
    /// Grows with every change of the state: the higher one wins.
    pub clock: u32,
    /// The state as JSON text, checked to parse; `None` when the client has left.
    pub state: Option<String>,
}

/// Reads the body of an awareness message.
pub fn decode_awareness(body: &[u8]) -> Result<Vec<AwarenessEntry>, DecodeError> {
    let mut reader = Reader::new(body);
    let count = reader.count(MIN_ENTRY_BYTES)?;
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        entries.push(read_entry(&mut reader)?);
    }
    reader.finish()?;
    Ok(entries)
}

fn read_entry(reader: &mut Reader<'_>) -> Result<AwarenessEntry, DecodeError> {
    let client = reader.var_uint()?;
    let clock = u32::try_from(reader.var_uint()?).map_err(|_| DecodeError::IntegerTooLarge)?;
    let state = reader.var_string()?;
    check_json(state)?;
    Ok(AwarenessEntry {
        client,
        clock,
        state: (state.trim_ascii() != "null").then(|| state.to_owned()),
    })
}

/// Writes the body of an awareness message.
pub fn encode_awareness(entries: &[AwarenessEntry]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.var_uint(entries.len() as u64);
    for entry in entries {
        writer
            .var_uint(entry.client)
            .var_uint(u64::from(entry.clock))
            .var_string(entry.state.as_deref().unwrap_or("null"));
    }
    writer.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::message::Message;

    #[test]
    fn the_keep_alive_is_an_awareness_message_about_nobody() {
        assert_eq!(decode_awareness(EMPTY_AWARENESS), Ok(vec![]));
        assert_eq!(encode_awareness(&[]), EMPTY_AWARENESS);
        assert_eq!(
            Message::Awareness(EMPTY_AWARENESS).encode(),
            KEEP_ALIVE_FRAME
        );
    }

    #[test]
    fn counts_clocks_and_states_are_checked() {
        let body = |client: u64, clock: u64, state: &str| {
            let mut writer = Writer::new();
            writer
                .var_uint(1)
                .var_uint(client)
                .var_uint(clock)
                .var_string(state);
            writer.into_bytes()
        };
        assert!(decode_awareness(&body(5, u64::from(u32::MAX), "{}")).is_ok());
        assert_eq!(
            decode_awareness(&body(1 << 53, 0, "{}")),
            Err(DecodeError::IntegerTooLarge)
        );
        assert_eq!(
            decode_awareness(&body(5, 1 << 32, "{}")),
            Err(DecodeError::IntegerTooLarge)
        );
        assert!(matches!(
            decode_awareness(&body(5, 0, "{]")),
            Err(DecodeError::Json(_))
        ));
        assert_eq!(
            decode_awareness(&[0xff, 0xff, 0xff, 0x7f]),
            Err(DecodeError::Truncated {
                needed: 3 * 0x0fff_ffff,
                left: 0
            })
        );
        assert_eq!(
            decode_awareness(&[0, 0]),
            Err(DecodeError::TrailingBytes(1))
        );
        assert!(decode_awareness(&[]).is_err());
    }
}
