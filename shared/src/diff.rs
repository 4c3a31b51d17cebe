//! From two versions of a text to the edits between them, and edits moved over other edits.
//!
//! Cuts are only at character boundaries (half a surrogate pair would be lost for ever), untouched
//! lines keep their identity, and cost is bounded: lines first (`lines`), then characters inside
//! small hunks only.

mod lines;
mod rebase;

use std::ops::Range;

use imara_diff::{Algorithm, Diff, InternedInput};

pub use rebase::rebase;

use crate::text::utf16_len;

/// Largest hunk side, in bytes, that is refined below lines; an untokenised diff of more is slow
/// and finds accidental letters in common. Zed draws the same line.
const MAX_REFINED_BYTES: usize = 512;
/// Longest run of equal characters between two edits, in UTF-16 units, that is not worth two edits.
const MIN_GAP: u32 = 3;

/// One edit of a text: at `at`, `delete` units go and `insert` comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextEdit {
    /// Where, in UTF-16 units of the text before any of the edits.
    pub at: u32,
    /// How much goes, in UTF-16 units.
    pub delete: u32,
    /// What comes.
    pub insert: String,
}

/// The edits that make `new` of `old`: ascending, apart, at character boundaries.
pub fn diff(old: &str, new: &str) -> Vec<TextEdit> {
    // Trimmed to whole lines: an inserted line then stands between its neighbours' line ends.
    let prefix = common_prefix(old, new);
    let prefix = old[..prefix].rfind('\n').map_or(0, |at| at + 1);
    let suffix = common_suffix(&old[prefix..], &new[prefix..]);
    let tail = &old[old.len() - suffix..];
    let suffix = tail.find('\n').map_or(0, |at| tail.len() - at - 1);
    let (old_core, new_core) = (
        &old[prefix..old.len() - suffix],
        &new[prefix..new.len() - suffix],
    );
    let mut edits = Edits::starting_at(utf16_len(&old[..prefix]));
    edits.by_lines(old_core, new_core);
    at_line_starts(&mut edits.done, old);
    edits.done
}

/// Moves every pure insertion that can be made at the start of a line instead there.
///
/// `b-` put between `a-` and `1` of `a-1` is the same as `a-b` put before it, for this text. For
/// whoever inserts at the same time it is not: theirs would end up inside this one.
fn at_line_starts(edits: &mut [TextEdit], old: &str) {
    let mut walk = Walk::default();
    for edit in edits {
        let kept_from = walk.bytes;
        walk.to(edit.at, old);
        let kept = &old[kept_from..walk.bytes];
        walk.to(edit.at + edit.delete, old);
        if edit.delete == 0
            && let Some(slid) = slide(kept, kept_from == 0, &edit.insert)
        {
            let (head, tail) = edit.insert.split_at(edit.insert.len() - slid);
            edit.at -= utf16_len(tail);
            edit.insert = [tail, head].concat();
        }
    }
}

/// A place in a text, in both ways to count.
#[derive(Default)]
struct Walk {
    units: u32,
    bytes: usize,
}

impl Walk {
    fn to(&mut self, units: u32, text: &str) {
        for c in text[self.bytes..].chars() {
            if self.units >= units {
                break;
            }
            self.units += c.len_utf16() as u32;
            self.bytes += c.len_utf8();
        }
    }
}

/// How many bytes an insertion behind `kept` can be moved back to the start of a line, if it is not
/// at one.
fn slide(kept: &str, is_start: bool, insert: &str) -> Option<usize> {
    let line = match kept.rfind('\n') {
        Some(at) => at + 1,
        None if is_start => 0,
        None => return None,
    };
    let slid = kept.len() - line;
    let possible = slid <= common_suffix(kept, insert) && slid < insert.len();
    (slid > 0 && possible).then_some(slid)
}

/// The runs of lines of `old` that `new` has others for: pairs of which one may be empty.
pub fn replaced_lines<'a>(old: &'a str, new: &'a str) -> Vec<(&'a str, &'a str)> {
    let hunks = line_hunks(old, new).into_iter();
    hunks
        .map(|(before, after)| (&old[before], &new[after]))
        .collect()
}

/// Where the lines differ, in bytes of the old and of the new text.
fn line_hunks(old: &str, new: &str) -> Vec<(Range<usize>, Range<usize>)> {
    let (old_starts, new_starts) = (line_starts(old), line_starts(new));
    let of = |starts: &[usize], range: Range<u32>| {
        starts[range.start as usize]..starts[range.end as usize]
    };
    let hunks = lines::differing(old, new).into_iter();
    hunks
        .map(|(before, after)| (of(&old_starts, before), of(&new_starts, after)))
        .collect()
}

/// Collects edits while walking over the old text.
struct Edits {
    done: Vec<TextEdit>,
    /// Where the walk is, in UTF-16 units of the old text.
    at: u32,
}

impl Edits {
    fn starting_at(at: u32) -> Self {
        Self {
            done: Vec::new(),
            at,
        }
    }

    fn keep(&mut self, kept: &str) {
        self.at += utf16_len(kept);
    }

    fn replace(&mut self, old: &str, new: &str) {
        let delete = utf16_len(old);
        if delete > 0 || !new.is_empty() {
            self.done.push(TextEdit {
                at: self.at,
                delete,
                insert: new.into(),
            });
        }
        self.at += delete;
    }

    fn by_lines(&mut self, old: &str, new: &str) {
        let mut kept_from = 0;
        for (before, after) in line_hunks(old, new) {
            self.keep(&old[kept_from..before.start]);
            kept_from = before.end;
            self.hunk(&old[before], &new[after]);
        }
    }

    fn hunk(&mut self, old: &str, new: &str) {
        let prefix = common_prefix(old, new);
        let suffix = common_suffix(&old[prefix..], &new[prefix..]);
        self.keep(&old[..prefix]);
        let tail = &old[old.len() - suffix..];
        let (old, new) = (
            &old[prefix..old.len() - suffix],
            &new[prefix..new.len() - suffix],
        );
        let small = old.len().max(new.len()) <= MAX_REFINED_BYTES;
        if small && !old.is_empty() && !new.is_empty() {
            self.by_words(old, new);
        } else {
            self.replace(old, new);
        }
        self.keep(tail);
    }

    fn by_words(&mut self, old: &str, new: &str) {
        let (old_words, new_words) = (words(old), words(new));
        let mut input = InternedInput::default();
        input.update_before(old_words.iter().copied());
        input.update_after(new_words.iter().copied());
        let diff = Diff::compute(Algorithm::Histogram, &input);
        let mut hunks = Vec::<(Range<u32>, Range<u32>)>::new();
        let len = |from: u32, to: u32| -> u32 {
            old_words[from as usize..to as usize]
                .iter()
                .map(|w| utf16_len(w))
                .sum()
        };
        for hunk in diff.hunks() {
            match hunks.last_mut() {
                Some((before, after)) if len(before.end, hunk.before.start) < MIN_GAP => {
                    before.end = hunk.before.end;
                    after.end = hunk.after.end;
                }
                _ => hunks.push((hunk.before, hunk.after)),
            }
        }
        let mut kept_from = 0;
        let join = |words: &[&str], range: Range<u32>| {
            words[range.start as usize..range.end as usize].concat()
        };
        for (before, after) in hunks {
            self.keep(&join(&old_words, kept_from..before.start));
            kept_from = before.end;
            let (old, new) = (join(&old_words, before), join(&new_words, after));
            let prefix = common_prefix(&old, &new);
            let suffix = common_suffix(&old[prefix..], &new[prefix..]);
            self.keep(&old[..prefix]);
            self.replace(
                &old[prefix..old.len() - suffix],
                &new[prefix..new.len() - suffix],
            );
            self.keep(&old[old.len() - suffix..]);
        }
        self.keep(&join(&old_words, kept_from..old_words.len() as u32));
    }
}

/// Runs of letters and digits, and every other character by itself.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut start = 0;
    let mut in_word = false;
    for (at, c) in text.char_indices() {
        let is_word = c.is_alphanumeric() || c == '_';
        if at > start && !(is_word && in_word) {
            words.push(&text[start..at]);
            start = at;
        }
        in_word = is_word;
    }
    if start < text.len() {
        words.push(&text[start..]);
    }
    words
}

/// Byte offsets at which lines begin, and the end.
fn line_starts(text: &str) -> Vec<usize> {
    let mut starts = vec![0];
    starts.extend(text.match_indices('\n').map(|(at, _)| at + 1));
    if starts.last() != Some(&text.len()) {
        starts.push(text.len());
    }
    starts
}

/// Bytes that both begin with, cut at a character boundary.
fn common_prefix(a: &str, b: &str) -> usize {
    let mut len = a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count();
    while !a.is_char_boundary(len) || !b.is_char_boundary(len) {
        len -= 1;
    }
    len
}

/// Bytes that both end with, cut at a character boundary.
fn common_suffix(a: &str, b: &str) -> usize {
    let mut len = a
        .bytes()
        .rev()
        .zip(b.bytes().rev())
        .take_while(|(x, y)| x == y)
        .count();
    while !a.is_char_boundary(a.len() - len) || !b.is_char_boundary(b.len() - len) {
        len -= 1;
    }
    len
}

#[cfg(test)]
mod tests;
