//! The data directory: made, locked, and laid out.
//!
//! ```text
//! lock                  held by the server that works here
//! admin-token           the server's own admin token, unless the operator gives one
//! uspark.db (-wal -shm) everything but large blobs
//! blobs/ab/cdef…        one large blob each
//! blobs/incoming/       uploads under way; emptied at start
//! ```
//!
//! Invariant: while a clone of a [`DataDirectory`] lives, no other process has one of the same
//! directory. Only its owner's user can read what is in it.
#![allow(
    clippy::disallowed_methods,
    reason = "this module owns the data directory"
)]

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::StoreError;

/// The file that keeps the server's own admin token.
pub(crate) const ADMIN_TOKEN: &str = "admin-token";

/// A data directory that this process, and no other, works on.
#[derive(Debug, Clone)]
pub struct DataDirectory {
    path: PathBuf,
    /// Unlocked when the last clone closes it, or with the process.
    _lock: Arc<File>,
}

impl DataDirectory {
    /// Makes the directory unless it is there, and locks it.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let path = path.into();
        let failed = |error: &std::io::Error| StoreError::io(path.display(), error);
        if !path.is_dir() {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o700);
            builder.create(&path).map_err(|error| match error.kind() {
                ErrorKind::NotADirectory | ErrorKind::AlreadyExists => StoreError::NoDirectory {
                    place: path.display().to_string(),
                },
                _ => failed(&error),
            })?;
            // A power cut must not take a new directory away with all that is in it. Which of
            // those above are new is not known; one that we may not read was there before.
            for above in path.ancestors().skip(1) {
                let _ = sync_directory(above);
            }
        }
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(path.join("lock")).map_err(|e| failed(&e))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                _lock: Arc::new(lock),
                path,
            }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse {
                place: path.display().to_string(),
            }),
            Err(TryLockError::Error(error)) => Err(failed(&error)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a small file that only the server's user can read, whole or not at all.
    pub fn save_private(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, StoreError> {
        let target = self.path.join(name);
        let save = || {
            let mut temp = tempfile::NamedTempFile::new_in(&self.path)?;
            temp.write_all(bytes)?;
            temp.as_file().sync_all()?;
            temp.persist(&target)?;
            sync_directory(&self.path)
        };
        save().map_err(|error| StoreError::io(target.display(), &error))?;
        Ok(target)
    }

    /// Reads such a file; `None` if there is none.
    pub fn read_private(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path.join(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io(path.display(), &error)),
        }
    }

    pub(super) fn database(&self) -> PathBuf {
        database_in(&self.path)
    }

    pub(super) fn blobs(&self) -> PathBuf {
        blobs_in(&self.path)
    }
}

/// The database of a data directory.
pub(super) fn database_in(directory: &Path) -> PathBuf {
    directory.join("uspark.db")
}

/// The large blobs of a data directory.
pub(super) fn blobs_in(directory: &Path) -> PathBuf {
    directory.join("blobs")
}

/// Makes the names in a directory durable: a rename is lost by a power cut until then.
pub(super) fn sync_directory(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes a private directory unless it is there; says whether it made it.
pub(super) fn make_directory(path: &Path) -> std::io::Result<bool> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(true),
        Err(_) if fs::metadata(path).is_ok_and(|found| found.is_dir()) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn one_server_at_a_time() {
        let temp = tempfile::tempdir().unwrap();
        let data = temp.path().join("a/b");
        let first = DataDirectory::open(&data).unwrap();
        let clone = first.clone();
        drop(first);
        let second = DataDirectory::open(&data).unwrap_err();
        assert!(matches!(second, StoreError::InUse { .. }), "{second}");
        drop(clone);
        DataDirectory::open(&data).unwrap();
    }

    #[test]
    fn others_read_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let data = DataDirectory::open(temp.path().join("data")).unwrap();
        assert_eq!(data.read_private("admin-token").unwrap(), None);
        let saved = data.save_private("admin-token", b"secret").unwrap();
        let read = data.read_private("admin-token").unwrap();
        assert_eq!(read.as_deref(), Some(b"secret".as_slice()));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&saved), 0o600);
        assert_eq!(mode(data.path()), 0o700);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        // Nobody, not even root, makes directories there.
        let error = DataDirectory::open("/sys/uspark").unwrap_err();
        assert!(matches!(error, StoreError::ReadOnly { .. }), "{error:?}");
        assert!(error.to_string().contains("/sys/uspark"), "{error}");
        assert!(error.hint().unwrap().contains("--data"));
    }
}
