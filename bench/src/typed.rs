//! The updates of somebody who types one character after the other, made without a document, so that
//! the load client costs little and every update is as small as an editor's.

use anyhow::Context as _;
use uspark_shared::codec::Writer;
use yrs::Update;
use yrs::updates::decoder::Decode as _;

/// The root text that all type into.
const TEXT: &str = "content";

/// Update v1 that inserts the character at `clock` of `client`, behind the one before.
pub fn typed(client: u64, clock: u64) -> Vec<u8> {
    inserted(client, clock, "x")
}

/// Update v1 that inserts ASCII at `clock` of `client`, behind the character before.
pub fn inserted(client: u64, clock: u64, ascii: &str) -> Vec<u8> {
    const STRING: u8 = 4;
    const HAS_ORIGIN: u8 = 0x80;
    let mut update = Writer::with_capacity(ascii.len() + 32);
    // One client with one item.
    update
        .var_uint(1)
        .var_uint(1)
        .var_uint(client)
        .var_uint(clock);
    match clock {
        0 => update.byte(STRING).var_uint(1).var_string(TEXT),
        _ => update
            .byte(STRING | HAS_ORIGIN)
            .var_uint(client)
            .var_uint(clock - 1),
    };
    // Nothing is deleted.
    update.var_string(ascii).var_uint(0);
    update.into_bytes()
}

/// Up to which clock an update, of one or of many merged, has what `client` typed.
pub fn end_of(update: &[u8], client: u64) -> anyhow::Result<Option<u64>> {
    let update = Update::decode_v1(update).context("an update that does not decode")?;
    let inserted = update.insertions(true);
    let ranges = inserted.get(&yrs::block::ClientID::new(client));
    Ok(ranges.and_then(|ranges| ranges.iter().map(|(range, ())| u64::from(range.end)).max()))
}

#[cfg(test)]
mod tests {
    use yrs::{Doc, GetString as _, ReadTxn as _, StateVector, Transact as _};

    use super::*;

    #[test]
    fn what_is_typed_is_what_yjs_would_send() {
        let doc = Doc::new();
        let text = doc.get_or_insert_text(TEXT);
        for clock in 0..5 {
            let update = typed(7, clock);
            assert_eq!(end_of(&update, 7).unwrap(), Some(clock + 1));
            assert_eq!(end_of(&update, 8).unwrap(), None);
            let update = Update::decode_v1(&update).unwrap();
            doc.transact_mut().apply_update(update).unwrap();
        }
        let all = doc.transact().encode_diff_v1(&StateVector::default());
        assert_eq!(text.get_string(&doc.transact()), "xxxxx");
        assert_eq!(end_of(&all, 7).unwrap(), Some(5));
    }
}
