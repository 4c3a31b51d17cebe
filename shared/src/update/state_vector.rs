//! State vectors: how much of each client's elements somebody has.

use super::ScanError;
use super::block::read_clock;
use crate::codec::Reader;

const MIN_ENTRY_BYTES: u64 = 2;

/// Reads a state vector: client ids (below 2^53), each with the clock of its next element.
///
/// As strict as the scan: yrs' own decoder reserves for as many entries as are announced, and
/// takes client ids and clocks that it cannot hold.
pub fn scan_state_vector(bytes: &[u8]) -> Result<Vec<(u64, u32)>, ScanError> {
    let mut reader = Reader::new(bytes);
    let count = reader.count(MIN_ENTRY_BYTES)?;
    let mut clocks = Vec::with_capacity(count);
    for _ in 0..count {
        let client = reader.var_uint()?;
        clocks.push((client, read_clock(&mut reader, client)?));
    }
    reader.finish()?;
    Ok(clocks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{DecodeError, MAX_INTEGER, Writer};
    use crate::update::MAX_CLOCK;

    fn vector(client: u64, clock: u64) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.var_uint(1).var_uint(client).var_uint(clock);
        writer.into_bytes()
    }

    #[test]
    fn entries_are_checked() {
        let max = u64::from(MAX_CLOCK);
        assert_eq!(scan_state_vector(&[0]), Ok(vec![]));
        assert_eq!(
            scan_state_vector(&vector(MAX_INTEGER, max)),
            Ok(vec![(MAX_INTEGER, MAX_CLOCK)])
        );
        assert_eq!(
            scan_state_vector(&vector(5, max + 1)),
            Err(ScanError::Clock { client: 5 })
        );
        assert_eq!(
            scan_state_vector(&vector(MAX_INTEGER + 1, 0)),
            Err(DecodeError::IntegerTooLarge.into())
        );
        assert_eq!(
            scan_state_vector(&[0, 0]),
            Err(DecodeError::TrailingBytes(1).into())
        );
        assert!(scan_state_vector(&[0xff, 0xff, 0xff, 0x7f]).is_err());
        assert!(scan_state_vector(&[]).is_err());
    }
}
