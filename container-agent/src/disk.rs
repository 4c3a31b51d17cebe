//! The workspace's disk. Nothing else in the agent reads, writes, lists or removes a file there.
//!
//! Owns: [`Root`], through which every access goes. Must not do: decide what should be on disk
//! (that is the planner), or remember what was (that is the journal).
//!
//! Invariants
//! - No path reaches outside the root. A [`FilePath`] has no `..`; its directories are resolved
//!   beneath the root's descriptor with symbolic links refused, and its last component is never
//!   followed. Links are data: created, read and compared, not walked.
//! - No file is ever visible under its name half written, and none is replaced or removed before
//!   it was compared with what the caller expects: see [`swap`].
//! - An absence is only reported while the root itself is still where it was opened.
//!
//! A power cut may lose what was written last: files are renamed into place, not fsynced, because
//! the project on the server holds the same bytes. A killed process loses nothing.

#![allow(
    clippy::disallowed_methods,
    reason = "this folder is the one that owns the workspace's disk"
)]

pub mod base;
pub mod incoming;
mod lease;
pub mod links;
pub mod observe;
pub mod state;
pub mod swap;

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use uspark_shared::path::FilePath;

/// What every temporary file of ours begins with; such names are never synced.
pub const TEMP_PREFIX: &str = ".uspark-tmp-";

/// Why a file or directory could not be accessed.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The operating system said no.
    #[error("cannot {action} `{path}`: {source}")]
    Io {
        /// A verb.
        action: &'static str,
        /// Relative to the root, or absolute for the root itself.
        path: String,
        /// What it said.
        source: io::Error,
    },
    /// The root was deleted, moved or unmounted. Says nothing about any path in it.
    #[error("the workspace `{0}` is gone: deleted, moved or unmounted")]
    RootLost(PathBuf),
}

impl DiskError {
    fn new(action: &'static str, path: &impl ToString, source: Errno) -> Self {
        Self::Io {
            action,
            path: path.to_string(),
            source: source.into(),
        }
    }

    /// Whether trying again later, with nothing changed, may work: a full disk, too many open files.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::RootLost(_) => true,
            Self::Io { source, .. } => matches!(
                Errno::from_io_error(source),
                Some(
                    Errno::NOSPC
                        | Errno::DQUOT
                        | Errno::MFILE
                        | Errno::NFILE
                        | Errno::IO
                        | Errno::INTR
                        | Errno::NOMEM
                        | Errno::BUSY
                        | Errno::TXTBSY
                )
            ),
        }
    }
}

/// The workspace's directory, held open.
pub struct Root {
    dir: OwnedFd,
    path: PathBuf,
    id: (u64, u64),
}

/// What a directory entry is, as far as listing tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Dir,
    /// Anything else.
    Other,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name, not necessarily UTF-8.
    pub name: OsString,
    /// What it is.
    pub kind: Kind,
}

impl Root {
    /// Opens a directory that must exist. The path itself may be, or pass through, a link.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        let error = |source| DiskError::new("open", &path.display(), source);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty()).map_err(error)?;
        let stat = rustix::fs::fstat(&dir).map_err(error)?;
        let path = std::path::absolute(path).map_err(|source| DiskError::Io {
            action: "open",
            path: path.display().to_string(),
            source,
        })?;
        Ok(Self {
            dir,
            path,
            id: (stat.st_dev, stat.st_ino),
        })
    }

    /// Where the root was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the root's path still leads to the directory that was opened.
    pub fn is_there(&self) -> bool {
        rustix::fs::stat(&self.path).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == self.id)
    }

    /// Whether anything is at a path, a link included.
    pub fn has(&self, path: &FilePath) -> bool {
        let found = self
            .parent(path)
            .and_then(|parent| rustix::fs::statat(parent, path.name(), AtFlags::SYMLINK_NOFOLLOW));
        found.is_ok()
    }

    /// Lists a directory; the root when `None`. `Ok(None)` when it is no directory (any more).
    pub fn list(&self, directory: Option<&FilePath>) -> Result<Option<Vec<Listed>>, DiskError> {
        let shown = || directory.map_or_else(|| ".".into(), FilePath::to_string);
        let error = |source| DiskError::new("list", &shown(), source);
        let relative = directory.map_or(".", FilePath::as_str);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let dir = match self.open_beneath(relative, flags) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(source) => return Err(error(source)),
        };
        let mut listed = Vec::new();
        for entry in Dir::read_from(&dir).map_err(error)? {
            let entry = entry.map_err(error)?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)
                    .map(|stat| FileType::from_raw_mode(stat.st_mode))
                    .unwrap_or(FileType::Unknown),
                known => known,
            };
            listed.push(Listed {
                name: OsString::from_vec(name.to_bytes().to_vec()),
                kind: if kind == FileType::Directory {
                    Kind::Dir
                } else {
                    Kind::Other
                },
            });
        }
        Ok(Some(listed))
    }

    /// Makes a directory, and those above it. One that is there already is fine.
    pub fn make_dir(&self, path: &FilePath) -> Result<(), DiskError> {
        let error = |source| DiskError::new("create", path, source);
        let parent = self.make_parent(path).map_err(error)?;
        match rustix::fs::mkdirat(&parent, path.name(), Mode::from_raw_mode(0o777)) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) if self.open_dir(path.as_str()).is_ok() => Ok(()),
            Err(source) => Err(error(source)),
        }
    }

    /// Removes an empty directory. Gives whether it is gone: one that is not empty stays.
    pub fn remove_dir(&self, path: &FilePath) -> Result<bool, DiskError> {
        let removed = self
            .parent(path)
            .and_then(|parent| rustix::fs::unlinkat(parent, path.name(), AtFlags::REMOVEDIR));
        match removed {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => Ok(false),
            Err(source) => Err(DiskError::new("remove", path, source)),
        }
    }

    /// Opens the directory that holds `path`.
    fn parent(&self, path: &FilePath) -> Result<OwnedFd, Errno> {
        self.open_dir(path.as_str().rsplit_once('/').map_or(".", |(dir, _)| dir))
    }

    /// Opens the directory that holds `path`, made if it is not there.
    fn make_parent(&self, path: &FilePath) -> Result<OwnedFd, Errno> {
        match self.parent(path) {
            Err(Errno::NOENT) => {}
            opened => return opened,
        }
        let mut dir = self.open_dir(".")?;
        let depth = path.components().count() - 1;
        for name in path.components().take(depth) {
            match rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(source) => return Err(source),
            }
            dir = rustix::fs::openat(&dir, name, dir_flags(), Mode::empty())?;
        }
        Ok(dir)
    }

    fn open_dir(&self, relative: &str) -> Result<OwnedFd, Errno> {
        self.open_beneath(relative, dir_flags())
    }

    /// Opens what `relative` names, following no link on the way.
    fn open_beneath(&self, relative: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.dir, relative, flags, Mode::empty(), resolve) {
            // Kernels before 5.6, and sandboxes that do not know the call.
            Err(Errno::NOSYS) => self.open_stepwise(relative, flags),
            opened => opened,
        }
    }

    /// [`Self::open_beneath`] one component at a time. No component is `..`, so with links refused
    /// at each step there is no way out.
    fn open_stepwise(&self, relative: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let (directories, last) = relative.rsplit_once('/').unwrap_or((".", relative));
        let mut dir = rustix::fs::openat(&self.dir, ".", dir_flags(), Mode::empty())?;
        for name in directories.split('/') {
            dir = rustix::fs::openat(&dir, name, dir_flags(), Mode::empty())?;
        }
        rustix::fs::openat(&dir, last, flags | OFlags::NOFOLLOW, Mode::empty())
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// A directory that is only a place to start from: needs no right to read it.
fn dir_flags() -> OFlags {
    OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

fn kind_of(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(s: &str) -> FilePath {
        s.parse().unwrap()
    }

    #[test]
    fn links_are_not_walked() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "x").unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("out")).unwrap();
        std::fs::create_dir(dir.path().join("in")).unwrap();
        std::os::unix::fs::symlink("in", dir.path().join("alias")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        for link in ["out", "alias"] {
            assert_eq!(root.list(Some(&path(link))).unwrap(), None, "{link}");
            assert!(root.parent(&path(&format!("{link}/x"))).is_err());
            assert!(root.parent(&path(&format!("{link}/x/y"))).is_err());
            assert!(root.make_dir(&path(&format!("{link}/made"))).is_err());
            assert!(
                root.open_stepwise(&format!("{link}/x"), dir_flags())
                    .is_err()
            );
        }
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    }

    #[test]
    fn stepwise_resolution_finds_what_the_kernel_finds() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        root.make_dir(&path("a/b/c")).unwrap();
        for good in [".", "a", "a/b", "a/b/c"] {
            assert!(root.open_stepwise(good, dir_flags()).is_ok(), "{good}");
        }
        assert_eq!(
            root.open_stepwise("a/x", dir_flags()).err(),
            Some(Errno::NOENT)
        );
    }

    #[test]
    fn only_empty_directories_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        root.make_dir(&path("a/b")).unwrap();
        assert!(!root.remove_dir(&path("a")).unwrap());
        assert!(root.remove_dir(&path("a/b")).unwrap());
        assert!(root.remove_dir(&path("a")).unwrap());
        assert!(root.remove_dir(&path("a")).unwrap());
    }

    #[test]
    fn a_root_that_was_replaced_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("root");
        std::fs::create_dir(&at).unwrap();
        let root = Root::open(&at).unwrap();
        assert!(root.is_there());
        std::fs::rename(&at, dir.path().join("moved")).unwrap();
        assert!(!root.is_there());
        std::fs::create_dir(&at).unwrap();
        assert!(!root.is_there());
    }
}
