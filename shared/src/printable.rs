//! Text from elsewhere on its way to a terminal or a log: a name may hold anything, and neither a
//! terminal nor whoever reads line by line must obey it.

use std::io::{self, Write};

/// `text` with its control characters shown as escapes.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() {
            true => shown.extend(character.escape_debug()),
            false => shown.push(character),
        }
    }
    shown
}

/// Writes what comes in one call as one line, printable. For logs, whose writers get a whole event
/// at once; they must not bring colours of their own.
#[derive(Debug)]
pub struct OneLine<W>(pub W);

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let line = printable(text.strip_suffix('\n').unwrap_or(&text));
        self.0.write_all(format!("{line}\n").as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_control_characters_are_shown_otherwise() {
        assert_eq!(
            printable("a\u{1b}[2J\n\u{9b}1m\t\u{7f}"),
            "a\\u{1b}[2J\\n\\u{9b}1m\\t\\u{7f}"
        );
        for plain in ["it's \"quoted\"", "back\\slash", "grüße e\u{301} 🎉"] {
            assert_eq!(printable(plain), plain);
        }
    }

    #[test]
    fn an_event_is_one_line() {
        let mut log = OneLine(Vec::new());
        log.write_all(b"WARN a name: x\nERROR forged\x1b[31m\n")
            .unwrap();
        log.write_all(b"next").unwrap();
        let log = String::from_utf8(log.0).unwrap();
        assert_eq!(log, "WARN a name: x\\nERROR forged\\u{1b}[31m\nnext\n");
    }
}
