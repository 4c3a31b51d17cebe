//! The project's paths, indexed: which document lies where, and which names collide.
//!
//! A mirror of `files` that holds only what parses. The owner keeps it equal to its replica.

use std::collections::{BTreeMap, HashMap};

use uspark_shared::id::DocId;
use uspark_shared::path::{FilePath, below};
use uspark_shared::schema::Entry;

/// Every path of a project.
#[derive(Debug, Default)]
pub struct Tree {
    entries: BTreeMap<FilePath, Entry>,
    /// Where each document lies, the path that was set last at the end. More than one only until
    /// the repairs are through.
    by_doc: HashMap<DocId, Vec<FilePath>>,
    /// From what a file system may confuse to the path that was there first.
    by_collision: HashMap<String, FilePath>,
    /// Each path that was set or removed since the last [`Tree::take_changes`], with what was
    /// there then.
    changed: BTreeMap<FilePath, Option<Entry>>,
}

impl Tree {
    /// The entry at a path.
    pub fn get(&self, path: &FilePath) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// Every path, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&FilePath, &Entry)> {
        self.entries.iter()
    }

    /// Where a text document lies.
    pub fn path_of(&self, doc: &DocId) -> Option<&FilePath> {
        self.paths_of(doc).last()
    }

    /// Every path that names a text document, the one set last at the end.
    pub fn paths_of(&self, doc: &DocId) -> &[FilePath] {
        self.by_doc.get(doc).map_or(&[], Vec::as_slice)
    }

    /// The paths that were set or removed since the last call, and what was there then.
    pub fn take_changes(&mut self) -> BTreeMap<FilePath, Option<Entry>> {
        std::mem::take(&mut self.changed)
    }

    /// Leaves a change for the next [`Tree::take_changes`].
    pub fn leave_change(&mut self, path: FilePath, before: Option<Entry>) {
        self.changed.entry(path).or_insert(before);
    }

    /// Sets a path, and gives what was there.
    pub fn set(&mut self, path: &FilePath, entry: Entry) -> Option<Entry> {
        let before = self.remove(path);
        self.leave_change(path.clone(), None);
        if let Some(doc) = entry.doc() {
            self.by_doc
                .entry(doc.clone())
                .or_default()
                .push(path.clone());
        }
        self.by_collision
            .entry(path.collision_key())
            .or_insert_with(|| path.clone());
        self.entries.insert(path.clone(), entry);
        before
    }

    /// Removes a path, and gives what was there.
    pub fn remove(&mut self, path: &FilePath) -> Option<Entry> {
        let before = self.entries.remove(path)?;
        self.leave_change(path.clone(), Some(before.clone()));
        if let Some(doc) = before.doc()
            && let Some(paths) = self.by_doc.get_mut(doc)
        {
            paths.retain(|other| other != path);
            if paths.is_empty() {
                self.by_doc.remove(doc);
            }
        }
        let key = path.collision_key();
        if self.by_collision.get(&key) == Some(path) {
            self.by_collision.remove(&key);
        }
        Some(before)
    }

    /// Another path that some file system would take for this one.
    pub fn collides_with(&self, path: &FilePath) -> Option<&FilePath> {
        self.by_collision
            .get(&path.collision_key())
            .filter(|other| *other != path)
    }

    /// The innermost path above this one that has an entry: a file where a directory is needed.
    pub fn above(&self, path: &FilePath) -> Option<FilePath> {
        path.ancestors()
            .find(|ancestor| self.entries.contains_key(ancestor))
    }

    /// Whether anything lies below this path.
    pub fn has_below(&self, path: &FilePath) -> bool {
        below(&self.entries, path).next().is_some()
    }

    /// The first of `path`, `path-2`, `path-3`, … that is free, cut to what a name may have.
    pub fn free(&self, path: FilePath) -> FilePath {
        let is_free = |name: &FilePath| !self.entries.contains_key(name);
        if is_free(&path) {
            return path;
        }
        let mut others = (2..u32::MAX).map(|n| path.numbered(n));
        others.find(is_free).unwrap_or(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(s: &str) -> FilePath {
        s.parse().unwrap()
    }

    fn text(doc: &str) -> Entry {
        Entry::Text {
            doc: doc.parse().unwrap(),
            seed: uspark_shared::id::BlobHash::of(b""),
            mode: 0o644,
            mtime: 0,
        }
    }

    #[test]
    fn a_free_name_is_found_however_long_it_is() {
        let mut tree = Tree::default();
        let long = path(&"x".repeat(255));
        let mut names = vec![long.clone()];
        for n in 2..=12 {
            tree.set(names.last().unwrap(), Entry::Dir);
            let free = tree.free(long.clone());
            assert!(free.as_str().ends_with(&format!("x-{n}")) && free.as_str().len() == 255);
            names.push(free);
        }
        assert_eq!(tree.free(path("a")), path("a"));
    }

    #[test]
    fn documents_follow_their_path() {
        let mut tree = Tree::default();
        let doc = "d".parse().unwrap();
        tree.set(&path("a"), text("d"));
        tree.set(&path("b"), text("d"));
        tree.remove(&path("a"));
        assert_eq!(tree.path_of(&doc), Some(&path("b")));
        tree.set(&path("b"), Entry::Dir);
        assert_eq!(tree.path_of(&doc), None);
    }

    #[test]
    fn collisions_are_seen_from_every_side() {
        let mut tree = Tree::default();
        tree.set(&path("src/Main.rs"), text("d"));
        assert_eq!(
            tree.collides_with(&path("SRC/main.rs")),
            Some(&path("src/Main.rs"))
        );
        assert_eq!(tree.collides_with(&path("src/Main.rs")), None);
        assert_eq!(
            tree.above(&path("src/Main.rs/x/y")),
            Some(path("src/Main.rs"))
        );
        assert!(tree.has_below(&path("src")) && !tree.has_below(&path("sr")));
        tree.remove(&path("src/Main.rs"));
        assert_eq!(tree.collides_with(&path("SRC/main.rs")), None);
    }

    #[test]
    fn what_was_there_before_the_first_change_is_kept() {
        let mut tree = Tree::default();
        tree.set(&path("a"), text("d"));
        tree.set(&path("b"), Entry::Dir);
        tree.take_changes();
        tree.set(&path("a"), Entry::Dir);
        tree.remove(&path("a"));
        tree.set(&path("c"), text("d"));
        tree.set(&path("c"), Entry::Dir);
        tree.remove(&path("not-there"));
        let changes = tree.take_changes();
        assert_eq!(
            changes.into_iter().collect::<Vec<_>>(),
            [(path("a"), Some(text("d"))), (path("c"), None)]
        );
        assert!(tree.take_changes().is_empty());
    }

    #[test]
    fn a_free_name_is_free() {
        let mut tree = Tree::default();
        assert_eq!(tree.free(path("a")), path("a"));
        tree.set(&path("a"), Entry::Dir);
        tree.set(&path("a-2"), Entry::Dir);
        assert_eq!(tree.free(path("a")), path("a-3"));
    }
}
