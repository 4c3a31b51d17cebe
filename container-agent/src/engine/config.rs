//! What a session is asked to do. Parsed by the caller; here it is taken as given.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uspark_shared::id::ProjectId;
use uspark_shared::path::FilePath;

use crate::config::{Authorities, Secret, ServerUrl};

/// Which way changes travel. Both one-way directions still merge what changed on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Bring the workspace up to the project once. Nothing is sent, not even merges: those wait in
    /// the journal for the next push or watch.
    Pull,
    /// Bring the project up to the workspace once. Nothing is written to the disk, except merges.
    Push,
    /// Keep the two equal until the session is finished.
    Both,
}

/// What becomes of deletions that are most of all files at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MassDelete {
    /// They are held, and all else goes on.
    #[default]
    Held,
    /// They pass like any other: somebody said that they are meant.
    Passes,
    /// Those pass that the project lost: here on disk.
    PassesHere,
    /// Those pass that the disk lost: there in the project.
    PassesThere,
}

/// Deletions that somebody said are meant, however many they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Meant {
    /// Of which sides.
    #[serde(default)]
    pub mass_delete: MassDelete,
    /// At or below which paths; everywhere when empty.
    #[serde(default)]
    pub paths: Vec<FilePath>,
}

impl Meant {
    /// Whether the deletion of a path is meant, if those of its side are.
    pub(super) fn covers(&self, path: &FilePath) -> bool {
        covers(&self.paths, path)
    }
}

/// Whether a path is at or below one of these. None stands for all.
pub(super) fn covers(paths: &[FilePath], path: &FilePath) -> bool {
    let covers = |named: &FilePath| path == named || path.is_below(named);
    paths.is_empty() || paths.iter().any(covers)
}

/// Everything a session needs to know.
#[derive(Debug, Clone)]
pub struct SyncConfig {
    /// Where the server is.
    pub server: ServerUrl,
    /// The bearer token.
    pub token: Secret,
    /// Who may vouch for the server, beside the public authorities and the machine's.
    pub authorities: Authorities,
    /// The project.
    pub project: ProjectId,
    /// The workspace's directory. Must exist.
    pub root: PathBuf,
    /// Which way changes travel.
    pub direction: Direction,
    /// Only these paths and what lies below them; everything when empty.
    pub paths: Vec<FilePath>,
    /// What becomes of deletions that are most of all files at once.
    pub mass_delete: MassDelete,
    /// The run that this session belongs to, for attribution.
    pub run: Option<String>,
    /// Who the conflict copies made here are named after.
    pub who: String,
    /// The numbers someone may want to change.
    pub limits: Limits,
}

/// Numbers that tests and unusual machines change.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How long a vanished path is held before it counts as deleted: git, vim and every
    /// delete-then-create saver bring it back within a few milliseconds.
    pub hold: Duration,
    /// Blobs travelling at once, each way together.
    pub transfers: usize,
    /// Disk operations at once.
    pub disk_workers: usize,
    /// Text documents whose state is being exchanged at once.
    pub exchanges: usize,
    /// Text replicas kept in memory while nothing happens to them.
    pub loaded_texts: usize,
    /// First and longest wait before connecting again, and before a failed path is tried again.
    pub retry: (Duration, Duration),
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            hold: Duration::from_millis(40),
            transfers: 6,
            disk_workers: 8,
            exchanges: 64,
            loaded_texts: 64,
            retry: (Duration::from_millis(200), Duration::from_secs(15)),
        }
    }
}

/// A call of a tool by the command that is running, as its stream announces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// `tool_use_id`.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// The files it says it will write, if it says. Write-back to them waits for its end.
    pub paths: Vec<FilePath>,
}

/// What a session tells while it goes on. For progress bars and messages; nothing depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The socket is up and the project's document is known.
    Connected,
    /// The server is away; it is tried again by itself.
    Offline {
        /// Why.
        why: String,
    },
    /// How much is known to be left, in paths. Grows and shrinks.
    Left(usize),
    /// A path of the workspace was brought up to the project.
    Received(FilePath),
    /// A path was removed from the workspace because the project no longer has it.
    RemovedHere(FilePath),
    /// A path of the project was brought up to the workspace.
    Sent(FilePath),
    /// A path was removed from the project because the workspace no longer has it.
    RemovedThere(FilePath),
    /// A version of `path` that lost a conflict is kept as `kept`.
    Conflict {
        /// The path both sides wanted.
        path: FilePath,
        /// Where the loser is now.
        kept: FilePath,
    },
    /// Something a person should know, in one sentence.
    Note(String),
}

/// Takes what a session tells. Called from the engine's loop: must return at once.
pub type ProgressSink = Arc<dyn Fn(Progress) + Send + Sync>;
