//! The first content of text documents, kept by hash beside the workspace.
//!
//! A text that was never edited has no state in the journal: its shadow is computed from these
//! bytes. They are kept here because by the time they are needed, at the first edit, the file on
//! disk has already changed; and so an edit needs no server. Bytes that do not hash to their name
//! count as missing, and are fetched again.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use uspark_shared::id::BlobHash;

use super::DiskError;
use super::state::StateDir;

/// The directory of first contents.
#[derive(Debug, Clone)]
pub struct BaseStore {
    dir: PathBuf,
}

impl BaseStore {
    /// The store in a state directory.
    pub fn new(state: &StateDir) -> Self {
        Self {
            dir: state.base_dir(),
        }
    }

    /// Keeps a text under its hash. A killed process leaves it whole or not at all.
    pub fn put(&self, hash: &BlobHash, text: &str) -> Result<(), DiskError> {
        let path = self.path(hash);
        if path.exists() {
            return Ok(());
        }
        let write = || {
            let mut temp = tempfile::NamedTempFile::new_in(&self.dir)?;
            temp.write_all(text.as_bytes())?;
            temp.persist(&path).map_err(|failed| failed.error)
        };
        write().map(|_: File| ()).map_err(|source| DiskError::Io {
            action: "keep",
            path: path.display().to_string(),
            source,
        })
    }

    /// The text that hashes to `hash`, if it is kept and undamaged.
    pub fn get(&self, hash: &BlobHash) -> Option<String> {
        let bytes = std::fs::read(self.path(hash)).ok()?;
        (BlobHash::of(&bytes) == *hash).then(|| String::from_utf8(bytes).ok())?
    }

    /// Removes what nobody needs any more.
    pub fn keep_only(&self, needed: &HashSet<BlobHash>) {
        let Ok(entries) = std::fs::read_dir(&self.dir) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let hash = name.to_str().and_then(|name| name.parse().ok());
            if !hash.is_some_and(|hash| needed.contains(&hash)) {
                // What stays costs room and nothing else.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    fn path(&self, hash: &BlobHash) -> PathBuf {
        self.dir.join(hash.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let store = BaseStore {
            dir: dir.path().into(),
        };
        let (kept, damaged) = (BlobHash::of(b"kept"), BlobHash::of(b"damaged"));
        store.put(&kept, "kept").unwrap();
        store.put(&kept, "kept").unwrap();
        std::fs::write(store.path(&damaged), "dam").unwrap();
        assert_eq!(store.get(&kept).as_deref(), Some("kept"));
        assert_eq!(store.get(&damaged), None);
        assert_eq!(store.get(&BlobHash::of(b"never")), None);
        store.keep_only(&HashSet::from([damaged]));
        assert_eq!(store.get(&kept), None);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
