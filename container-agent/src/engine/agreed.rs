//! What disk and project last agreed on, in memory: the journal's bases, and ways to find them.

use std::collections::{BTreeMap, HashMap};

use uspark_shared::id::DocId;
use uspark_shared::path::{FilePath, below};

use crate::journal::Base;

/// All bases.
#[derive(Debug, Default)]
pub(super) struct Agreed {
    bases: BTreeMap<FilePath, Base>,
    /// Where the file of an inode was.
    inodes: HashMap<(u64, u64), FilePath>,
    /// Where the text of a document is on disk.
    docs: HashMap<DocId, FilePath>,
}

impl Agreed {
    /// Takes in what was remembered.
    pub fn new(bases: Vec<(FilePath, Base)>) -> Self {
        let mut agreed = Self::default();
        for (path, base) in bases {
            agreed.set(&path, base);
        }
        agreed
    }

    /// Sets a path's base.
    pub fn set(&mut self, path: &FilePath, base: Base) {
        self.remove(path);
        if let Some(print) = &base.print {
            self.inodes.insert((print.dev, print.ino), path.clone());
        }
        if let Some(doc) = base.entry.doc() {
            self.docs.insert(doc.clone(), path.clone());
        }
        self.bases.insert(path.clone(), base);
    }

    /// Removes a path's base, and gives it.
    pub fn remove(&mut self, path: &FilePath) -> Option<Base> {
        let base = self.bases.remove(path)?;
        if let Some(print) = &base.print {
            let inode = (print.dev, print.ino);
            if self.inodes.get(&inode) == Some(path) {
                self.inodes.remove(&inode);
            }
        }
        if let Some(doc) = base.entry.doc()
            && self.docs.get(doc) == Some(path)
        {
            self.docs.remove(doc);
        }
        Some(base)
    }

    /// A path's base.
    pub fn get(&self, path: &FilePath) -> Option<&Base> {
        self.bases.get(path)
    }

    /// The path that an inode was last agreed to be.
    pub fn at_inode(&self, dev: u64, ino: u64) -> Option<&FilePath> {
        self.inodes.get(&(dev, ino))
    }

    /// All paths whose file is of this inode. Looks at every path.
    pub fn names_of(&self, dev: u64, ino: u64) -> impl Iterator<Item = &FilePath> {
        let is = move |base: &Base| {
            base.print
                .is_some_and(|print| (print.dev, print.ino) == (dev, ino))
        };
        self.bases
            .iter()
            .filter(move |(_, base)| is(base))
            .map(|(path, _)| path)
    }

    /// The path at which a document's text is on disk.
    pub fn at_doc(&self, doc: &DocId) -> Option<&FilePath> {
        self.docs.get(doc)
    }

    /// Every path with a base.
    pub fn paths(&self) -> impl Iterator<Item = &FilePath> {
        self.bases.keys()
    }

    /// Every path with its base.
    pub fn iter(&self) -> impl Iterator<Item = (&FilePath, &Base)> {
        self.bases.iter()
    }

    /// Every path with a base below a directory.
    pub fn below(&self, directory: &FilePath) -> impl Iterator<Item = &FilePath> {
        below(&self.bases, directory).map(|(path, _)| path)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.bases.len()
    }
}
