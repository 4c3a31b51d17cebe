//! What the store keeps, in the server's own words.
//!
//! Dates are milliseconds since 1970, given by whoever writes: no clock is read here. Numbers
//! above `i64::MAX` are kept as `i64::MAX`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uspark_shared::id::{BlobHash, DocId, DocumentName, ProjectId};
use uspark_shared::path::FilePath;

use super::{Refused, Upkeep};
use crate::access::{TokenId, TokenRecord, TokenScope};

/// One change to the store. A `Vec` of them is a group, and atomic.
///
/// Everything of a project that does not exist is refused with `NoSuchProject`.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Makes a project.
    CreateProject(ProjectRecord),
    /// Deletes a project with its documents, texts, history, rights to blobs, events and tokens.
    ///
    /// The audit log stays. Bytes of blobs stay too until they are collected, but this project
    /// (or a later one of the same id) can read none of them.
    DeleteProject(ProjectId),
    /// Appends an update to a document, exactly as it was received.
    Append {
        /// The document.
        name: DocumentName,
        /// Its place, given by the document's owner: from 1 on, each once. Gaps are harmless.
        seq: u64,
        /// The update, V1.
        update: Bytes,
        /// Who made it; `None` is the server itself.
        origin: Option<Origin>,
        /// When it was received.
        at: u64,
    },
    /// Replaces all updates with a place up to `through` by one snapshot.
    ///
    /// `state` must hold all of them; those that still wait for others are appended after it. A document that
    /// is already compacted as far is left as it is. Who wrote what ([`OriginSpan`]) is kept.
    Compact {
        /// The document.
        name: DocumentName,
        /// The last place that `state` holds.
        through: u64,
        /// The document's whole state as one update, V1.
        state: Bytes,
    },
    /// Sets a text document's record.
    PutText(TextRecord),
    /// Adds a settled version to a text's history; none is ever replaced.
    Settle {
        /// The project.
        project: ProjectId,
        /// The text document.
        doc: DocId,
        /// The settled content, its blob already durable or in the same group.
        version: SettledVersion,
        /// The place of the project document's update that names this version.
        project_seq: u64,
        /// The place of the text's last update that the version holds.
        doc_seq: u64,
    },
    /// Keeps a blob and lets this project read it.
    PutBlob {
        /// Who may read it now.
        project: ProjectId,
        /// Its name, already checked against its bytes.
        hash: BlobHash,
        /// Its bytes, or how many there are elsewhere.
        body: BlobBody,
        /// When it came.
        at: u64,
    },
    /// Adds a token.
    PutToken(TokenRecord),
    /// Revokes a token; revoked twice, the first date stays.
    RevokeToken {
        /// The token.
        id: TokenId,
        /// When.
        at: u64,
    },
    /// Adds a line to the audit log.
    Audit(AuditRecord),
    /// Adds events to a project's, in this order.
    ///
    /// Each gets the next number, from 1 on. No number is ever given again, not to a later project
    /// of the same id either, whose first number is more than one above the last of this one.
    Events {
        /// The project.
        project: ProjectId,
        /// What happened.
        events: Vec<EventRecord>,
        /// How many of the project's events are kept; the oldest go.
        keep: u64,
    },
    /// Adds the lines of a run that are not there yet to a project's events.
    Lines(RunLines),
    /// Notes what is used, or lets go of what is not.
    Upkeep(Upkeep),
}

/// A project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectRecord {
    /// Its id.
    pub id: ProjectId,
    /// Its name for people.
    pub name: Option<String>,
    /// When it was made.
    pub created_at: u64,
}

/// Who made an update: the token is known, the rest is claimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// The token it came with.
    pub token: TokenId,
    /// The run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The tool call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_use_id: Option<String>,
    /// The tool's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
}

/// Consecutive updates by one origin, up to where the next span begins.
///
/// One row for many keystrokes, and kept through compaction: the log forgets how a text came
/// about, never who wrote in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginSpan {
    /// The place of the first update.
    pub from_seq: u64,
    /// When that one was received.
    pub at: u64,
    /// Who; `None` is the server itself.
    pub origin: Option<Origin>,
}

/// A text document, whether or not a path names it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextRecord {
    /// Its project.
    pub project: ProjectId,
    /// Its id.
    pub doc: DocId,
    /// The blob it was seeded from.
    pub seed: BlobHash,
    /// Its path, or the last one it had.
    pub path: FilePath,
    /// Since when no path names it.
    pub deleted_at: Option<u64>,
}

/// A settled content of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettledVersion {
    /// The blob that holds it.
    pub hash: BlobHash,
    /// Its bytes.
    pub size: u64,
    /// When it was last edited.
    pub mtime: u64,
}

/// A document as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDocument {
    /// The snapshot, if there is one, then the later updates, in order.
    pub updates: Vec<Bytes>,
    /// The place for the next update.
    pub next_seq: u64,
}

/// Where a blob's bytes are when it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobBody {
    /// Here.
    Inline(Bytes),
    /// Durable elsewhere already.
    External {
        /// How many there are.
        size: u64,
    },
}

/// Where a blob's bytes are when it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredBlob {
    /// Here.
    Inline(Bytes),
    /// Elsewhere.
    External {
        /// How many there are.
        size: u64,
    },
}

/// On whose behalf a blob is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader<'a> {
    /// A project: only blobs that were uploaded to it or settled in it.
    Project(&'a ProjectId),
    /// The server's own administrator.
    Any,
}

/// A line of the audit log: never contents, never secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// When.
    pub at: u64,
    /// Who: a token's id, or `server`.
    pub actor: String,
    /// What, as `noun.verb`.
    pub action: String,
    /// In which project.
    pub project: Option<ProjectId>,
    /// To what.
    pub detail: String,
}

/// Something that happened in a project. This is also how it is written, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    /// When.
    pub at: u64,
    /// What.
    #[serde(flatten)]
    pub what: Happening,
    /// Who did it, of several who edited one text the last; `None` is the server itself.
    pub who: Option<Origin>,
    /// Who else edited the text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Origin>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "lowercase")]
pub enum Happening {
    /// There is a path that was not there before.
    Created {
        /// The path.
        path: FilePath,
        /// What is there.
        #[serde(flatten)]
        file: FileState,
    },
    /// A path is something else now.
    Changed {
        /// The path.
        path: FilePath,
        /// What is there.
        #[serde(flatten)]
        file: FileState,
    },
    /// A path is gone.
    Deleted {
        /// The path.
        path: FilePath,
        /// What was there.
        #[serde(flatten)]
        file: FileState,
    },
    /// A text went to another path. What was there before is gone.
    Moved {
        /// Where it is.
        path: FilePath,
        /// Where it was.
        from: FilePath,
        /// What is there.
        #[serde(flatten)]
        file: FileState,
    },
    /// A run said something.
    Line {
        /// The run.
        run: String,
        /// Which line of the run it is, from 1 on.
        line: u64,
        /// The line, without its end.
        text: String,
    },
}

/// What an event says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileState {
    /// What kind it is.
    pub kind: FileKind,
    /// Its content, of a text the settled one; links and directories have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<BlobHash>,
}

/// The kinds of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// A text.
    Text,
    /// Any other bytes.
    Binary,
    /// A symbolic link.
    Link,
    /// An empty directory.
    Dir,
}

/// Consecutive lines that a run said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunLines {
    /// The project.
    pub project: ProjectId,
    /// The run.
    pub run: String,
    /// The number of the first of these lines; a run's first is 1.
    pub from: u64,
    /// The lines, without their ends.
    pub lines: Vec<String>,
    /// When they came.
    pub at: u64,
    /// Whose they are.
    pub who: Option<Origin>,
    /// How many of the project's events are kept.
    pub keep: u64,
}

/// Some of a project's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPage {
    /// Events in order, each with its number.
    pub events: Vec<(u64, EventRecord)>,
    /// The number that was given last; 0 before the first.
    pub last: u64,
    /// The number up to which none is kept; 0 if all are.
    pub cut: u64,
}

impl EventRecord {
    /// About how many bytes it holds.
    pub(super) fn cost(&self) -> usize {
        let said = match &self.what {
            Happening::Line { run, text, .. } => run.len() + text.len(),
            _ => 0,
        };
        let claimed = self.who.iter().chain(&self.also).map(Origin::cost);
        size_of::<Self>() + said + claimed.sum::<usize>()
    }
}

impl RunLines {
    /// The number of the last of them.
    pub(super) fn last(&self) -> u64 {
        self.from + self.lines.len() as u64 - 1
    }

    /// Those that are still to be added where the run has `stored` lines. Between them there must
    /// be no gap.
    pub(super) fn missing(&self, stored: u64) -> Result<Vec<EventRecord>, Refused> {
        let next = stored + 1;
        if self.from > next {
            return Err(Refused::LinesMissing { next });
        }
        let numbered = (self.from..).zip(&self.lines);
        let new = numbered.filter(|(line, _)| *line >= next);
        let event = |(line, text): (u64, &String)| EventRecord {
            at: self.at,
            what: Happening::Line {
                run: self.run.clone(),
                line,
                text: text.clone(),
            },
            who: self.who.clone(),
            also: Vec::new(),
        };
        Ok(new.map(event).collect())
    }
}

impl Origin {
    /// The bytes of what was claimed: a peer chose how long that is.
    fn cost(&self) -> usize {
        let claims = [&self.run, &self.tool_use_id, &self.tool];
        claims.into_iter().flatten().map(String::len).sum()
    }
}

impl Write {
    /// The project that must exist for the write to be accepted.
    pub(crate) fn project(&self) -> Option<&ProjectId> {
        match self {
            Self::Append { name, .. } | Self::Compact { name, .. } => Some(&name.project),
            Self::PutText(TextRecord { project, .. })
            | Self::Settle { project, .. }
            | Self::PutBlob { project, .. }
            | Self::Events { project, .. }
            | Self::Lines(RunLines { project, .. }) => Some(project),
            Self::PutToken(token) => match &token.scope {
                TokenScope::Project(project) => Some(project),
                TokenScope::Server => None,
            },
            Self::DeleteProject(project) => Some(project),
            Self::CreateProject(_)
            | Self::RevokeToken { .. }
            | Self::Audit(_)
            | Self::Upkeep(_) => None,
        }
    }

    /// The project whose events are others after this write.
    pub(crate) fn events_of(&self) -> Option<&ProjectId> {
        match self {
            Self::Events { project, .. }
            | Self::Lines(RunLines { project, .. })
            | Self::DeleteProject(project) => Some(project),
            _ => None,
        }
    }

    /// About how many bytes of memory the write holds.
    pub(crate) fn cost(&self) -> usize {
        let payload = match self {
            Self::Append { update, origin, .. } => {
                update.len() + origin.as_ref().map_or(0, Origin::cost)
            }
            Self::Compact { state, .. } => state.len(),
            Self::PutBlob {
                body: BlobBody::Inline(bytes),
                ..
            } => bytes.len(),
            Self::CreateProject(project) => project.name.as_ref().map_or(0, String::len),
            Self::Audit(record) => record.detail.len(),
            Self::Events { events, .. } => events.iter().map(EventRecord::cost).sum(),
            Self::Lines(lines) => lines.lines.iter().map(String::len).sum(),
            Self::Upkeep(upkeep) => upkeep.cost(),
            _ => 0,
        };
        size_of::<Self>() + payload
    }
}
