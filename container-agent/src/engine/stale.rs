//! Whether somebody who wrote a file had seen what was last written back to it.
//!
//! A program reads a file, thinks, and writes all of it. If others' words reached the file in
//! between, what it writes lacks them, and taken as an edit of what is on disk it would delete
//! them. It is an edit of what it read. Which version that was is not recorded anywhere; but a
//! version that takes back what was written back since, all that it brought and all that it
//! removed, was almost certainly written by somebody who had not seen it. In doubt the words stay:
//! whoever really meant to remove them can, by writing the same once more, or in part.

use std::collections::HashMap;

use uspark_shared::diff::{TextEdit, diff, replaced_lines};
use uspark_shared::text::utf16_len;

/// Text shorter than this, in UTF-16 units without blanks around it, is too common to tell anything.
const TELLING: u32 = 4;

/// Whether `now` takes back in full what made `after` of `before`.
pub(super) fn takes_back(before: &str, after: &str, now: &str) -> bool {
    match lines_tell(before, after, now) {
        Some(told) => told,
        None => letters_tell(before, after, now),
    }
}

/// How many lines one of two texts has and the other has not, wherever they are.
pub(super) fn lines_apart(one: &str, other: &str) -> usize {
    let counts = count_lines([one, other]);
    counts
        .values()
        .map(|[one, other]| one.abs_diff(*other))
        .sum()
}

/// Decides by whole lines: none where a line was changed further, or is too common.
fn lines_tell(before: &str, after: &str, now: &str) -> Option<bool> {
    let counts = count_lines([before, after, now]);
    let (mut changed, mut clear) = (false, true);
    for (line, [before, after, now]) in &counts {
        let is_telling = utf16_len(line.trim()) >= TELLING;
        match (before < after, before > after) {
            (true, _) if now <= before => changed = true,
            (true, _) if is_telling => return Some(false),
            (_, true) if now >= before => changed = true,
            (false, false) => {}
            _ => clear = false,
        }
    }
    if !changed || !clear {
        return None;
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

/// Whether a line may be an edited version of another.
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
    common >= TELLING as usize && 2 * common >= shorter
}

fn count_lines<const N: usize>(texts: [&str; N]) -> HashMap<&str, [usize; N]> {
    let mut counts = HashMap::new();
    for (at, text) in texts.into_iter().enumerate() {
        for line in text.lines() {
            counts.entry(line).or_insert([0; N])[at] += 1;
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
    let brought = change.iter().map(|edit| edit.insert.trim());
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
        // A deletion is taken back by bringing the words again.
        assert!(takes_back(AFTER, BEFORE, &AFTER.replace("one", "eins")));
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
