//! Copying a data directory, also while a server works on it.
//!
//! Owns: what a backup has in it, and that there is none but whole ones. Must not do: change what is
//! copied.
//!
//! Invariant: a backup appears under its name only when all of it was copied, is on disk, and was
//! checked. The database is copied first, as it is at one moment; the large blobs that the copy names
//! were durable before that, and never change. Until they are copied none is removed.
//!
//! What a crash may leave: a directory `.uspark-backup-…` beside the name, to be removed by hand.
#![allow(
    clippy::disallowed_methods,
    reason = "this module makes a data directory"
)]

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use uspark_shared::id::BlobHash;

use super::StoreError;
use super::check::{Findings, Progress, check};
use super::directory::{ADMIN_TOKEN, blobs_in, database_in, make_directory, sync_directory};
use super::files::{keep_all, path_of};
use super::sqlite::{self, Snapshot};

/// Why there is no backup. Nothing is left of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// Something could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is something of this name.
    #[error("{place} is there already")]
    Exists {
        /// The name.
        place: String,
    },
    /// What was copied is damaged.
    #[error("the copy is not whole, and was not kept")]
    NotWhole(Findings),
}

impl BackupError {
    /// What an operator can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Store(StoreError::ReadOnly { .. }) => {
                Some("run it as the server's user, and name a place where that one may write")
            }
            Self::Store(error) => error.hint(),
            Self::Exists { .. } => {
                Some("name a directory that is not there yet: each backup is one of its own")
            }
            Self::NotWhole(_) => {
                Some("`sync-server check` says whether the data directory is damaged too")
            }
        }
    }
}

/// Copies the data directory `data` to `to`, where nothing may be, and gives what the check of the copy
/// found.
pub fn backup(
    data: &Path,
    to: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Findings, BackupError> {
    let place = |path: &Path| path.display().to_string();
    if !database_in(data).is_file() {
        return Err(StoreError::NoData { place: place(data) }.into());
    }
    if fs::symlink_metadata(to).is_ok() {
        return Err(BackupError::Exists { place: place(to) });
    }
    let parent = to.parent().filter(|parent| *parent != Path::new(""));
    let parent = parent.unwrap_or(Path::new("."));
    let failed = |error: io::Error| StoreError::io(to.display(), &error);
    // Removed when it is dropped.
    let draft = tempfile::Builder::new()
        .prefix(".uspark-backup-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(parent)
        .map_err(failed)?;
    copy(data, draft.path(), progress)?;
    let findings = check(draft.path(), progress)?;
    if !findings.is_whole() {
        return Err(BackupError::NotWhole(findings));
    }
    fs::rename(draft.path(), to).map_err(failed)?;
    // Nothing is under its first name any more.
    let _ = draft.keep();
    sync_directory(parent).map_err(failed)?;
    Ok(findings)
}

/// Copies all that a server needs, and makes it durable.
fn copy(data: &Path, to: &Path, progress: &mut dyn FnMut(Progress)) -> Result<(), StoreError> {
    let _all = keep_all(&blobs_in(data))?;
    sqlite::copy(&database_in(data), &database_in(to))?;
    let large = Snapshot::open(&database_in(to))?.large_blobs()?;
    let blobs = blobs_in(to);
    let failed = |error: io::Error| StoreError::io(to.display(), &error);
    make_directory(&blobs).map_err(failed)?;
    let mut made = BTreeSet::new();
    let total = large.len() as u64;
    for (done, hash) in (1..).zip(&large) {
        let hash = BlobHash::from_bytes(*hash);
        let (from, to) = (path_of(&blobs_in(data), &hash), path_of(&blobs, &hash));
        let directory = to.parent().unwrap_or(&blobs).to_owned();
        if made.insert(directory.clone()) {
            let mut builder = DirBuilder::new();
            let there = builder.recursive(true).mode(0o700).create(&directory);
            there.map_err(failed)?;
        }
        copy_file(&from, &to)?;
        let what = "large blobs copied";
        progress(Progress { what, done, total });
    }
    copy_file(&data.join(ADMIN_TOKEN), &to.join(ADMIN_TOKEN))?;
    for directory in made.iter().map(|path| &**path).chain([&*blobs, to]) {
        sync_directory(directory).map_err(failed)?;
    }
    Ok(())
}

/// Copies a file if there is one: the check says what is missing.
fn copy_file(from: &Path, to: &Path) -> Result<(), StoreError> {
    match fs::copy(from, to) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StoreError::io(from.display(), &error)),
    }
    let synced = File::open(to).and_then(|file| file.sync_all());
    synced.map_err(|error| StoreError::io(to.display(), &error))
}

#[cfg(test)]
mod tests;
