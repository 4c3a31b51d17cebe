//! What a session has to say for itself: reports and status, plain data.

use std::time::SystemTime;

use uspark_shared::path::FilePath;

/// A path that is not synced, and will not be until somebody changes something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// As on disk or in the project; it need not be a valid path.
    pub path: String,
    /// In one sentence.
    pub why: String,
}

/// A path on which workspace and project still differ.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pending {
    /// The path; none when it is not about one.
    pub path: Option<FilePath>,
    /// In one sentence.
    pub why: String,
}

/// A loser of a conflict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The path both sides wanted.
    pub path: FilePath,
    /// Where the loser is now.
    pub kept: FilePath,
}

/// What a barrier, or the end of a session, found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Paths brought up to the project, removals included, since the session began.
    pub sent: u64,
    /// Paths brought up to the workspace, removals included, since the session began.
    pub received: u64,
    /// Conflicts since the session began.
    pub conflicts: Vec<Conflict>,
    /// What is not synced, and why.
    pub skipped: Vec<Skipped>,
    /// What this session's direction should have made equal and has not.
    pub pending: Vec<Pending>,
    /// How many of those are deletions that are held, because they are too many at once.
    pub held: u64,
    /// How many of those were deleted in the project, so that the files are still here on disk.
    pub held_here: u64,
    /// What the workspace has changed and a pull does not send.
    pub not_pushed: Vec<Pending>,
    /// What the project has changed and a push does not bring.
    pub not_pulled: Vec<Pending>,
}

impl Report {
    /// Whether this session's direction has brought over all that it covers, skipped paths apart.
    pub fn is_done(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether all that the session covers is equal on both sides, skipped paths apart.
    pub fn is_equal(&self) -> bool {
        self.is_done() && self.not_pushed.is_empty() && self.not_pulled.is_empty()
    }
}

/// The link to the server, as status shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// Trying.
    Connecting,
    /// Up, and following the project.
    Online,
    /// Away; tried again by itself.
    Offline {
        /// Why, as last seen.
        why: String,
    },
}

/// What a session is doing right now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// As a barrier would report it now.
    pub report: Report,
    /// The link.
    pub link: LinkState,
    /// Updates that are journalled and not yet acknowledged.
    pub unacknowledged: u64,
    /// When the server last acknowledged something.
    pub last_acknowledged: Option<SystemTime>,
    /// Directories watched.
    pub watches: u64,
    /// Directories that the kernel lets this user watch, when known.
    pub watches_allowed: Option<u64>,
    /// How many events of the kernel were taken, those of our own cookies apart.
    pub events: u64,
    /// Paths known on both sides.
    pub files: u64,
}
