//! The scan against yrs: whatever yrs makes scans to what yrs reads. (What anybody else makes: `hostile.rs`.)

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use proptest::prelude::*;
use uspark_shared::update::{BlockKind, Content, Parent, scan};
use yrs::block::ClientID;
use yrs::updates::decoder::Decode as _;
use yrs::{
    Any, Array as _, ArrayPrelim, Doc, Map as _, MapPrelim, OffsetKind, Options, ReadTxn as _,
    StateVector, Text as _, TextPrelim, Transact as _, Update, merge_updates_v1,
};

#[path = "checks/agrees.rs"]
mod agrees;

use agrees::assert_agrees;

/// Strings of one, two, three and four bytes per character, so that bytes, characters and UTF-16
/// units all differ.
const WORDS: [&str; 6] = ["a", "héllo", "日本", "😀", "x😀\r\n", "👩‍👩‍👧"];

#[derive(Debug, Clone)]
enum Edit {
    Insert {
        at: u8,
        word: usize,
    },
    Delete {
        at: u8,
        len: u8,
    },
    Format {
        at: u8,
        len: u8,
        bold: bool,
    },
    Embed {
        at: u8,
    },
    SetEntry {
        key: u8,
        mtime: i64,
    },
    RemoveEntry {
        key: u8,
    },
    Nest {
        key: u8,
        word: usize,
    },
    PushItems {
        count: u8,
    },
    /// Gives `to` everything that the author has.
    Sync {
        to: usize,
    },
}

fn edit() -> impl Strategy<Value = Edit> {
    let word = 0..WORDS.len();
    prop_oneof![
        4 => (any::<u8>(), word.clone()).prop_map(|(at, word)| Edit::Insert { at, word }),
        3 => (any::<u8>(), 1_u8..6).prop_map(|(at, len)| Edit::Delete { at, len }),
        1 => (any::<u8>(), 1_u8..6, any::<bool>())
            .prop_map(|(at, len, bold)| Edit::Format { at, len, bold }),
        1 => any::<u8>().prop_map(|at| Edit::Embed { at }),
        3 => (0_u8..4, 0..i64::from(u32::MAX) * 1000)
            .prop_map(|(key, mtime)| Edit::SetEntry { key, mtime }),
        1 => (0_u8..4).prop_map(|key| Edit::RemoveEntry { key }),
        1 => (0_u8..4, word).prop_map(|(key, word)| Edit::Nest { key, word }),
        1 => (1_u8..4).prop_map(|count| Edit::PushItems { count }),
        2 => (0_usize..3).prop_map(|to| Edit::Sync { to }),
    ]
}

/// An author whose client id needs one byte, five bytes or eight.
fn author(index: usize) -> Doc {
    let client = [7, u64::from(u32::MAX), (1 << 53) - 1][index];
    let mut options = Options::with_client_id(ClientID::new(client));
    options.offset_kind = OffsetKind::Utf16;
    Doc::with_options(options)
}

/// Does one edit and gives its update; of a sync, everything that was given.
fn apply(docs: &[Doc], author: usize, edit: &Edit) -> Vec<u8> {
    let doc = &docs[author];
    let text = doc.get_or_insert_text("content");
    let files = doc.get_or_insert_map("files");
    let list = doc.get_or_insert_array("list");
    if let Edit::Sync { to } = *edit {
        let update = doc
            .transact()
            .encode_state_as_update_v1(&StateVector::default());
        if to != author {
            let decoded = Update::decode_v1(&update).unwrap();
            docs[to].transact_mut().apply_update(decoded).unwrap();
        }
        return update;
    }
    let mut txn = doc.transact_mut();
    let len = text.len(&txn);
    let place = |at: u8| u32::from(at) % (len + 1);
    let name = |key: u8| format!("src/é{key}.rs");
    match *edit {
        Edit::Insert { at, word } => text.insert(&mut txn, place(at), WORDS[word]),
        Edit::Delete { at, len: wanted } => {
            let at = place(at);
            text.remove_range(&mut txn, at, u32::from(wanted).min(len - at));
        }
        Edit::Format {
            at,
            len: wanted,
            bold,
        } => {
            let at = place(at);
            let attributes = [("bold".into(), Any::from(bold))].into_iter().collect();
            text.format(&mut txn, at, u32::from(wanted).min(len - at), attributes);
        }
        Edit::Embed { at } => {
            text.insert_embed(&mut txn, place(at), Any::from(vec![1, 2]));
        }
        Edit::SetEntry { key, mtime } => {
            files.insert(&mut txn, name(key), Any::from_json(&entry(mtime)).unwrap());
        }
        Edit::RemoveEntry { key } => {
            files.remove(&mut txn, &name(key));
        }
        Edit::Nest { key, word } => {
            let map = files.insert(&mut txn, name(key), MapPrelim::default());
            map.insert(&mut txn, "list", ArrayPrelim::from([1, 2, 3]));
            map.insert(&mut txn, "text", TextPrelim::new(WORDS[word]));
        }
        Edit::PushItems { count } => {
            for n in 0..count {
                list.push_back(&mut txn, Any::from(f64::from(n) + 0.5));
            }
        }
        Edit::Sync { .. } => unreachable!("done above"),
    }
    txn.commit();
    txn.encode_update_v1()
}

fn entry(mtime: i64) -> String {
    format!(r#"{{"doc":"d","seed":"s","mode":420,"mtime":{mtime},"x":[null,true,1.5]}}"#)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 96,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn everything_that_yrs_makes_scans_to_what_yrs_reads(
        edits in prop::collection::vec((0_usize..3, edit()), 1..40),
        dropped in any::<u64>(),
    ) {
        let docs = [author(0), author(1), author(2)];
        let mut updates = Vec::new();
        for (author, edit) in &edits {
            let before = docs[*author].transact().state_vector();
            let update = apply(&docs, *author, edit);
            let scanned = scan(&update).expect("an update of yrs");
            assert_agrees(&update, &scanned);
            if let Edit::SetEntry { mtime, .. } = edit {
                let expected: serde_json::Value = serde_json::from_str(&entry(*mtime)).unwrap();
                let found = scanned.blocks().any(|block| match block.kind {
                    BlockKind::Item(item) => match item.content {
                        Content::Any(values) => values.iter().any(|value| value == expected),
                        _ => false,
                    },
                    _ => false,
                });
                prop_assert!(found, "{scanned:?} lacks {expected}");
            }
            let diff = docs[*author].transact().encode_diff_v1(&before);
            assert_agrees(&diff, &scan(&diff).expect("a diff of yrs"));
            updates.push(update);
        }
        // Some left out: the merge has holes.
        let some = updates.iter().enumerate().filter(|(at, _)| dropped >> (at % 64) & 1 == 0);
        let merged = merge_updates_v1(some.map(|(_, update)| update)).unwrap();
        assert_agrees(&merged, &scan(&merged).expect("a merge of yrs"));
        // With pending blocks, then without.
        let late = author(0);
        late.transact_mut().apply_update(Update::decode_v1(&merged).unwrap()).unwrap();
        let state = late.transact().encode_state_as_update_v1(&StateVector::default());
        assert_agrees(&state, &scan(&state).expect("a state of yrs with pending blocks"));
    }
}

#[test]
fn the_first_value_of_a_key_names_its_map_and_itself() {
    let docs = [author(0)];
    let update = apply(&docs, 0, &Edit::SetEntry { key: 1, mtime: 5 });
    let block = scan(&update).unwrap().blocks().next().unwrap();
    let BlockKind::Item(item) = block.kind else {
        panic!("{block:?}");
    };
    assert_eq!(item.parent, Some(Parent::Root("files")));
    assert_eq!(item.key, Some("src/é1.rs"));
}
