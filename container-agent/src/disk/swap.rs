//! Changing files by compare-and-swap, so that no write of anybody's is lost.
//!
//! A replacement is written whole beside its target, under a temporary name, and then the two
//! names are exchanged in one step of the kernel. Only then is the file that was displaced
//! compared with what the caller expected to displace. Whatever somebody wrote in between is thus
//! in our hands, under the temporary name, and the caller decides what becomes of it. It stays
//! there until the caller has recorded that decision and calls [`Root::discard`] or
//! [`Root::keep_as`]; a process killed in between finds it again by the name it journalled.
//!
//! Must not do: decide what should be on disk.
//!
//! Hard links: of a file that has several names only this one gets the replacement; the others keep
//! what they had, and the caller is told. Writing in place would keep the names together, but nobody
//! knows where they all are: what the network sends would reach files outside the root, and a killed
//! process would leave one half written. For the same reason the mode of such a file is
//! not set ([`PutResult::Linked`]).
//!
//! Known limits. A process that holds the file open for writing makes us wait ([`PutResult::Busy`]);
//! one that opens it in the microseconds around the exchange is waited for, [`PATIENCE`] long; what one
//! writes that was slower still is kept beside the file ([`Root::discard_as_seen`]). Where
//! the file system cannot exchange names the old file is linked aside first, which protects against
//! writers into it but not against one that renames another file over it in the same instant.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;
use uspark_shared::id::BlobHash;
use uspark_shared::path::FilePath;

use super::incoming::Arrived;
use super::lease::{Writers, writers};
use super::observe::{Fingerprint, IfWritten, Seen, SeenFile, read};
use super::{DiskError, Root, TEMP_PREFIX, kind_of};
use crate::clock::now_ms;

/// How long a writer that came in during an exchange is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE_STEP: Duration = Duration::from_millis(2);

/// The name of a temporary file beside a path. Random, so that it names one change for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TempName(String);

/// What is to be at a path.
#[derive(Debug, Clone)]
pub enum Content {
    /// A regular file with these bytes.
    Bytes(Vec<u8>),
    /// A regular file: the blob that has arrived.
    Arrived(Arc<Arrived>),
    /// A symbolic link.
    Link(String),
}

/// What the caller knows to be at a path, and is prepared to see displaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Nothing.
    Absent,
    /// This regular file.
    File(Fingerprint, BlobHash),
    /// This symbolic link.
    Link(Fingerprint, String),
}

/// A change of one path.
#[derive(Debug, Clone)]
pub struct Put {
    /// Where.
    pub path: FilePath,
    /// The name used on the way.
    pub temp: TempName,
    /// What is to be there.
    pub content: Content,
    /// Permission bits.
    pub mode: u32,
    /// Time of the last change in milliseconds since 1970, or none for now.
    pub mtime: Option<u64>,
    /// What is there.
    pub expected: Expected,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutResult {
    /// It is there, and displaced nothing.
    Done(Fingerprint),
    /// It is there. What it displaced is under the temporary name.
    Swapped {
        /// Of what is there now.
        print: Fingerprint,
        /// What was there.
        displaced: Displaced,
        /// That has other names (hard links), and keeps them.
        linked: bool,
        /// For [`Root::discard_as_seen`].
        left: Fingerprint,
    },
    /// It has other names (hard links), so that their mode would be set as well. Nothing was changed.
    Linked,
    /// Something else is there than was expected. Nothing was changed.
    Changed,
    /// Somebody is writing what is there. Nothing was changed.
    Busy,
}

/// What a change displaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Displaced {
    /// What was expected: the caller has it already.
    AsExpected,
    /// A file that somebody wrote at the last moment.
    File(SeenFile),
    /// Something else that somebody put there at the last moment.
    Other,
}

/// What became of a removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakeResult {
    /// It is gone from its path. What it was is under the temporary name: for [`Root::discard_as_seen`].
    Taken(Fingerprint),
    /// Something else is there than was expected. Nothing was changed.
    Changed,
    /// Somebody is writing it. Nothing was changed.
    Busy,
}

impl TempName {
    /// Makes a name from 8 random bytes.
    pub fn from_random(bytes: [u8; 8]) -> Self {
        Self(format!("{TEMP_PREFIX}{:016x}", u64::from_le_bytes(bytes)))
    }

    /// Takes a name back from where it was recorded.
    pub fn recorded(name: String) -> Self {
        Self(name)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name while the file is still being written: what bears it was never exchanged.
    fn part(&self) -> String {
        format!("{}.part", self.0)
    }

    /// Whether a name is that of a file whose writing never ended.
    pub fn is_part(name: &str) -> bool {
        name.starts_with(TEMP_PREFIX) && name.ends_with(".part")
    }

    fn beside(&self, path: &FilePath) -> String {
        match path.as_str().rsplit_once('/') {
            Some((dir, _)) => format!("{dir}/{}", self.0),
            None => self.0.clone(),
        }
    }
}

impl Root {
    /// Puts something at a path, if what is there is what is expected to be there.
    pub fn put(&self, put: &Put) -> Result<PutResult, DiskError> {
        let error = |source| DiskError::new("write", &put.path, source);
        let parent = match put.expected {
            Expected::Absent => self.make_parent(&put.path),
            _ => self.parent(&put.path),
        };
        let parent = match parent {
            Ok(parent) => parent,
            Err(Errno::NOENT) => return Ok(PutResult::Changed),
            Err(source) => return Err(error(source)),
        };
        let part = put.temp.part();
        let made = self.make_temp(&parent, &part, put);
        let result = made.and_then(|made| self.put_in_place(&parent, &part, put, &made));
        if !matches!(result, Ok(PutResult::Done(_) | PutResult::Swapped { .. })) {
            // Whichever name it has got to; what was displaced is never among these.
            let _ = rustix::fs::unlinkat(&parent, &part, AtFlags::empty());
        }
        result.map_err(error)
    }

    /// Removes a file or link, if what is there is what is expected to be there.
    pub fn take(
        &self,
        path: &FilePath,
        temp: &TempName,
        expected: &Expected,
    ) -> Result<TakeResult, DiskError> {
        let error = |source| DiskError::new("remove", path, source);
        let parent = match self.parent(path) {
            Ok(parent) => parent,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(TakeResult::Changed),
            Err(source) => return Err(error(source)),
        };
        match is_expected(&parent, path.name(), expected).map_err(error)? {
            Compared::Equal => {}
            Compared::Different => return Ok(TakeResult::Changed),
            Compared::Busy => return Ok(TakeResult::Busy),
        }
        match rename(&parent, path.name(), temp.as_str(), RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(TakeResult::Changed),
            Err(source) => return Err(error(source)),
        }
        let displaced = displaced(&parent, temp.as_str(), expected).map_err(error)?;
        if displaced == Displaced::AsExpected {
            let (_, left) = left(&parent, temp).map_err(error)?;
            return Ok(TakeResult::Taken(left));
        }
        // Somebody wrote it meanwhile. If yet another file has its name by now, both are kept.
        let flags = RenameFlags::NOREPLACE;
        match rename(&parent, temp.as_str(), path.name(), flags) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let kept = path.conflict("disk", now_ms());
                rename(&parent, temp.as_str(), kept.name(), flags).map_err(error)?;
            }
            Err(source) => return Err(error(source)),
        }
        Ok(TakeResult::Changed)
    }

    /// Removes what a change displaced, or what a killed process left.
    pub fn discard(&self, path: &FilePath, temp: &TempName) {
        let Ok(parent) = self.parent(path) else {
            return;
        };
        for name in [temp.as_str(), &temp.part()] {
            // What stays has a name that nobody syncs.
            let _ = rustix::fs::unlinkat(&parent, name, AtFlags::empty());
        }
    }

    /// Removes what a change displaced, unless it was written since: whoever had begun to open it when
    /// it lost its name writes it now. Then it gets a name of its own, which is given.
    pub fn discard_as_seen(
        &self,
        path: &FilePath,
        temp: &TempName,
        seen: &Fingerprint,
    ) -> Result<Option<FilePath>, DiskError> {
        let late = || -> Result<Option<FilePath>, Errno> {
            let parent = self.parent(path)?;
            let deadline = Instant::now() + PATIENCE;
            while is_written(&parent, temp.as_str()) && Instant::now() < deadline {
                std::thread::sleep(PATIENCE_STEP);
            }
            let (stat, now) = left(&parent, temp)?;
            // What has another name is not lost, whatever it is.
            if stat.st_nlink > 1 || *seen == now {
                rustix::fs::unlinkat(&parent, temp.as_str(), AtFlags::empty())?;
                return Ok(None);
            }
            let kept = path.conflict("disk", now_ms());
            let flags = RenameFlags::NOREPLACE;
            rename(&parent, temp.as_str(), kept.name(), flags)?;
            Ok(Some(kept))
        };
        match late() {
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            late => late.map_err(|source| DiskError::new("discard what was", path, source)),
        }
    }

    /// Removes a file whose writing never ended.
    pub fn sweep(&self, path: &FilePath) {
        if TempName::is_part(path.name())
            && let Ok(parent) = self.parent(path)
        {
            // The next session tries again.
            let _ = rustix::fs::unlinkat(&parent, path.name(), AtFlags::empty());
        }
    }

    /// Gives what a change displaced a name of its own in the same directory.
    ///
    /// `Ok(false)` when that name is taken, or nothing was displaced.
    pub fn keep_as(
        &self,
        path: &FilePath,
        temp: &TempName,
        kept: &FilePath,
    ) -> Result<bool, DiskError> {
        let renamed = self
            .parent(path)
            .and_then(|parent| rename(&parent, temp.as_str(), kept.name(), RenameFlags::NOREPLACE));
        match renamed {
            Ok(()) => Ok(true),
            Err(Errno::EXIST | Errno::NOENT) => Ok(false),
            Err(source) => Err(DiskError::new("keep", kept, source)),
        }
    }

    /// Reads what is under a temporary name, as a killed process left it.
    pub fn left_behind(&self, path: &FilePath, temp: &TempName) -> Result<Seen, DiskError> {
        if let Ok(parent) = self.parent(path) {
            finish_exchange(&parent, temp.as_str());
        }
        match temp.beside(path).parse() {
            Ok(temp) => self.observe(&temp, None, IfWritten::Read),
            Err(_) => Ok(Seen::Absent),
        }
    }

    /// Renames a file, if there is one and its new name is free. Gives whether it did.
    pub fn rename(&self, from: &FilePath, to: &FilePath) -> Result<bool, DiskError> {
        let renamed = self.parent(from).and_then(|old| {
            let stat = rustix::fs::statat(&old, from.name(), AtFlags::SYMLINK_NOFOLLOW)?;
            // A directory has the file's name by now, and others' files in it.
            if kind_of(&stat) == FileType::Directory {
                return Err(Errno::NOENT);
            }
            let new = self.make_parent(to)?;
            let flags = RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(&old, from.name(), &new, to.name(), flags) {
                Err(Errno::INVAL) => {
                    link(&old, from.name(), &new, to.name())?;
                    rustix::fs::unlinkat(&old, from.name(), AtFlags::empty())
                }
                renamed => renamed,
            }
        });
        match renamed {
            Ok(()) => Ok(true),
            Err(Errno::NOENT | Errno::EXIST | Errno::NOTDIR) => Ok(false),
            Err(source) => Err(DiskError::new("rename", from, source)),
        }
    }

    /// Sets the permission bits of a file, if it is the expected one.
    pub fn set_mode(
        &self,
        path: &FilePath,
        expected: &Fingerprint,
        mode: u32,
    ) -> Result<PutResult, DiskError> {
        let set = || -> Result<PutResult, Errno> {
            let parent = self.parent(path)?;
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&parent, path.name(), flags, Mode::empty())?;
            let stat = rustix::fs::fstat(&file)?;
            if !expected.admits(&Fingerprint::exact(&stat)) {
                return Ok(PutResult::Changed);
            }
            if stat.st_nlink > 1 {
                return Ok(PutResult::Linked);
            }
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o777))?;
            let stat = rustix::fs::fstat(&file)?;
            Ok(PutResult::Done(Fingerprint::lasting(&stat)))
        };
        match set() {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(PutResult::Changed),
            set => set.map_err(|source| DiskError::new("set the mode of", path, source)),
        }
    }

    /// Writes the replacement, whole, under its first name. Gives the open file, or none for a link.
    fn make_temp(&self, parent: &OwnedFd, part: &str, put: &Put) -> Result<Option<OwnedFd>, Errno> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW;
        let flags = flags | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(parent, part, flags, Mode::from_raw_mode(0o600));
        match &put.content {
            Content::Link(target) => {
                rustix::fs::symlinkat(target.as_str(), parent, part)?;
                return Ok(None);
            }
            Content::Bytes(bytes) => {
                File::from(open()?).write_all(bytes).map_err(errno)?;
            }
            Content::Arrived(arrived) => {
                let mut from = arrived.open().map_err(errno)?;
                io::copy(&mut from, &mut File::from(open()?)).map_err(errno)?;
            }
        }
        // Whoever looks at it once it is in its place is not to find a writer: us.
        let file = open_to_read(parent, part)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(put.mode & 0o777))?;
        if let Some(mtime) = put.mtime {
            let time = Timespec {
                tv_sec: (mtime / 1000) as i64,
                tv_nsec: ((mtime % 1000) * 1_000_000) as _,
            };
            let times = Timestamps {
                last_access: time,
                last_modification: time,
            };
            rustix::fs::futimens(&file, &times)?;
        }
        Ok(Some(file))
    }

    fn put_in_place(
        &self,
        parent: &OwnedFd,
        part: &str,
        put: &Put,
        made: &Option<OwnedFd>,
    ) -> Result<PutResult, Errno> {
        let name = put.path.name();
        let stat = || -> Result<Stat, Errno> {
            match made {
                Some(file) => rustix::fs::fstat(file),
                None => rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW),
            }
        };
        if put.expected == Expected::Absent {
            return match rename(parent, part, name, RenameFlags::NOREPLACE) {
                Ok(()) => Ok(PutResult::Done(Fingerprint::lasting(&stat()?))),
                Err(Errno::EXIST) => Ok(PutResult::Changed),
                Err(error) => Err(error),
            };
        }
        match is_expected(parent, name, &put.expected)? {
            Compared::Equal => {}
            Compared::Different => return Ok(PutResult::Changed),
            Compared::Busy => return Ok(PutResult::Busy),
        }
        let temp = put.temp.as_str();
        rename(parent, part, temp, RenameFlags::NOREPLACE)?;
        match exchange(parent, temp, name) {
            Ok(()) => {}
            Err(error) => {
                let _ = rustix::fs::unlinkat(parent, temp, AtFlags::empty());
                return match error {
                    Errno::NOENT => Ok(PutResult::Changed),
                    error => Err(error),
                };
            }
        }
        let print = Fingerprint::lasting(&stat()?);
        let displaced = displaced(parent, temp, &put.expected)?;
        let (old, left) = left(parent, &put.temp)?;
        Ok(PutResult::Swapped {
            print,
            displaced,
            linked: old.st_nlink > 1,
            left,
        })
    }
}

enum Compared {
    Equal,
    Different,
    Busy,
}

/// Compares by fingerprint: the content is compared once it is in our hands.
fn is_expected(parent: &OwnedFd, name: &str, expected: &Expected) -> Result<Compared, Errno> {
    let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(Compared::Different),
        Err(error) => return Err(error),
    };
    let is = |print: &Fingerprint, kind| {
        kind_of(&stat) == kind && print.admits(&Fingerprint::exact(&stat))
    };
    Ok(match expected {
        Expected::File(print, _) if is(print, FileType::RegularFile) => {
            match is_written(parent, name) {
                true => Compared::Busy,
                false => Compared::Equal,
            }
        }
        Expected::Link(print, _) if is(print, FileType::Symlink) => Compared::Equal,
        _ => Compared::Different,
    })
}

/// Looks at what an exchange put under the temporary name, once nobody writes it any more.
fn displaced(parent: &OwnedFd, temp: &str, expected: &Expected) -> Result<Displaced, Errno> {
    let stat = rustix::fs::statat(parent, temp, AtFlags::SYMLINK_NOFOLLOW)?;
    match (expected, kind_of(&stat)) {
        (Expected::Link(_, target), FileType::Symlink) => {
            let found = rustix::fs::readlinkat(parent, temp, Vec::new())?;
            Ok(if found.as_bytes() == target.as_bytes() {
                Displaced::AsExpected
            } else {
                Displaced::Other
            })
        }
        (_, FileType::RegularFile) => {
            let deadline = Instant::now() + PATIENCE;
            loop {
                let patient = if Instant::now() < deadline {
                    IfWritten::Wait
                } else {
                    IfWritten::Read
                };
                match read(open_to_read(parent, temp)?, patient).map_err(errno)? {
                    Seen::File(seen) => {
                        let as_expected =
                            matches!(expected, Expected::File(_, hash) if *hash == seen.hash);
                        return Ok(if as_expected {
                            Displaced::AsExpected
                        } else {
                            Displaced::File(seen)
                        });
                    }
                    _ => std::thread::sleep(PATIENCE_STEP),
                }
            }
        }
        _ => Ok(Displaced::Other),
    }
}

/// What is under a temporary name. Only a write changes this fingerprint, not a link that comes or goes.
fn left(parent: &OwnedFd, temp: &TempName) -> Result<(Stat, Fingerprint), Errno> {
    let stat = rustix::fs::statat(parent, temp.as_str(), AtFlags::SYMLINK_NOFOLLOW)?;
    let mut print = Fingerprint::exact(&stat);
    print.ctime_ns = 0;
    Ok((stat, print))
}

/// Whether somebody has a file open for writing.
fn is_written(parent: &OwnedFd, name: &str) -> bool {
    open_to_read(parent, name).is_ok_and(|file| writers(file.as_fd()) == Writers::Some)
}

fn open_to_read(parent: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// Renames within a directory. With NOREPLACE where the file system has no such rename, links.
fn rename(parent: &OwnedFd, from: &str, to: &str, flags: RenameFlags) -> Result<(), Errno> {
    match rustix::fs::renameat_with(parent, from, parent, to, flags) {
        Err(Errno::INVAL | Errno::NOSYS) => {
            link(parent, from, parent, to)?;
            rustix::fs::unlinkat(parent, from, AtFlags::empty())
        }
        renamed => renamed,
    }
}

fn link(old: &OwnedFd, from: &str, new: &OwnedFd, to: &str) -> Result<(), Errno> {
    rustix::fs::linkat(old, from, new, to, AtFlags::empty())
}

/// Exchanges two names of a directory.
fn exchange(parent: &OwnedFd, temp: &str, name: &str) -> Result<(), Errno> {
    match rustix::fs::renameat_with(parent, temp, parent, name, RenameFlags::EXCHANGE) {
        Err(Errno::INVAL | Errno::NOSYS) => exchange_by_links(parent, temp, name),
        exchanged => exchanged,
    }
}

/// Exchanges two names where the file system cannot: neither is ever without a whole file.
fn exchange_by_links(parent: &OwnedFd, temp: &str, name: &str) -> Result<(), Errno> {
    let aside = aside(temp);
    link(parent, name, parent, &aside)?;
    if let Err(error) = rustix::fs::renameat(parent, temp, parent, name) {
        let _ = rustix::fs::unlinkat(parent, &aside, AtFlags::empty());
        return Err(error);
    }
    rustix::fs::renameat(parent, &aside, parent, temp)
}

/// Puts what a process left that was killed in the middle of that under its temporary name.
fn finish_exchange(parent: &OwnedFd, temp: &str) {
    let aside = aside(temp);
    if rename(parent, &aside, temp, RenameFlags::NOREPLACE) == Err(Errno::EXIST) {
        // It was only linked.
        let _ = rustix::fs::unlinkat(parent, &aside, AtFlags::empty());
    }
}

/// The name of what is displaced while it has none else.
fn aside(temp: &str) -> String {
    format!("{temp}.aside")
}

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests;
