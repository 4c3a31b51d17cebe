//! Whether somebody who wrote a file had seen what was last written back to it.
//!
//! A program reads a file, thinks, and writes all of it. If others' words reached the file in
//! between, what it writes lacks them, and taken as an edit of what is on disk it would delete
//! them. It is an edit of what it read. Which version that was is not recorded anywhere; but a
//! version that takes back what was written back since, all that it brought and all that it
//! removed, was almost certainly written by somebody who had not seen it. In doubt the words stay:
//! whoever really meant to remove them can, by writing the same once more, or in part.

use std::collections::HashMap;
use std::hash::Hash;

use uspark_shared::diff::{TextEdit, diff, replaced_lines};
use uspark_shared::text::utf16_len;

/// Text shorter than this, in UTF-16 units without blanks around it, is too common to tell anything.
const TELLING: u32 = 4;

/// Whether `now` takes back in full what made `after` of `before`.
pub(super) fn takes_back(before: &str, after: &str, now: &str) -> bool {
    let takes = lines_tell(before, after, now)
        .unwrap_or_else(|| words_tell(before, after, now) || letters_tell(before, after, now));
    takes && !has_words(before, after, now)
}

/// Whether the words that were brought are there, in their order and between their neighbours, however
/// they are set: lines joined or broken anew, other blanks, quotes or separators.
fn has_words(before: &str, after: &str, now: &str) -> bool {
    let counts = count([before, after, now], neighbours);
    let brought = || counts.values().filter(|[before, after, _]| before < after);
    brought().next().is_some() && brought().all(|[_, after, now]| now >= after)
}

/// How many words one of two texts has and the other has not, wherever they are; then how many lines.
/// Of a line that both changed the line itself tells nothing.
pub(super) fn apart(one: &str, other: &str) -> (usize, usize) {
    fn sum(counts: HashMap<&str, [usize; 2]>) -> usize {
        let differences = counts.values().map(|[one, other]| one.abs_diff(*other));
        differences.sum()
    }
    let texts = [one, other];
    (sum(count(texts, words)), sum(count(texts, str::lines)))
}

/// Decides by whole lines: none where a line was changed further, or is too common.
fn lines_tell(before: &str, after: &str, now: &str) -> Option<bool> {
    let counts = count([before, after, now], str::lines);
    if !counts_tell(&counts)? {
        return Some(false);
    }
    let brought = |line: &str| counts[line][0] < counts[line][1];
    let new = |line: &str| counts[line][2] > counts[line][0];
    let goes_on = |(old, new_lines): &(&str, &str)| {
        let mut old = old.lines().filter(|line| brought(line));
        old.any(|old| {
            new_lines
                .lines()
                .any(|line| new(line) && is_like(old, line))
        })
    };
    let edited = replaced_lines(after, now).iter().any(goes_on);
    (!edited).then_some(true)
}

/// Whether words tell, where both changed a line; not where a word was changed further, or is too common.
fn words_tell(before: &str, after: &str, now: &str) -> bool {
    let counts = count([before, after, now], words);
    if counts_tell(&counts) != Some(true) {
        return false;
    }
    let mut brought = counts
        .iter()
        .filter(|(_, [before, after, _])| before < after);
    let new = || counts.iter().filter(|(_, [before, _, now])| now > before);
    // Of many words that are gone again some are like a new one by chance.
    !brought.all(|(old, _)| new().any(|(word, _)| is_like(old, word)))
}

/// Whether `now` has no more of what was brought, and all of what was removed; none when it has some, or
/// what it has is too common.
fn counts_tell(counts: &HashMap<&str, [usize; 3]>) -> Option<bool> {
    let (mut changed, mut clear) = (false, true);
    for (piece, [before, after, now]) in counts {
        let is_telling = utf16_len(piece.trim()) >= TELLING;
        match (before < after, before > after) {
            (true, _) if now <= before => changed = true,
            (true, _) if is_telling => return Some(false),
            (_, true) if now >= before => changed = true,
            (false, false) => {}
            _ => clear = false,
        }
    }
    (changed && clear).then_some(true)
}

/// Whether a line or a word may be an edited version of another.
fn is_like(old: &str, new: &str) -> bool {
    let (old, new) = (old.trim(), new.trim());
    let prefix = old.bytes().zip(new.bytes()).take_while(|(a, b)| a == b);
    let suffix = old
        .bytes()
        .rev()
        .zip(new.bytes().rev())
        .take_while(|(a, b)| a == b);
    let shorter = old.len().min(new.len());
    let common = (prefix.count() + suffix.count()).min(shorter);
    common >= TELLING as usize && 4 * common > 3 * shorter
}

/// Each word with the one behind it.
fn neighbours(text: &str) -> impl Iterator<Item = (&str, &str)> {
    words(text).zip(words(text).skip(1))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_between = |c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-'));
    text.split(is_between).filter(|word| !word.is_empty())
}

/// How often each piece is in each text.
fn count<'a, const N: usize, T: Eq + Hash, P: Iterator<Item = T>>(
    texts: [&'a str; N],
    pieces: impl Fn(&'a str) -> P,
) -> HashMap<T, [usize; N]> {
    let mut counts = HashMap::new();
    for (at, text) in texts.into_iter().enumerate() {
        for piece in pieces(text) {
            counts.entry(piece).or_insert([0; N])[at] += 1;
        }
    }
    counts
}

/// Decides by the cost of the edits that would have been made.
fn letters_tell(before: &str, after: &str, now: &str) -> bool {
    let change = diff(before, after);
    let (from_before, from_after) = (cost(&diff(before, now)), cost(&diff(after, now)));
    if from_after >= from_before + cost(&change) {
        return true;
    }
    // The cheapest edits may borrow letters from one another: what was brought tells more.
    let brought = change.iter().flat_map(|edit| edit.insert.lines());
    let brought = brought.map(str::trim);
    let mut telling = brought.filter(|text| utf16_len(text) >= TELLING).peekable();
    let absent = |text: &str| now.matches(text).count() <= before.matches(text).count();
    from_before < from_after && telling.peek().is_some() && telling.all(absent)
}

/// How much edits change, in UTF-16 units.
fn cost(edits: &[TextEdit]) -> u32 {
    edits
        .iter()
        .map(|edit| edit.delete + utf16_len(&edit.insert))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "fn main() {\n    one();\n    two();\n}\n";
    const AFTER: &str = "fn main() {\n    one();\n    // typed\n    two();\n}\n";

    #[test]
    fn who_had_not_seen_the_words_takes_them_all_back() {
        for now in [
            BEFORE,
            "fn main() {\n    one();\n    two();\n    three();\n}\n",
            "fn main() {\n    one();\n    changed();\n}\n",
            "fn main() {\n    one(1);\n    two(2);\n}\n",
        ] {
            assert!(takes_back(BEFORE, AFTER, now), "{now}");
        }
        // Short lines have letters in common with anything.
        let lines = "a\n<b2>\nb\n<a3>\n<c2>\nc\n";
        assert!(takes_back(
            "a\nb\nc\n",
            "a\n<q1>\nb\n<q2>\n<q0>\nc\n",
            lines
        ));
        // Words on one line, each brought by another.
        assert!(takes_back("one;\n", "one;person-11;\n", "one;program-7;\n"));
        let (numbered, others) = ("one-30;\ntwo;\n", "one-340;\ntwo; three-2;\n");
        assert!(takes_back(
            "two;\n",
            &format!("{numbered}person;\n"),
            others
        ));
        // A deletion is taken back by bringing the words again.
        assert!(takes_back(AFTER, BEFORE, &AFTER.replace("one", "eins")));
    }

    #[test]
    fn of_two_versions_the_one_without_the_words_is_nearer() {
        for (nearer, other, wrote) in [
            (
                "one;\ntwo;\n",
                "one;\ntwo; person;\n",
                "one; new;\ntwo; newer;\n",
            ),
            // Further by lines.
            (
                "one;\nfirst; second;\n",
                "one;\n",
                "one;\nfirst; second; third;\n",
            ),
        ] {
            assert!(apart(nearer, wrote) < apart(other, wrote), "{wrote}");
        }
    }

    #[test]
    fn who_goes_on_in_a_line_that_was_brought_has_seen_it() {
        let (before, after) = ("a\nb\n", "a brought;\nalso; here;\nhis; own;\nb\n");
        let now = "a\nmine; my own;\nhis; own; and mine;\nb\n";
        assert!(!takes_back(before, after, now));
    }

    #[test]
    fn who_sets_the_words_anew_has_seen_them() {
        let (before, after) = ("one\ntwo\nthree\n", "one\nHello people\ntwo\nthree\n");
        for now in [
            "one Hello people two three ",
            "one Hello\npeople two\nthree\n",
            "one\n\nHello  people\n\ntwo\nthree\n",
            "\"one\", \"Hello people\", \"two\", \"three\"\n",
        ] {
            assert!(!takes_back(before, after, now), "{now}");
        }
        let (before, after) = (
            "{\n  'a': 1,\n  'b': 2\n}\n",
            "{\n  'a': 1,\n  'typed': 7,\n  'b': 2\n}\n",
        );
        assert!(!takes_back(before, after, "{\"a\":1,\"typed\":7,\"b\":2}"));
        assert!(takes_back(before, after, "{\"a\":1,\"b\":2,\"typist\":7}"));
    }

    #[test]
    fn who_had_seen_the_words_keeps_some_of_them() {
        for now in [
            AFTER,
            "fn main() {\n    one();\n    // typed\n    two();\n    three();\n}\n",
            "fn main() {\n    // typed\n}\n",
            "fn main() {\n    one();\n    // type\n    two();\n}\n",
            "fn main() {\n    one();\n    // typed and edited\n    two();\n}\n",
        ] {
            assert!(!takes_back(BEFORE, AFTER, now), "{now}");
        }
    }
}
