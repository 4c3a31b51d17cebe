//! The agent's own directory in the workspace, `.uspark`, and the lock in it.
//!
//! Owns the layout: `lock`, `journal.db`, `base/` (first contents of texts), `incoming/` (blobs on
//! their way), `cookies/` (files whose events are barriers). Never synced, never written from the
//! network.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::{DiskError, Root};

/// The directory's name.
pub const STATE_DIR: &str = ".uspark";
const LOCK: &str = "lock";
const COOKIES: &str = "cookies";

/// The agent's directory.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
    /// Which directory it is: device and inode.
    is: (u64, u64),
}

/// Whether a process has the lock of the workspace at `root`. Takes nothing from it.
pub fn is_locked(root: &Path) -> bool {
    let Ok(file) = File::open(root.join(STATE_DIR).join(LOCK)) else {
        return false;
    };
    let shared = rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared);
    // Not left to the closing: see the end of a `WorkspaceLock`.
    let _ = rustix::fs::flock(&file, FlockOperation::Unlock);
    shared == Err(Errno::WOULDBLOCK)
}

/// The workspace's lock: one agent at a time. Given back when dropped, and by the kernel when the
/// process ends in whatever way.
#[derive(Debug)]
pub struct WorkspaceLock {
    file: File,
}

impl Drop for WorkspaceLock {
    fn drop(&mut self) {
        // Closing the file would do it too, but not while a process that is just being forked has
        // a copy of it.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

impl StateDir {
    /// Opens the directory, made if it is not there.
    pub fn open(root: &Root) -> Result<Self, DiskError> {
        let path = root.path().join(STATE_DIR);
        let make = |path: &Path| {
            let made = DirBuilder::new().mode(0o700).create(path);
            match made {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    Err(failed("create", path, error))
                }
                _ if !std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) => {
                    let error = io::Error::from(io::ErrorKind::NotADirectory);
                    Err(failed("use", path, error))
                }
                _ => Ok(()),
            }
        };
        make(&path)?;
        for below in ["base", "incoming", COOKIES] {
            make(&path.join(below))?;
        }
        let found = std::fs::symlink_metadata(&path);
        let is = found
            .map(|found| (found.dev(), found.ino()))
            .map_err(|error| failed("use", &path, error))?;
        let state = Self { path, is };
        state.hide_from_git()?;
        Ok(state)
    }

    /// Whether it is still in its place: `git clean -fdx` removes it.
    pub fn is_there(&self) -> bool {
        let found = std::fs::symlink_metadata(&self.path);
        found.is_ok_and(|found| (found.dev(), found.ino()) == self.is)
    }

    /// Takes the workspace's lock, or `None` if another process has it.
    pub fn lock(&self) -> Result<Option<WorkspaceLock>, DiskError> {
        let path = self.path.join(LOCK);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options
            .open(&path)
            .map_err(|error| failed("open", &path, error))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(WorkspaceLock { file })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(failed("lock", &path, error.into())),
        }
    }

    /// Where the journal is.
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal.db")
    }

    /// Moves a journal that cannot be read out of the way, under a name that says so.
    pub fn set_journal_aside(&self) -> Result<(), DiskError> {
        let journal = self.journal();
        for suffix in ["", "-wal", "-shm"] {
            let from = journal.with_extension(format!("db{suffix}"));
            let to = journal.with_extension(format!("db{suffix}.unreadable"));
            match std::fs::rename(&from, &to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("set aside", &from, error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Where cookies are put.
    pub fn cookies(&self) -> PathBuf {
        self.path.join(COOKIES)
    }

    /// Puts a cookie and takes it away again: its event is behind those of all earlier writes.
    pub fn touch_cookie(&self, name: &str) -> Result<(), DiskError> {
        let path = self.cookies().join(name);
        let touched = File::create(&path).and_then(|file| {
            drop(file);
            std::fs::remove_file(&path)
        });
        touched.map_err(|error| failed("create", &path, error))
    }

    pub(super) fn base_dir(&self) -> PathBuf {
        self.path.join("base")
    }

    /// Where a blob is put together while it arrives.
    pub(super) fn incoming(&self) -> PathBuf {
        self.path.join("incoming")
    }

    fn hide_from_git(&self) -> Result<(), DiskError> {
        let path = self.path.join(".gitignore");
        let made = OpenOptions::new().write(true).create_new(true).open(&path);
        match made.and_then(|mut file| file.write_all(b"*\n")) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(failed("create", &path, error))
            }
            _ => Ok(()),
        }
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> DiskError {
    DiskError::Io {
        action,
        path: path.display().to_string(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lock_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&Root::open(dir.path()).unwrap()).unwrap();
        let held = state.lock().unwrap();
        assert!(held.is_some());
        assert!(state.lock().unwrap().is_none());
        assert!(is_locked(dir.path()));
        drop(held);
        assert!(!is_locked(dir.path()));
        assert!(state.lock().unwrap().is_some());
    }

    #[test]
    fn a_link_in_its_place_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), dir.path().join(STATE_DIR)).unwrap();
        assert!(StateDir::open(&Root::open(dir.path()).unwrap()).is_err());
        assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }
}
