//! Edits made on a base, moved over what the base became meanwhile.

use super::TextEdit;
use crate::text::utf16_len;

/// Moves `edits` over `over`: both were made on the same base; the result applies to the text that
/// `over` made of it.
///
/// Everything that either inserted is there once, and what either deleted is gone. Where both
/// insert at one place, the text of `over` comes first.
pub fn rebase(edits: &[TextEdit], over: &[TextEdit]) -> Vec<TextEdit> {
    let map = PositionMap::new(over);
    let mut moved = Vec::new();
    for edit in edits {
        let at = map.now(edit.at);
        let mut insert = edit.insert.clone();
        for (start, delete) in map.kept(edit.at, edit.at + edit.delete) {
            if start > at && !insert.is_empty() {
                let insert = std::mem::take(&mut insert);
                moved.push(TextEdit {
                    at,
                    delete: 0,
                    insert,
                });
            }
            let insert = std::mem::take(&mut insert);
            moved.push(TextEdit {
                at: start,
                delete,
                insert,
            });
        }
        if !insert.is_empty() {
            moved.push(TextEdit {
                at,
                delete: 0,
                insert,
            });
        }
    }
    moved
}

/// Where positions of the base are after some edits.
struct PositionMap<'a> {
    over: &'a [TextEdit],
    /// For each edit, how far everything before it moved.
    shifts: Vec<i64>,
}

impl<'a> PositionMap<'a> {
    fn new(over: &'a [TextEdit]) -> Self {
        let mut shift = 0;
        let mut shifts = vec![0];
        for edit in over {
            shift += i64::from(utf16_len(&edit.insert)) - i64::from(edit.delete);
            shifts.push(shift);
        }
        Self { over, shifts }
    }

    /// Where base position `at` is now: behind what was inserted there, and at the end of what
    /// replaced it.
    fn now(&self, at: u32) -> u32 {
        let before = self
            .over
            .partition_point(|edit| edit.at + edit.delete <= at);
        let straddling = self.over.get(before).filter(|edit| edit.at < at);
        let (at, inserted) = match straddling {
            Some(edit) => (edit.at, utf16_len(&edit.insert)),
            None => (at, 0),
        };
        // Never negative: an edit deletes only what lies before the position it shifts.
        (i64::from(at) + self.shifts[before]) as u32 + inserted
    }

    /// What is still there of base range `start..end`, as present (start, length) pieces.
    fn kept(&self, start: u32, end: u32) -> Vec<(u32, u32)> {
        let mut pieces = Vec::new();
        let mut at = start;
        let first = self
            .over
            .partition_point(|edit| edit.at + edit.delete < start);
        for edit in self.over[first..].iter().take_while(|edit| edit.at < end) {
            if edit.at > at {
                pieces.push((self.now(at), edit.at - at));
            }
            at = at.max(edit.at + edit.delete);
        }
        if end > at {
            pieces.push((self.now(at), end - at));
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::diff;
    use super::super::tests::apply;
    use super::*;

    fn merged(base: &str, theirs: &str, ours: &str) -> String {
        let over = diff(base, theirs);
        apply(&rebase(&diff(base, ours), &over), theirs)
    }

    #[test]
    fn both_sides_changes_are_kept() {
        assert_eq!(
            merged("a\nb\nc\n", "a1\nb\nc\n", "a\nb\nc2\n"),
            "a1\nb\nc2\n"
        );
        assert_eq!(merged("a\nb\nc\n", "a\nc\n", "a\nb\nc\nd\n"), "a\nc\nd\n");
        assert_eq!(merged("ab", "axb", "ayb"), "axyb");
        assert_eq!(merged("abc", "", "abXc"), "X");
        assert_eq!(merged("abc", "abXc", ""), "X");
        assert_eq!(merged("", "x", "y"), "xy");
    }

    /// What one side does at one character of the base: insert before it, delete it.
    #[derive(Debug, Clone, Copy)]
    struct Act {
        inserts: bool,
        deletes: bool,
    }

    fn acts() -> impl Strategy<Value = Act> {
        (prop::bool::weighted(0.3), prop::bool::weighted(0.4))
            .prop_map(|(inserts, deletes)| Act { inserts, deletes })
    }

    /// Edits that insert tokens `<mark><position>;`, and the tokens.
    fn edits_of(acts: &[Act], mark: char) -> (Vec<TextEdit>, Vec<String>) {
        let mut edits = Vec::new();
        let mut tokens = Vec::new();
        for (at, act) in acts.iter().enumerate() {
            // The last act has no character to delete.
            let delete = u32::from(act.deletes && at + 1 < acts.len());
            let insert = if act.inserts {
                format!("{mark}{at};")
            } else {
                String::new()
            };
            if act.inserts {
                tokens.push(insert.clone());
            }
            if delete > 0 || act.inserts {
                edits.push(TextEdit {
                    at: at as u32,
                    delete,
                    insert,
                });
            }
        }
        (edits, tokens)
    }

    proptest! {
        #[test]
        fn no_insertion_is_lost_or_doubled_and_no_deletion_undone(
            acts in prop::collection::vec((acts(), acts()), 1..40),
        ) {
            let base_char = |at: usize| char::from_u32(0x4e00 + at as u32).unwrap();
            let base: String = (0..acts.len() - 1).map(base_char).collect();
            let (theirs, ours): (Vec<Act>, Vec<Act>) = acts.iter().copied().unzip();
            let (over, their_tokens) = edits_of(&theirs, 'T');
            let (edits, our_tokens) = edits_of(&ours, 'O');
            let result = apply(&rebase(&edits, &over), &apply(&over, &base));
            for token in their_tokens.iter().chain(&our_tokens) {
                prop_assert_eq!(result.matches(token.as_str()).count(), 1, "{} in {}", token, result);
            }
            let kept: String = (0..acts.len() - 1)
                .filter(|at| !theirs[*at].deletes && !ours[*at].deletes).map(base_char).collect();
            let left: String = result.chars().filter(|c| !c.is_ascii()).collect();
            prop_assert_eq!(left, kept);
        }
    }
}
