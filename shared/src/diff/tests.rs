use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

/// Applies edits to a plain text.
pub(super) fn apply(edits: &[TextEdit], old: &str) -> String {
    let units: Vec<u16> = old.encode_utf16().collect();
    let mut new = Vec::new();
    let mut at = 0;
    for edit in edits {
        assert!(edit.at as usize >= at, "edits overlap: {edits:?}");
        new.extend_from_slice(&units[at..edit.at as usize]);
        new.extend(edit.insert.encode_utf16());
        at = (edit.at + edit.delete) as usize;
    }
    new.extend_from_slice(&units[at..]);
    String::from_utf16(&new).expect("edits cut at character boundaries")
}

/// Lines and words drawn from few, so that texts share much.
fn text() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "let ",
        "x",
        " = ",
        "1;",
        "\n",
        "\r\n",
        "😀",
        "👨‍👩‍👧",
        "e\u{301}",
        "\u{feff}",
        "foo_bar",
        "é",
        "\u{fffd}",
    ]);
    prop::collection::vec(word, 0..60).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn applying_the_diff_gives_the_new_text(old in text(), new in text()) {
        let edits = diff(&old, &new);
        prop_assert_eq!(apply(&edits, &old), new.clone());
        prop_assert_eq!(edits.is_empty(), old == new);
    }
}

#[test]
fn scattered_changes_stay_scattered() {
    let old: String = (0..100).map(|n| format!("line {n}\n")).collect();
    let new = old
        .replace("line 10\n", "line ten\n")
        .replace("line 50\n", "")
        .replace("line 90\n", "line 90\nmore\n");
    let edits = diff(&old, &new);
    let sizes: Vec<_> = edits
        .iter()
        .map(|e| (e.delete, e.insert.as_str()))
        .collect();
    assert_eq!(sizes, [(2, "ten"), (8, ""), (0, "more\n")]);
}

#[test]
fn inside_a_line_only_the_words_that_changed_are_touched() {
    let edits = diff(
        "let total = price * count;\n",
        "let sum = price * number;\n",
    );
    let sizes: Vec<_> = edits
        .iter()
        .map(|e| (e.at, e.delete, e.insert.as_str()))
        .collect();
    assert_eq!(sizes, [(4, 5, "sum"), (20, 5, "number")]);
}

#[test]
fn whole_lines_are_inserted_between_lines() {
    for (old, new) in [
        ("a-1\n", "a-2\na-1\n"),
        ("x\na-1\nx\na-1\n", "x\na-1\nx\na-2\na-1\n"),
        ("é-1\nz\n", "é-3\né-1\nZ\n"),
    ] {
        for edit in diff(old, new).iter().filter(|edit| edit.delete == 0) {
            assert!(edit.insert.ends_with('\n'), "{edit:?}");
        }
        assert_eq!(apply(&diff(old, new), old), new);
    }
    let edits = diff("ab 111\n", "ab 222\nab 111 x\n");
    let found: Vec<_> = edits.iter().map(|e| (e.at, e.insert.as_str())).collect();
    assert_eq!(found, [(0, "ab 222\n"), (6, " x")]);
    // Not at any price: this is no line.
    assert_eq!(diff("a-1", "a-b-1")[0].at, 2);
}

#[test]
fn emoji_are_never_cut() {
    // The two share their first surrogate.
    assert_eq!(
        diff("a😀b", "a😁b"),
        [TextEdit {
            at: 1,
            delete: 2,
            insert: "😁".into()
        }]
    );
}

/// How long a diff takes at best, and what it gives.
fn timed(old: &str, new: &str) -> (Duration, Vec<TextEdit>) {
    let run = || {
        let began = Instant::now();
        let edits = diff(old, new);
        (began.elapsed(), edits)
    };
    (0..3)
        .map(|_| run())
        .min_by_key(|(took, _)| *took)
        .expect("it ran")
}

/// Lines until there is 1 MiB of them.
fn mebibyte(line: impl FnMut(usize) -> String) -> String {
    let lines = (0..).map(line).scan(0, |size, line| {
        *size += line.len();
        (*size <= 1 << 20).then_some(line)
    });
    lines.collect()
}

#[test]
fn a_whole_rewrite_of_a_large_text_is_one_bounded_step() {
    let old = mebibyte(|n| format!("old line {n} with some words in it\n"));
    let new = mebibyte(|n| format!("quite another text, {n}, entirely\n"));
    let (one_line, edits) = timed(&old, &old.replacen("line 9000 ", "line X ", 1));
    assert_eq!(edits.len(), 1);
    let (rewrite, edits) = timed(&old, &new);
    let whole = TextEdit {
        at: 0,
        delete: utf16_len(&old) - 1,
        insert: new[..new.len() - 1].to_owned(),
    };
    // They share their last line end.
    assert!(edits == [whole], "{} edits", edits.len());
    assert!(
        rewrite < 10 * one_line,
        "{rewrite:?}, and {one_line:?} for one line"
    );
    // A text that is one line is as bounded.
    let flat = |text: &str| text.replace('\n', " ");
    let (rewrite, edits) = timed(&flat(&old), &flat(&new));
    assert!(edits.len() == 1 && rewrite < 10 * one_line, "{rewrite:?}");
}

#[test]
fn a_large_text_of_few_different_lines_is_bounded_too() {
    let mut bits = 1_u64;
    let mut random = |_| {
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        format!("{}\n", bits % 3)
    };
    let (old, new) = (mebibyte(&mut random), mebibyte(&mut random));
    let distinct = mebibyte(|n| format!("{n}\n"));
    let (one_line, _) = timed(&distinct, &distinct.replacen("\n9000\n", "\nX\n", 1));
    let (rewrite, edits) = timed(&old, &new);
    assert_eq!(apply(&edits, &old), new);
    assert!(
        edits.len() == 1 && rewrite < 20 * one_line,
        "{rewrite:?}, {one_line:?} for one line"
    );
    // Far apart, what did not change between them is kept.
    let mut lines: Vec<&str> = old.split_inclusive('\n').collect();
    lines[1000] = "3\n";
    lines[100_000] = "4\n";
    lines.insert(200_000, "5\n");
    let new = lines.concat();
    let (few, edits) = timed(&old, &new);
    assert_eq!(apply(&edits, &old), new);
    let gone: u32 = edits.iter().map(|edit| edit.delete).sum();
    let came: usize = edits.iter().map(|edit| edit.insert.len()).sum();
    assert!(gone <= 4 && came <= 6, "{edits:?}");
    assert!(few < 20 * one_line, "{few:?}, {one_line:?} for one line");
}
