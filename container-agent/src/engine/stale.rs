//! Whether somebody who wrote a file had seen what was last written back to it.
//!
//! A program reads a file, thinks, and writes all of it. If others' words reached the file in
//! between, what it writes lacks them, and taken as an edit of what is on disk it would delete
//! them. It is an edit of what it read. Which version that was is not recorded anywhere; but a
//! version that takes back a write-back in full, all that it brought and all that it removed, was
//! almost certainly written by somebody who had not seen it. In doubt the words stay: whoever
//! really meant to remove them can, a moment later or in part.

use uspark_shared::diff::{TextEdit, diff};
use uspark_shared::text::utf16_len;

/// Insertions shorter than this, in UTF-16 units without blanks, are too common to be recognised.
const TELLING: u32 = 4;

/// Whether `now` takes back in full what made `after` of `before`; one or more write-backs did.
pub(super) fn takes_back(before: &str, after: &str, now: &str) -> bool {
    let change = diff(before, after);
    if change.is_empty() {
        return false;
    }
    let (from_before, from_after) = (cost(&diff(before, now)), cost(&diff(after, now)));
    if from_after >= from_before + cost(&change) {
        return true;
    }
    // The cheapest edits may borrow letters from one another: what was brought tells more.
    let brought = change
        .iter()
        .flat_map(|edit| edit.insert.lines().map(str::trim));
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
