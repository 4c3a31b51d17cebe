//! When a file is text, and how long a text may get.

/// Longest file that becomes a text document, in bytes: diffing, seeding and sending a text of
/// this size stays in the low milliseconds (histogram line diff: about 2 ms for 1.2 MB).
pub const MAX_TEXT_BYTES: usize = 1 << 20;

/// Longest text that stays one while people type, in bytes; beyond it the server makes it binary.
pub const MAX_GROWN_TEXT_BYTES: usize = 4 << 20;

/// The bytes as text, if a file of these bytes is a text document: valid UTF-8, no NUL, at most
/// [`MAX_TEXT_BYTES`].
pub fn as_text(bytes: &[u8]) -> Option<&str> {
    if bytes.len() > MAX_TEXT_BYTES {
        return None;
    }
    as_grown_text(bytes)
}

/// Like [`as_text`], for a text document that already is one: at most [`MAX_GROWN_TEXT_BYTES`].
pub fn as_grown_text(bytes: &[u8]) -> Option<&str> {
    if bytes.len() > MAX_GROWN_TEXT_BYTES || bytes.contains(&0) {
        return None;
    }
    std::str::from_utf8(bytes).ok()
}

/// Length in UTF-16 units, which is how Yjs counts.
pub fn utf16_len(text: &str) -> u32 {
    text.chars().map(|c| c.len_utf16() as u32).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_utf8_without_nul_and_not_too_long() {
        for text in ["", "\u{feff}a\r\nb", "😀"] {
            assert_eq!(as_text(text.as_bytes()), Some(text));
        }
        assert_eq!(as_text(b"a\0b"), None);
        assert_eq!(as_text(&[0xff]), None);
        assert!(as_text(&vec![b'a'; MAX_TEXT_BYTES]).is_some());
        assert!(as_text(&vec![b'a'; MAX_TEXT_BYTES + 1]).is_none());
        assert!(as_grown_text(&vec![b'a'; MAX_TEXT_BYTES + 1]).is_some());
    }

    #[test]
    fn lengths_are_utf16() {
        assert_eq!(utf16_len("a😀é"), 4);
    }
}
