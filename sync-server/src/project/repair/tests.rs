use std::cell::Cell;
use std::collections::HashMap;

use serde_json::json;

use super::*;

/// Blobs are named by their content; `doc-…` documents are known.
#[derive(Default)]
struct Known {
    blobs: HashMap<BlobHash, BlobFact>,
    texts: HashMap<DocId, TextFact>,
    drawn: Cell<u32>,
}

impl Known {
    fn with(contents: &[&str]) -> Self {
        let mut known = Self::default();
        for content in contents {
            let is_text = !content.contains('\0');
            let fact = BlobFact {
                size: content.len() as u64,
                is_text,
            };
            known.blobs.insert(hash(content), fact);
        }
        known
    }

    fn text(mut self, id: &str, seed: &str, current: &str) -> Self {
        let fact = TextFact {
            seed: hash(seed),
            current: hash(current),
        };
        self.texts.insert(doc(id), fact);
        self
    }
}

impl Facts for Known {
    fn blob(&self, hash: &BlobHash) -> Option<BlobFact> {
        self.blobs.get(hash).copied()
    }

    fn text(&self, doc: &DocId) -> Option<TextFact> {
        self.texts.get(doc).copied()
    }

    fn fresh_doc(&self) -> DocId {
        self.drawn.set(self.drawn.get() + 1);
        doc(&format!("fresh-{}", self.drawn.get()))
    }
}

fn hash(content: &str) -> BlobHash {
    BlobHash::of(content.as_bytes())
}

fn doc(id: &str) -> DocId {
    id.parse().unwrap()
}

fn path(s: &str) -> FilePath {
    s.parse().unwrap()
}

fn text(id: &str, seed: &str) -> Entry {
    Entry::Text {
        doc: doc(id),
        seed: hash(seed),
        mode: 0o644,
        mtime: 7,
    }
}

fn blob(content: &str) -> Entry {
    Entry::Blob {
        hash: hash(content),
        size: content.len() as u64,
        mode: 0o644,
        mtime: 7,
    }
}

fn tree(entries: &[(&str, Entry)]) -> Tree {
    let mut tree = Tree::default();
    for (at, entry) in entries {
        tree.set(&path(at), entry.clone());
    }
    tree
}

fn set(key: &str, value: serde_json::Value) -> KeyChange {
    KeyChange {
        key: key.into(),
        before: None,
        after: Some(value),
    }
}

fn put(key: &str, entry: &Entry) -> KeyChange {
    set(key, entry.to_json())
}

fn gone(key: &str) -> KeyChange {
    KeyChange {
        key: key.into(),
        before: None,
        after: None,
    }
}

fn review(tree: &mut Tree, known: &Known, changes: &[KeyChange]) -> Repairs {
    let mut review = Review::new(tree, known, "ann", 99);
    review.changes(changes);
    review.finish()
}

fn set_file(at: &str, entry: Entry) -> ProjectEdit {
    ProjectEdit::SetFile(path(at), entry)
}

fn remove(key: &str) -> ProjectEdit {
    ProjectEdit::RemoveFile(key.into())
}

#[test]
fn what_is_right_is_left_alone() {
    let (mut tree, known) = (Tree::default(), Known::with(&["a", "b\0"]));
    let changes = [
        put("src/a", &text("d", "a")),
        put("b", &blob("b\0")),
        put("e", &Entry::Dir),
    ];
    let repairs = review(&mut tree, &known, &changes);
    assert_eq!((repairs.edits, repairs.reports), (vec![], vec![]));
    let expected = TextChange {
        doc: doc("d"),
        seed: hash("a"),
        path: path("src/a"),
        is_live: true,
    };
    assert_eq!(repairs.texts, [expected]);
}

#[test]
fn a_key_that_is_no_path_is_removed_and_told() {
    for key in [
        "../x",
        "/etc/passwd",
        "a\0b",
        "",
        ".git/hooks/x",
        ".USPARK/y",
    ] {
        let (mut tree, known) = (Tree::default(), Known::with(&["a"]));
        let repairs = review(&mut tree, &known, &[put(key, &text("d", "a"))]);
        assert_eq!(repairs.edits, [remove(key)]);
        assert_eq!(repairs.reports[0].path, key);
        assert_eq!(repairs.texts, []);
    }
}

#[test]
fn a_value_that_is_no_entry_is_removed_or_put_back() {
    let known = Known::with(&["a"]).text("d", "a", "a");
    let repairs = review(&mut Tree::default(), &known, &[set("x", json!(42))]);
    assert_eq!(repairs.edits, [remove("x")]);
    let repairs = review(
        &mut tree(&[("x", text("d", "a"))]),
        &known,
        &[set("x", json!({ "doc": 1 }))],
    );
    assert_eq!(repairs.edits, [set_file("x", text("d", "a"))]);
    assert_eq!(repairs.reports.len(), 1);
}

#[test]
fn an_absent_blob_is_waited_for() {
    let (mut tree, mut known) = (Tree::default(), Known::default());
    let repairs = review(
        &mut tree,
        &known,
        &[put("x", &text("d", "late")), put("y", &blob("late"))],
    );
    assert_eq!((repairs.edits, repairs.texts), (vec![], vec![]));
    assert_eq!(repairs.waiting.len(), 2);
    known.blobs.extend(Known::with(&["late"]).blobs);
    let mut later = Review::new(&mut tree, &known, "ann", 99);
    later.again(repairs.waiting);
    assert_eq!(later.finish().texts.len(), 1);
}

#[test]
fn a_seed_that_is_no_text_is_a_binary_and_sizes_are_true() {
    let known = Known::with(&["b\0"]);
    let mut wrong = blob("b\0");
    if let Entry::Blob { size, .. } = &mut wrong {
        *size = 12345;
    }
    let repairs = review(
        &mut Tree::default(),
        &known,
        &[put("x", &text("d", "b\0")), put("y", &wrong)],
    );
    assert_eq!(
        repairs.edits,
        [set_file("x", blob("b\0")), set_file("y", blob("b\0"))]
    );
}

#[test]
fn a_document_keeps_its_seed() {
    let known = Known::with(&["a", "b"]).text("d", "a", "a");
    let mut tree = tree(&[("x", text("d", "a"))]);
    let repairs = review(&mut tree, &known, &[put("x", &text("d", "b"))]);
    assert_eq!(repairs.edits, [set_file("x", text("d", "a"))]);
}

#[test]
fn a_rename_keeps_the_document() {
    let known = Known::with(&["a"]).text("d", "a", "now");
    let mut tree = tree(&[("x", text("d", "a"))]);
    let repairs = review(&mut tree, &known, &[put("y", &text("d", "a")), gone("x")]);
    assert_eq!((repairs.edits, repairs.reports), (vec![], vec![]));
    let moved = TextChange {
        doc: doc("d"),
        seed: hash("a"),
        path: path("y"),
        is_live: true,
    };
    assert_eq!(repairs.texts, [moved]);
}

#[test]
fn of_two_paths_with_one_document_the_later_keeps_it() {
    let known = Known::with(&["a", "now"]).text("d", "a", "now");
    let mut tree = tree(&[("x", text("d", "a"))]);
    let repairs = review(&mut tree, &known, &[put("y", &text("d", "a"))]);
    assert_eq!(repairs.edits, [set_file("x", text("fresh-1", "now"))]);
    assert_eq!(tree.path_of(&doc("d")), Some(&path("y")));
    // The same inside one update, of a document nobody knew.
    let mut tree = Tree::default();
    let repairs = review(
        &mut tree,
        &known,
        &[put("p", &text("n", "a")), put("q", &text("n", "a"))],
    );
    assert_eq!(repairs.edits, [set_file("p", text("fresh-2", "a"))]);
}

#[test]
fn a_removed_text_is_remembered_where_it_was() {
    let known = Known::with(&["a"]).text("d", "a", "a");
    let mut tree = tree(&[("x", text("d", "a"))]);
    let repairs = review(&mut tree, &known, &[gone("x")]);
    let expected = TextChange {
        doc: doc("d"),
        seed: hash("a"),
        path: path("x"),
        is_live: false,
    };
    assert_eq!(repairs.texts, [expected]);
}

#[test]
fn names_that_collide_are_moved_aside() {
    let known = Known::with(&["a", "b"]).text("d", "a", "a");
    let mut tree = tree(&[("Src", text("d", "a"))]);
    let repairs = review(&mut tree, &known, &[put("src", &text("e", "b"))]);
    let aside = "src.conflict-ann-99";
    assert_eq!(
        repairs.edits,
        [remove("src"), set_file(aside, text("e", "b"))]
    );
    assert_eq!(repairs.texts.last().unwrap().path, path(aside));
}

#[test]
fn a_file_gives_way_to_a_directory_of_its_name() {
    let known = Known::with(&["a", "b"]).text("d", "a", "a");
    // Something comes below a file.
    let mut files = tree(&[("x", text("d", "a"))]);
    let repairs = review(&mut files, &known, &[put("x/y", &text("e", "b"))]);
    assert_eq!(
        repairs.edits,
        [remove("x"), set_file("x.conflict-ann-99", text("d", "a"))]
    );
    // A file comes where something lies below.
    let mut files = tree(&[("x/y", text("d", "a"))]);
    let repairs = review(&mut files, &known, &[put("x", &text("e", "b"))]);
    assert_eq!(
        repairs.edits,
        [remove("x"), set_file("x.conflict-ann-99", text("e", "b"))]
    );
    // An empty directory that is no longer empty just goes.
    let mut files = tree(&[("x", Entry::Dir)]);
    let repairs = review(&mut files, &known, &[put("x/y", &text("e", "b"))]);
    assert_eq!(
        (repairs.edits, repairs.reports),
        (vec![remove("x")], vec![])
    );
}

#[test]
fn bytes_of_the_original_protocol_go_to_the_bridge() {
    let known = Known::with(&["new"]).text("d", "a", "a");
    let mut tree = tree(&[("x", text("d", "a"))]);
    let original = Entry::Original {
        hash: hash("new"),
        mtime: 5,
    };
    let repairs = review(&mut tree, &known, &[put("x", &original)]);
    let before = Some(text("d", "a"));
    assert_eq!(
        repairs.bridges,
        [Bridge {
            path: path("x"),
            hash: hash("new"),
            mtime: 5,
            before
        }]
    );
    assert_eq!(repairs.texts, [], "the document stays where it is");
}

#[test]
fn a_loser_is_kept_once() {
    let known = Known::with(&["a", "b"])
        .text("d", "a", "a")
        .text("e", "b", "typed");
    let mut tree = tree(&[("x", text("d", "a"))]);
    let loser = Loser {
        key: "x".into(),
        value: text("e", "b").to_json(),
        who: "bob".into(),
    };
    let keep = |tree: &mut Tree| {
        let mut review = Review::new(tree, &known, "ann", 99);
        review.losers(vec![loser.clone()]);
        review.finish().edits
    };
    assert_eq!(
        keep(&mut tree),
        [set_file("x.conflict-bob-7", text("e", "b"))]
    );
    assert_eq!(keep(&mut tree), []);
}

#[test]
fn a_loser_that_says_the_same_needs_no_copy() {
    let known = Known::with(&["a"]).text("d", "a", "a").text("e", "a", "a");
    let mut tree = tree(&[("x", text("d", "a")), ("y", blob("a"))]);
    let mut review = Review::new(&mut tree, &known, "ann", 99);
    let of = |key: &str, entry: Entry| Loser {
        key: key.into(),
        value: entry.to_json(),
        who: "bob".into(),
    };
    review.losers(vec![
        of("x", text("e", "a")),
        of("x", text("d", "a")),
        of("y", blob("a")),
        of("x", Entry::Dir),
    ]);
    assert_eq!(review.finish().edits, []);
}

#[test]
fn what_is_told_is_bounded_and_what_is_put_right_is_not() {
    let (mut tree, known) = (Tree::default(), Known::default());
    let long = format!("/{}", "x".repeat(100_000));
    let keys = (0..2 * MAX_REPORTS).map(|n| format!("/{n}"));
    let changes: Vec<_> = std::iter::once(long)
        .chain(keys)
        .map(|key| set(&key, json!({"dir": true})))
        .collect();
    let repairs = review(&mut tree, &known, &changes);
    assert_eq!(repairs.edits.len(), changes.len());
    assert_eq!(repairs.reports.len(), MAX_REPORTS);
    let told = |report: &Report| report.path.len() + report.reason.len();
    assert!(repairs.reports.iter().all(|report| told(report) < 2000));
}
