//! Cuts a byte stream into lines with bounded memory.

/// Collects the pieces of lines. A line longer than the limit is dropped and only counted.
#[derive(Debug)]
pub(super) struct Lines {
    limit: usize,
    /// The line so far, at most `limit` bytes.
    partial: Vec<u8>,
    /// The length of a line that went over the limit, while it lasts.
    too_long: Option<u64>,
}

/// One line, without its newline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    /// Its bytes.
    Whole(&'a [u8]),
    /// Only its length: it went over the limit.
    TooLong(u64),
}

/// Room kept between lines; more is given back after a long one.
const KEPT_BYTES: usize = 256 * 1024;

impl Lines {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            partial: Vec::new(),
            too_long: None,
        }
    }

    /// Takes the next bytes of the stream and hands on each line that ends in them.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut on_line: impl FnMut(Line<'_>)) {
        while let Some(end) = bytes.iter().position(|&b| b == b'\n') {
            let (head, rest) = bytes.split_at(end);
            let fits = self.too_long.is_none() && head.len() <= self.limit;
            if self.partial.is_empty() && fits {
                on_line(Line::Whole(head));
            } else {
                self.extend(head);
                self.finish(&mut on_line);
            }
            bytes = &rest[1..];
        }
        self.extend(bytes);
    }

    /// Hands on the line that no newline ends, if there is one.
    pub(super) fn finish(&mut self, on_line: impl FnOnce(Line<'_>)) {
        if let Some(length) = self.too_long.take() {
            on_line(Line::TooLong(length));
        } else if !self.partial.is_empty() {
            on_line(Line::Whole(&self.partial));
            self.partial.clear();
            self.partial.shrink_to(KEPT_BYTES);
        }
    }

    fn extend(&mut self, bytes: &[u8]) {
        if let Some(length) = &mut self.too_long {
            *length += bytes.len() as u64;
        } else if self.partial.len() + bytes.len() > self.limit {
            self.too_long = Some((self.partial.len() + bytes.len()) as u64);
            self.partial = Vec::new();
        } else {
            self.partial.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, PartialEq)]
    enum Seen {
        Whole(Vec<u8>),
        TooLong(u64),
    }

    /// Feeds `bytes` in pieces of the given lengths, over and over.
    fn cut(limit: usize, bytes: &[u8], pieces: &[usize]) -> Vec<Seen> {
        let mut seen = Vec::new();
        let mut note = |line: Line<'_>| {
            seen.push(match line {
                Line::Whole(bytes) => Seen::Whole(bytes.to_vec()),
                Line::TooLong(length) => Seen::TooLong(length),
            });
        };
        let mut lines = Lines::new(limit);
        let mut rest = bytes;
        for piece in pieces.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (head, tail) = rest.split_at(rest.len().min(*piece));
            lines.feed(head, &mut note);
            assert!(lines.partial.len() <= limit, "memory is bounded");
            rest = tail;
        }
        lines.finish(&mut note);
        seen
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_where_the_stream_is_cut(
            bytes in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..400),
            pieces in prop::collection::vec(1_usize..40, 1..10),
            limit in 1_usize..30,
        ) {
            let mut expected: Vec<Seen> = bytes
                .split(|&b| b == b'\n')
                .map(|line| match line.len() > limit {
                    true => Seen::TooLong(line.len() as u64),
                    false => Seen::Whole(line.to_vec()),
                })
                .collect();
            // What follows the last newline is a line only if it has a byte.
            if expected.last() == Some(&Seen::Whole(Vec::new())) {
                expected.pop();
            }
            let seen = cut(limit, &bytes, &pieces);
            // An empty line carries nothing; whether it is told depends on the cut.
            let told = |lines: Vec<Seen>| -> Vec<Seen> {
                lines.into_iter().filter(|line| *line != Seen::Whole(Vec::new())).collect()
            };
            prop_assert_eq!(told(seen), told(expected));
        }
    }

    #[test]
    fn room_for_a_long_line_is_given_back() {
        let mut lines = Lines::new(8 << 20);
        lines.feed(&vec![b'x'; 4 << 20], |_| {});
        lines.feed(b"\n", |line| {
            assert!(matches!(line, Line::Whole(bytes) if bytes.len() == 4 << 20))
        });
        assert!(lines.partial.capacity() <= KEPT_BYTES);
    }
}
