//! The wire codec: lib0's primitives, and on them the messages of both socket protocols.
//!
//! Owns: [`Reader`] and [`Writer`] for lib0's variable-length encoding, y-protocols messages
//! ([`message`]), Hocuspocus frames ([`collab`]) and awareness ([`awareness`]). Must not do: look
//! into an update (that is [`crate::update`]) or decide what a message means.
//!
//! Invariants: decoding borrows from the frame and never panics; what a peer declares is checked
//! against the bytes that are there before anything is reserved for it; a frame that ends early,
//! or goes on after its last message, is an error and never a normal end.

pub mod awareness;
pub mod collab;
mod json;
pub mod message;

pub(crate) use json::check_json;

/// The largest integer of the wire, 2^53 - 1: what a JavaScript number holds exactly.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// Eight groups of seven bits hold [`MAX_INTEGER`]; a longer encoding is padding.
const MAX_VAR_BYTES: usize = 8;

/// How deep arrays and objects of one value may be nested, in JSON text and in lib0 values.
///
/// Well below the 128 at which `serde_json` stops, so that whatever passes here can be read by
/// every recursive reader behind us.
pub const MAX_DEPTH: usize = 64;

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More was announced than is there.
    #[error("the data ends early: {needed} more bytes announced, {left} left")]
    Truncated {
        /// Bytes, or a lower bound of them, that the data itself calls for.
        needed: u64,
        /// Bytes that are there.
        left: usize,
    },
    /// The message is complete and bytes follow.
    #[error("{0} bytes follow the end of the data")]
    TrailingBytes(usize),
    /// An integer above [`MAX_INTEGER`], or one in more bytes than that needs.
    #[error("an integer above 2^53 - 1, or in more than 8 bytes")]
    IntegerTooLarge,
    /// A string that is not UTF-8.
    #[error("a string that is not UTF-8")]
    Utf8,
    /// A number that stands for a kind of `what` which does not exist.
    #[error("{value} is no {what}")]
    Unknown {
        /// What the number chooses.
        what: &'static str,
        /// The number.
        value: u64,
    },
    /// A JSON text that no JSON parser reads.
    #[error("a JSON text that does not parse: {0}")]
    Json(String),
    /// A value nested deeper than [`MAX_DEPTH`].
    #[error("a value nested more than {MAX_DEPTH} levels deep")]
    TooDeep,
    /// More messages in one frame than [`message::MAX_MESSAGES`].
    #[error("more than {} messages in one frame", message::MAX_MESSAGES)]
    TooManyMessages,
}

/// Reads lib0's encoding from a slice, from front to back.
///
/// After an error the position is unspecified: give the whole input up.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// How many bytes were not read yet.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The bytes that were not read yet; they stay unread.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads one byte.
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take(1)?[0])
    }

    /// Reads exactly `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(DecodeError::Truncated {
                needed: count as u64,
                left: self.rest.len(),
            })?;
        self.rest = rest;
        Ok(taken)
    }

    /// Reads an unsigned integer of at most [`MAX_INTEGER`].
    ///
    /// A padded encoding (`80 00` for 0) is accepted up to 8 bytes, as every lib0 reads it.
    pub fn var_uint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0;
        for index in 0..MAX_VAR_BYTES {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return in_range(value);
            }
        }
        Err(DecodeError::IntegerTooLarge)
    }

    /// Reads a signed integer whose magnitude is at most [`MAX_INTEGER`]; minus zero is 0.
    pub fn var_int(&mut self) -> Result<i64, DecodeError> {
        let first = self.byte()?;
        let mut magnitude = u64::from(first & 0x3f);
        let mut more = first & 0x80 != 0;
        for index in 0..MAX_VAR_BYTES - 1 {
            if !more {
                break;
            }
            let byte = self.byte()?;
            magnitude |= u64::from(byte & 0x7f) << (6 + 7 * index);
            more = byte & 0x80 != 0;
        }
        if more {
            return Err(DecodeError::IntegerTooLarge);
        }
        let magnitude = in_range(magnitude)? as i64;
        Ok(if first & 0x40 == 0 {
            magnitude
        } else {
            -magnitude
        })
    }

    /// Reads a byte array: its length, then the bytes.
    pub fn var_bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.count(1)?;
        self.take(length)
    }

    /// Reads a string: its length in bytes, then UTF-8.
    pub fn var_string(&mut self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.var_bytes()?).map_err(|_| DecodeError::Utf8)
    }

    /// Reads how many elements follow, each of which takes at least `min_bytes` bytes.
    ///
    /// A count that cannot fit into what remains is [`DecodeError::Truncated`], so nobody
    /// reserves memory for elements that are not there.
    pub fn count(&mut self, min_bytes: u64) -> Result<usize, DecodeError> {
        let count = self.var_uint()?;
        let needed = count.saturating_mul(min_bytes);
        if needed > self.rest.len() as u64 {
            return Err(DecodeError::Truncated {
                needed,
                left: self.rest.len(),
            });
        }
        Ok(count as usize)
    }

    /// Fails unless everything was read.
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(DecodeError::TrailingBytes(left)),
        }
    }
}

fn in_range(value: u64) -> Result<u64, DecodeError> {
    if value <= MAX_INTEGER {
        Ok(value)
    } else {
        Err(DecodeError::IntegerTooLarge)
    }
}

/// Writes lib0's encoding, always in its shortest form.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Starts with nothing written.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts with room for `bytes` bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
        }
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Writes one byte.
    pub fn byte(&mut self, byte: u8) -> &mut Self {
        self.bytes.push(byte);
        self
    }

    /// Writes bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Writes an unsigned integer; peers read none above [`MAX_INTEGER`].
    pub fn var_uint(&mut self, mut value: u64) -> &mut Self {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8)
    }

    /// Writes a byte array: its length, then the bytes.
    pub fn var_bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.var_uint(bytes.len() as u64).raw(bytes)
    }

    /// Writes a string: its length in bytes, then UTF-8.
    pub fn var_string(&mut self, text: &str) -> &mut Self {
        self.var_bytes(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uint(bytes: &[u8]) -> Result<u64, DecodeError> {
        Reader::new(bytes).var_uint()
    }

    #[test]
    fn unsigned_integers_reach_to_two_to_the_53rd() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), MAX_INTEGER] {
            let mut writer = Writer::new();
            writer.var_uint(value);
            assert_eq!(uint(&writer.into_bytes()), Ok(value));
        }
        let mut above = Writer::new();
        above.var_uint(MAX_INTEGER + 1);
        assert_eq!(uint(&above.into_bytes()), Err(DecodeError::IntegerTooLarge));
        assert_eq!(uint(&[0xff; 12]), Err(DecodeError::IntegerTooLarge));
    }

    #[test]
    fn padding_is_read_as_long_as_it_is_short() {
        assert_eq!(uint(&[0x80, 0x00]), Ok(0));
        assert_eq!(
            uint(&[0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]),
            Ok(1)
        );
        assert_eq!(
            uint(&[0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]),
            Err(DecodeError::IntegerTooLarge)
        );
    }

    /// The first five are yrs 0.28.1's own table of lib0 integers; -0 is what lib0 writes for it.
    #[test]
    fn signed_integers_carry_their_sign_in_bit_six() {
        let cases: [(&[u8], i64); 7] = [
            (&[0x00], 0),
            (&[0x2a], 42),
            (&[0x6a], -42),
            (&[0xbf, 0xff, 0xff, 0xff, 0x0f], 2_147_483_647),
            (&[0xff, 0xff, 0xff, 0xff, 0x0f], -2_147_483_647),
            (&[0x40], 0),
            (&[0x80, 0x01], 64),
        ];
        for (bytes, value) in cases {
            assert_eq!(Reader::new(bytes).var_int(), Ok(value), "{bytes:02x?}");
        }
        assert_eq!(
            Reader::new(&[0xff; 12]).var_int(),
            Err(DecodeError::IntegerTooLarge)
        );
    }

    #[test]
    fn a_length_beyond_the_end_is_truncation() {
        let truncated = |needed, left| Err(DecodeError::Truncated { needed, left });
        assert_eq!(
            Reader::new(&[]).byte(),
            Err(DecodeError::Truncated { needed: 1, left: 0 })
        );
        assert_eq!(
            uint(&[0x80]),
            Err(DecodeError::Truncated { needed: 1, left: 0 })
        );
        assert_eq!(Reader::new(&[3, 1, 2]).var_bytes(), truncated(3, 2));
        let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f, 1];
        assert_eq!(Reader::new(&huge).var_bytes(), truncated(MAX_INTEGER, 1));
        let mut reader = Reader::new(&[3, 1, 2, 3]);
        assert_eq!(
            reader.count(2),
            Err(DecodeError::Truncated { needed: 6, left: 3 })
        );
        assert_eq!(
            Reader::new(&[2, 0xc3, 0x28]).var_string(),
            Err(DecodeError::Utf8)
        );
    }

    #[test]
    fn what_is_written_is_read_back_in_order() {
        let mut writer = Writer::new();
        writer
            .byte(7)
            .var_uint(300)
            .var_string("é😀")
            .var_bytes(&[]);
        let bytes = writer.into_bytes();
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.byte(), Ok(7));
        assert_eq!(reader.var_uint(), Ok(300));
        assert_eq!(reader.finish(), Err(DecodeError::TrailingBytes(8)));
        assert_eq!(reader.var_string(), Ok("é😀"));
        assert_eq!(reader.var_bytes(), Ok(&[][..]));
        assert!(reader.is_empty() && reader.finish().is_ok());
    }
}
