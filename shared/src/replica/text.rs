//! A text document: one `Y.Text` named `content`.

use std::ops::Deref;

use yrs::types::text::{Diff, YChange};
use yrs::{GetString as _, Out, ReadTxn, Text as _, TextRef, Transact as _, WriteTxn as _};

use super::{ClientId, Replica};
use crate::diff::TextEdit;
use crate::schema::CONTENT;
use crate::text::utf16_len;

/// A replica of a text document.
pub struct TextReplica(Replica);

impl TextReplica {
    /// An empty text.
    pub fn new(client: ClientId) -> Self {
        Self(Replica::new(client))
    }

    /// The text, without the embeds and formats that a foreign client may have put into it.
    pub fn text(&self) -> String {
        let txn = self.doc.transact();
        let text = txn.get_text(CONTENT);
        text.map(|text| text.get_string(&txn)).unwrap_or_default()
    }

    /// Edits the text. `edits` are in UTF-16 units of the text as it is, ascending and apart.
    ///
    /// Gives the update that says so, or `None` if nothing changed.
    pub fn edit(&self, edits: &[TextEdit]) -> Option<Vec<u8>> {
        self.edit_with(|txn| {
            let text = txn.get_or_insert_text(CONTENT);
            let embeds = embeds(txn, &text);
            // From the end, so that earlier positions stay true.
            for edit in edits.iter().rev() {
                for (at, len) in around(&embeds, edit.at, edit.delete).into_iter().rev() {
                    text.remove_range(txn, at, len);
                }
                if !edit.insert.is_empty() {
                    text.insert(txn, shifted(&embeds, edit.at), &edit.insert);
                }
            }
        })
    }

    /// Appends to the text in one insert.
    pub(crate) fn append(&self, chunk: &str) -> Option<Vec<u8>> {
        self.edit_with(|txn| {
            let text = txn.get_or_insert_text(CONTENT);
            if !chunk.is_empty() {
                text.push(txn, chunk);
            }
        })
    }
}

impl Deref for TextReplica {
    type Target = Replica;

    fn deref(&self) -> &Replica {
        &self.0
    }
}

/// Where embeds stand, as positions in the plain text (ascending). Yjs counts each as one.
fn embeds(txn: &impl ReadTxn, text: &TextRef) -> Vec<u32> {
    if text.len(txn) == utf16_len(&text.get_string(txn)) {
        return Vec::new();
    }
    let mut at = 0;
    let mut embeds = Vec::new();
    for Diff { insert, .. } in text.diff(txn, YChange::identity) {
        match insert {
            Out::Any(yrs::Any::String(chunk)) => at += utf16_len(&chunk),
            _ => embeds.push(at),
        }
    }
    embeds
}

/// The index, embeds counted, of position `at` of the plain text; before an embed standing there.
fn shifted(embeds: &[u32], at: u32) -> u32 {
    at + embeds.partition_point(|embed| *embed < at) as u32
}

/// The index ranges, embeds counted but left alone, of the plain text's range.
fn around(embeds: &[u32], at: u32, len: u32) -> Vec<(u32, u32)> {
    let end = at + len;
    let first = embeds.partition_point(|embed| *embed <= at);
    let mut ranges = Vec::new();
    let mut start = at;
    for (count, embed) in embeds.iter().enumerate().skip(first) {
        if *embed >= end {
            break;
        }
        if *embed > start {
            ranges.push((start + count as u32, embed - start));
            start = *embed;
        }
    }
    if end > start {
        let before = embeds.partition_point(|embed| *embed <= start) as u32;
        ranges.push((start + before, end - start));
    }
    ranges
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::diff::diff;

    fn replica(text: &str) -> TextReplica {
        let replica = TextReplica::new(ClientId::from_random([7; 4]));
        replica.append(text);
        replica
    }

    proptest! {
        #[test]
        fn an_edit_makes_the_new_text_and_its_update_carries_it(
            old in "[ab\r\n😀é]{0,40}", new in "[ab\r\n😀é]{0,40}",
        ) {
            let author = replica(&old);
            let other = TextReplica::new(ClientId::from_random([8; 4]));
            other.apply(&author.state()).unwrap();
            let update = author.edit(&diff(&old, &new));
            prop_assert_eq!(update.is_none(), old == new);
            if let Some(update) = update {
                other.apply(&update).unwrap();
            }
            prop_assert_eq!(author.text(), new.clone());
            prop_assert_eq!(other.text(), new);
        }

        #[test]
        fn embeds_are_left_alone(
            old in "[ab😀]{1,12}", new in "[ab😀]{0,12}", spots in prop::collection::vec(0..12u32, 1..4),
        ) {
            let author = replica(&old);
            let chars: Vec<u32> = old.chars().scan(0, |at, c| {
                let here = *at;
                *at += c.len_utf16() as u32;
                Some(here)
            }).collect();
            let mut spots: Vec<u32> = spots.iter().map(|s| chars[*s as usize % chars.len()]).collect();
            spots.sort_unstable();
            author.edit_with(|txn| {
                let text = txn.get_or_insert_text(CONTENT);
                for spot in spots.iter().rev() {
                    text.insert_embed(txn, *spot, yrs::Any::from(true));
                }
            });
            prop_assert_eq!(author.text(), old.clone());
            author.edit(&diff(&old, &new));
            prop_assert_eq!(author.text(), new);
            let txn = author.doc.transact();
            let text = txn.get_text(CONTENT).unwrap();
            let kept = text.diff(&txn, YChange::identity).iter()
                .filter(|d| !matches!(d.insert, Out::Any(yrs::Any::String(_)))).count();
            prop_assert_eq!(kept, spots.len());
        }
    }

    #[test]
    fn a_one_line_edit_of_a_large_text_is_a_small_update() {
        let old: String = (0..4000)
            .map(|n| format!("line number {n} of the file\n"))
            .collect();
        let new = old.replace("number 2000 of", "number 2000 (changed) of");
        let update = replica(&old).edit(&diff(&old, &new)).unwrap();
        assert!(old.len() > 100_000 && update.len() < 60, "{}", update.len());
    }
}
