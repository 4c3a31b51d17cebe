//! What to tell of changes in the tree. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use uspark_shared::id::{BlobHash, DocId};
use uspark_shared::path::FilePath;
use uspark_shared::schema::Entry;

use crate::store::{FileKind, FileState, Happening};

/// A path that changed: what was there, and what is there now.
pub type Change = (Option<Entry>, Option<Entry>);

/// What happened, by path: a text that went from one path to another is one thing.
///
/// `settled` gives a text's content, by its document and seed. Entries of the original protocol are
/// none yet: they are to be left out.
pub fn happened(
    changes: &BTreeMap<FilePath, Change>,
    settled: impl Fn(&DocId, &BlobHash) -> BlobHash,
) -> Vec<(FilePath, Happening)> {
    let state = &|entry: &Entry| file_state(entry, &settled);
    let was: HashMap<&DocId, &FilePath> = changes
        .iter()
        .filter_map(|(path, (before, _))| Some((before.as_ref()?.doc()?, path)))
        .collect();
    let from = |path: &FilePath, now: &Entry| {
        let from = *was.get(now.doc()?)?;
        // A copy that took the document leaves the file as it was, with another one.
        let stays = match &changes[from] {
            (Some(before), Some(after)) => is_same(before, after, state),
            _ => false,
        };
        (from != path && !stays).then(|| from.clone())
    };
    let moved: HashSet<FilePath> = changes
        .iter()
        .filter_map(|(path, (_, after))| from(path, after.as_ref()?))
        .collect();
    let one = |(path, (before, after)): (&FilePath, &Change)| {
        let path = path.clone();
        Some(match (before, after) {
            (_, Some(now)) if let Some(from) = from(&path, now) => Happening::Moved {
                path,
                from,
                file: state(now),
            },
            // What was here is told where it is now.
            (Some(_), None) if moved.contains(&path) => return None,
            (Some(before), None) => Happening::Deleted {
                path,
                file: state(before),
            },
            (Some(before), Some(now)) if !is_same(before, now, state) => Happening::Changed {
                path,
                file: state(now),
            },
            (None, Some(now)) => Happening::Created {
                path,
                file: state(now),
            },
            _ => return None,
        })
    };
    changes
        .iter()
        .filter_map(|change| Some((change.0.clone(), one(change)?)))
        .collect()
}

/// Whether kind, content, mode and target are the same. Another time or document is no difference.
fn is_same(before: &Entry, now: &Entry, state: impl Fn(&Entry) -> FileState) -> bool {
    let outside = |entry: &Entry| match entry {
        Entry::Text { mode, .. } | Entry::Blob { mode, .. } => (Some(*mode), None),
        Entry::Link { target } => (None, Some(target.clone())),
        Entry::Original { .. } | Entry::Dir => (None, None),
    };
    state(before) == state(now) && outside(before) == outside(now)
}

fn file_state(entry: &Entry, settled: impl Fn(&DocId, &BlobHash) -> BlobHash) -> FileState {
    let (kind, hash) = match entry {
        Entry::Text { doc, seed, .. } => (FileKind::Text, Some(settled(doc, seed))),
        Entry::Blob { hash, .. } | Entry::Original { hash, .. } => (FileKind::Binary, Some(*hash)),
        Entry::Link { .. } => (FileKind::Link, None),
        Entry::Dir => (FileKind::Dir, None),
    };
    FileState { kind, hash }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(doc: &str, mode: u32) -> Option<Entry> {
        Some(Entry::Text {
            doc: doc.parse().unwrap(),
            seed: BlobHash::of(b"seed"),
            mode,
            mtime: 0,
        })
    }

    fn link(target: &str) -> Option<Entry> {
        Some(Entry::Link {
            target: target.into(),
        })
    }

    /// Each change as a line of what is told of it.
    fn told(changes: &[(&str, Option<Entry>, Option<Entry>)]) -> Vec<String> {
        let changes = changes
            .iter()
            .map(|(path, before, after)| (path.parse().unwrap(), (before.clone(), after.clone())))
            .collect();
        let told = happened(&changes, |doc, _| BlobHash::of(doc.as_str().as_bytes()));
        let line = |(at, what): (FilePath, Happening)| match what {
            Happening::Created { path, .. } if path == at => format!("+{path}"),
            Happening::Changed { path, .. } if path == at => format!("*{path}"),
            Happening::Deleted { path, .. } if path == at => format!("-{path}"),
            Happening::Moved { path, from, .. } if path == at => format!("{from}>{path}"),
            other => panic!("{at}: {other:?}"),
        };
        told.into_iter().map(line).collect()
    }

    #[test]
    fn each_path_is_told_once() {
        let changes = [
            ("created", None, text("a", 1)),
            ("deleted", text("b", 1), None),
            ("mode", text("c", 1), text("c", 2)),
            ("same", text("d", 1), text("d", 1)),
            ("came-and-went", None, None),
            ("link", link("x"), link("y")),
            ("kind", text("e", 1), link("x")),
            ("replaced", text("f", 1), text("g", 1)),
        ];
        let expected = [
            "+created",
            "-deleted",
            "*kind",
            "*link",
            "*mode",
            "*replaced",
        ];
        assert_eq!(told(&changes), expected);
    }

    #[test]
    fn a_text_that_goes_from_path_to_path_is_one_move() {
        assert_eq!(
            told(&[("a", text("d", 1), None), ("b", None, text("d", 1))]),
            ["a>b"]
        );
        // Over another file, and a new one in its old place.
        let over = [
            ("a", text("d", 1), text("e", 1)),
            ("b", text("x", 1), text("d", 1)),
        ];
        assert_eq!(told(&over), ["*a", "a>b"]);
        let swapped = [
            ("a", text("d", 1), text("e", 1)),
            ("b", text("e", 1), text("d", 1)),
        ];
        assert_eq!(told(&swapped), ["b>a", "a>b"]);
    }

    #[test]
    fn a_document_of_its_own_with_the_same_content_is_no_change() {
        let mut changes = BTreeMap::from([("a".parse().unwrap(), (text("d", 1), text("e", 1)))]);
        assert_eq!(happened(&changes, |_, seed| *seed), []);
        // Also where a copy has the old one: nothing has moved.
        changes.insert("copy".parse().unwrap(), (None, text("d", 1)));
        let told = happened(&changes, |_, seed| *seed);
        assert!(
            matches!(&told[..], [(_, Happening::Created { .. })]),
            "{told:?}"
        );
    }

    #[test]
    fn a_text_is_told_with_its_settled_content() {
        let changes = BTreeMap::from([("a".parse().unwrap(), (None, text("d", 1)))]);
        let file = FileState {
            kind: FileKind::Text,
            hash: Some(BlobHash::of(b"now")),
        };
        let path: FilePath = "a".parse().unwrap();
        let created = Happening::Created {
            path: path.clone(),
            file,
        };
        assert_eq!(
            happened(&changes, |_, _| BlobHash::of(b"now")),
            [(path, created)]
        );
    }
}
