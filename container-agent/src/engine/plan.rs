//! What to do about a path: pure, one step at a time.
//!
//! [`plan`] compares three views of a path: the *base*, on which disk and project last agreed; the
//! disk; the project. It gives the one step to take next. After the step the path is looked at
//! and planned again, until there is nothing to do. [`permits`] then says whether the session's
//! direction takes that step.
//!
//! The rules, in order of weight:
//! - Equal is equal, however it came about: it is recorded, nothing is moved.
//! - Changed on one side: that side's version goes to the other.
//! - Deleted on one side and changed on the other: the content lives. An empty directory is no
//!   content.
//! - Changed on both sides: a text is merged through its document; of anything else the project's
//!   version takes the path and the disk's is kept beside it, and sent under that name.

use uspark_shared::id::BlobHash;
use uspark_shared::schema::Entry;
use uspark_shared::text::MAX_TEXT_BYTES;

use super::config::Direction;
use crate::journal::Base;

/// What the disk has at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disk {
    /// Nothing.
    Absent,
    /// A regular file.
    File {
        /// Of its content.
        hash: BlobHash,
        /// Bytes.
        size: u64,
        /// Permission bits.
        mode: u32,
        /// Whether its content could be that of a text document.
        is_text: bool,
    },
    /// A symbolic link and its target.
    Link(String),
    /// A directory.
    Dir {
        /// Nothing is in it.
        empty: bool,
    },
}

/// What the project has at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote<'a> {
    /// The entry.
    pub entry: &'a Entry,
    /// The current content of a text, as far as it is known here.
    pub text: Option<BlobHash>,
}

/// The next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Both sides and the base agree.
    Nothing,
    /// Both sides agree; the base is to say so.
    Adopt,
    /// Both sides have nothing; the base is to say so.
    Forget,
    /// The disk's text goes into the text document, as an edit of what was on disk before.
    Edit,
    /// The disk's version becomes the project's, whole.
    Send,
    /// The disk's permission bits become the project's.
    SendMode,
    /// The project's entry is removed.
    Withdraw,
    /// The project's version takes the place of what is on disk.
    Write,
    /// The project's permission bits are set on disk.
    WriteMode,
    /// What is on disk is removed.
    Remove,
    /// The project's version takes the path, the disk's is kept beside it.
    Conflict,
    /// Nothing can be done until something else changes.
    Blocked(&'static str),
}

/// The next step for a path.
pub fn plan(base: Option<&Base>, disk: &Disk, remote: Option<&Remote<'_>>) -> Step {
    match (disk, remote) {
        (Disk::Absent, None) => match base {
            None => Step::Nothing,
            Some(_) => Step::Forget,
        },
        (Disk::Absent, Some(remote)) => match base {
            Some(base) if remote_is_base(base, remote) && modes_agree(base, remote) => {
                Step::Withdraw
            }
            _ => arriving(remote),
        },
        (disk, None) => leaving(base, disk),
        (disk, Some(remote)) => meeting(base, disk, remote),
    }
}

/// Whether a session of this direction takes the step. What it does not take is left as it is.
///
/// `remote_changed`: the project has a newer content, so that a text edit would be a merge.
pub fn permits(direction: Direction, step: Step, remote_changed: bool) -> bool {
    match step {
        Step::Nothing | Step::Adopt | Step::Forget | Step::Conflict | Step::Blocked(_) => true,
        Step::Edit => direction != Direction::Pull || remote_changed,
        Step::Send | Step::SendMode | Step::Withdraw => direction != Direction::Pull,
        Step::Write | Step::WriteMode | Step::Remove => direction != Direction::Push,
    }
}

/// Something is in the project and not on disk.
fn arriving(remote: &Remote<'_>) -> Step {
    match remote.entry {
        Entry::Original { .. } => Step::Blocked("the server has not taken it in yet"),
        _ => Step::Write,
    }
}

/// Something is on disk and not in the project.
fn leaving(base: Option<&Base>, disk: &Disk) -> Step {
    match (base, disk) {
        (None, Disk::Dir { empty: false }) => Step::Nothing,
        (None, _) => Step::Send,
        (Some(base), disk)
            if disk_is_base(base, disk)
                && mode_of(disk).is_none_or(|mode| Some(mode) == entry_mode(&base.entry)) =>
        {
            Step::Remove
        }
        // A file became a directory; what is in it has paths of its own.
        (Some(_), Disk::Dir { empty: false }) => Step::Forget,
        (Some(_), _) => Step::Send,
    }
}

/// Something is on both sides.
fn meeting(base: Option<&Base>, disk: &Disk, remote: &Remote<'_>) -> Step {
    if matches!(remote.entry, Entry::Original { .. }) {
        return Step::Blocked("the server has not taken it in yet");
    }
    let remote_same = base.is_some_and(|base| remote_is_base(base, remote));
    if is_equal(disk, remote) {
        let (ours, theirs) = (mode_of(disk), entry_mode(remote.entry));
        let agreed = base.and_then(|base| entry_mode(&base.entry));
        return match () {
            _ if ours == theirs && remote_same && agreed == theirs => Step::Nothing,
            _ if ours == theirs => Step::Adopt,
            _ if remote_same && agreed == theirs => Step::SendMode,
            _ => Step::WriteMode,
        };
    }
    let remote_is_dir = matches!(remote.entry, Entry::Dir);
    let Some(base) = base else {
        return match disk {
            Disk::Dir { empty: false } => Step::Blocked("a directory of the same name is there"),
            Disk::Dir { empty: true } => Step::Write,
            _ if remote_is_dir => Step::Send,
            _ => Step::Conflict,
        };
    };
    let disk_same = disk_is_base(base, disk);
    match disk {
        _ if disk_same => Step::Write,
        _ if is_edit(base, disk, remote) => Step::Edit,
        Disk::Dir { empty: false } if remote_same => Step::Withdraw,
        Disk::Dir { empty: false } => Step::Blocked("a directory of the same name is there"),
        _ if remote_same || remote_is_dir => Step::Send,
        Disk::Dir { empty: true } => Step::Write,
        _ => Step::Conflict,
    }
}

/// Whether the disk's version can be merged into the document that both sides have.
fn is_edit(base: &Base, disk: &Disk, remote: &Remote<'_>) -> bool {
    let is_text = matches!(disk, Disk::File { is_text: true, .. });
    is_text && base.entry.doc().is_some() && base.entry.doc() == remote.entry.doc()
}

fn is_equal(disk: &Disk, remote: &Remote<'_>) -> bool {
    match (disk, remote.entry) {
        (Disk::File { hash, .. }, Entry::Text { .. }) => remote.text == Some(*hash),
        (Disk::File { hash, .. }, Entry::Blob { hash: theirs, .. }) => hash == theirs,
        (Disk::Link(target), Entry::Link { target: theirs }) => target == theirs,
        (Disk::Dir { .. }, Entry::Dir) => true,
        _ => false,
    }
}

fn disk_is_base(base: &Base, disk: &Disk) -> bool {
    match (disk, &base.entry) {
        (Disk::File { hash, .. }, Entry::Text { .. } | Entry::Blob { .. }) => {
            base.hash == Some(*hash)
        }
        (Disk::Link(target), Entry::Link { target: agreed }) => target == agreed,
        (Disk::Dir { .. }, Entry::Dir) => true,
        _ => false,
    }
}

fn remote_is_base(base: &Base, remote: &Remote<'_>) -> bool {
    match (&base.entry, remote.entry) {
        (Entry::Text { doc: agreed, .. }, Entry::Text { doc, .. }) => {
            agreed == doc && base.hash == remote.text
        }
        (Entry::Blob { hash: agreed, .. }, Entry::Blob { hash, .. }) => agreed == hash,
        (Entry::Link { target: agreed }, Entry::Link { target }) => agreed == target,
        (Entry::Dir, Entry::Dir) => true,
        _ => false,
    }
}

fn modes_agree(base: &Base, remote: &Remote<'_>) -> bool {
    entry_mode(&base.entry) == entry_mode(remote.entry)
}

fn mode_of(disk: &Disk) -> Option<u32> {
    match disk {
        Disk::File { mode, .. } => Some(*mode),
        _ => None,
    }
}

/// The permission bits that an entry puts on disk; set-id and sticky bits never come from the
/// network.
pub fn entry_mode(entry: &Entry) -> Option<u32> {
    match entry {
        Entry::Text { mode, .. } | Entry::Blob { mode, .. } => Some(mode & 0o777),
        _ => None,
    }
}

/// Whether a new file on disk becomes a text document.
pub fn becomes_text(disk: &Disk) -> bool {
    matches!(disk, Disk::File { is_text: true, size, .. } if *size <= MAX_TEXT_BYTES as u64)
}

#[cfg(test)]
mod tests;
