//! The messages on the control socket, one JSON object a line; `--json` prints the same forms.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use uspark_shared::id::ProjectId;
use uspark_shared::path::FilePath;

use crate::config::ServerUrl;
use crate::engine::{LinkState, Meant, Pending, Report, Skipped, Status};

/// What a command asks the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Request {
    /// Answered with [`Reply::Status`].
    Status,
    /// Answered with [`Reply::Report`] when all is equal or the time is up.
    Barrier {
        /// Longest wait, in milliseconds.
        timeout_ms: u64,
        /// Deletions that pass, though they would be held for being too many.
        #[serde(flatten)]
        meant: Meant,
    },
    /// Answered with [`Reply::Unknown`].
    Unknown {
        /// Files or directories.
        paths: Vec<FilePath>,
    },
    /// Not answered.
    ToolStarted(ToolStart),
    /// Not answered.
    ToolFinished {
        /// The call's id.
        id: String,
    },
}

/// A tool call that begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolStart {
    /// The call's id.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// What it says it will write.
    pub paths: Vec<PathBuf>,
}

/// What the agent answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reply {
    /// To [`Request::Status`].
    Status(Box<StatusView>),
    /// To [`Request::Barrier`].
    Report(ReportView),
    /// To [`Request::Unknown`]: those that name nothing that is synced.
    Unknown(Vec<Reason>),
    /// The request was not understood.
    Refused(String),
}

/// What a barrier found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportView {
    /// Whether the command has brought over all that it was to, skipped paths apart.
    pub done: bool,
    /// Whether workspace and project are equal, skipped paths apart: done, and nothing differs in
    /// the other direction.
    pub equal: bool,
    /// Paths brought up to the project.
    pub sent: u64,
    /// Paths brought up to the workspace.
    pub received: u64,
    /// Losers of conflicts, and where they are kept.
    pub conflicts: Vec<ConflictView>,
    /// What is not synced.
    pub skipped: Vec<Reason>,
    /// What is not brought over yet.
    pub pending: Vec<Reason>,
    /// How many of those are deletions that are held, because they are too many at once.
    pub held: u64,
    /// How many of those were deleted in the project, so that the files are still here on disk.
    pub held_here: u64,
    /// What a `pull` found changed here, and leaves to a `push`.
    pub not_pushed: Vec<Reason>,
    /// What a `push` found changed on the server, and leaves to a `pull`.
    pub not_pulled: Vec<Reason>,
}

/// A conflict's loser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictView {
    /// The path both sides wanted.
    pub path: String,
    /// Where the loser is now.
    pub kept: String,
}

/// A path and why it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// The path; none when it is not about one.
    pub path: Option<String>,
    /// In one sentence.
    pub why: String,
}

/// What the agent is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusView {
    /// The agent's process.
    pub pid: u32,
    /// The command that it runs as, such as `watch`.
    pub command: String,
    /// The project.
    pub project: ProjectId,
    /// The server.
    pub server: ServerUrl,
    /// The connection.
    pub link: LinkView,
    /// What a barrier would say now.
    pub report: ReportView,
    /// Updates not yet acknowledged.
    pub unacknowledged: u64,
    /// When the server last acknowledged something, in milliseconds since 1970.
    pub last_acknowledged: Option<u64>,
    /// Directories watched.
    pub watches: u64,
    /// Directories that the kernel lets this user watch.
    pub watches_allowed: Option<u64>,
    /// How many events of the kernel were taken, those of our own cookies apart.
    pub events: u64,
    /// Paths known on both sides.
    pub files: u64,
}

/// The connection to the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum LinkView {
    /// Trying.
    Connecting,
    /// Up.
    Online,
    /// Away; tried again by itself.
    Offline {
        /// Why, as last seen.
        why: String,
    },
}

/// Who the agent is; a session itself does not know.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The command that it runs as.
    pub command: &'static str,
    /// The project.
    pub project: ProjectId,
    /// The server.
    pub server: ServerUrl,
}

impl StatusView {
    /// Shows `status` of the session in this process.
    pub fn new(identity: &Identity, status: Status) -> Self {
        let millis = |time: SystemTime| {
            let since = time.duration_since(UNIX_EPOCH).ok()?;
            u64::try_from(since.as_millis()).ok()
        };
        Self {
            pid: std::process::id(),
            command: identity.command.to_owned(),
            project: identity.project.clone(),
            server: identity.server.clone(),
            link: match status.link {
                LinkState::Connecting => LinkView::Connecting,
                LinkState::Online => LinkView::Online,
                LinkState::Offline { why } => LinkView::Offline { why },
            },
            report: status.report.into(),
            unacknowledged: status.unacknowledged,
            last_acknowledged: status.last_acknowledged.and_then(millis),
            watches: status.watches,
            watches_allowed: status.watches_allowed,
            events: status.events,
            files: status.files,
        }
    }
}

impl From<Report> for ReportView {
    fn from(report: Report) -> Self {
        let reasons = |list: Vec<Pending>| list.into_iter().map(Reason::from).collect();
        Self {
            done: report.is_done(),
            equal: report.is_equal(),
            sent: report.sent,
            received: report.received,
            conflicts: report
                .conflicts
                .into_iter()
                .map(|conflict| ConflictView {
                    path: conflict.path.into(),
                    kept: conflict.kept.into(),
                })
                .collect(),
            skipped: report.skipped.into_iter().map(Reason::from).collect(),
            pending: reasons(report.pending),
            held: report.held,
            held_here: report.held_here,
            not_pushed: reasons(report.not_pushed),
            not_pulled: reasons(report.not_pulled),
        }
    }
}

impl From<Skipped> for Reason {
    fn from(skipped: Skipped) -> Self {
        Self {
            path: Some(skipped.path),
            why: skipped.why,
        }
    }
}

impl From<Pending> for Reason {
    fn from(pending: Pending) -> Self {
        Self {
            path: pending.path.map(String::from),
            why: pending.why,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::engine::MassDelete;

    #[test]
    fn the_lines_have_the_form_that_is_documented() {
        for (request, line) in [
            (Request::Status, json!({"ask": "status"})),
            (
                Request::Barrier {
                    timeout_ms: 5,
                    meant: Meant {
                        mass_delete: MassDelete::PassesHere,
                        paths: vec!["a".parse().unwrap()],
                    },
                },
                json!({"ask": "barrier", "timeoutMs": 5, "massDelete": "passesHere", "paths": ["a"]}),
            ),
            (
                Request::Unknown {
                    paths: vec!["a/b".parse().unwrap()],
                },
                json!({"ask": "unknown", "paths": ["a/b"]}),
            ),
            (
                Request::ToolStarted(ToolStart {
                    id: "t".into(),
                    name: "Write".into(),
                    paths: vec!["/w/a".into()],
                }),
                json!({"ask": "toolStarted", "id": "t", "name": "Write", "paths": ["/w/a"]}),
            ),
            (
                Request::ToolFinished { id: "t".into() },
                json!({"ask": "toolFinished", "id": "t"}),
            ),
        ] {
            assert_eq!(serde_json::to_value(&request).unwrap(), line);
            assert_eq!(serde_json::from_value::<Request>(line).unwrap(), request);
        }
        let refused = Reply::Refused("no".into());
        assert_eq!(
            serde_json::to_value(refused).unwrap(),
            json!({"refused": "no"})
        );
    }

    #[test]
    fn a_report_is_shown_whole() {
        let report = Report {
            sent: 1,
            received: 2,
            conflicts: vec![crate::engine::Conflict {
                path: "a".parse().unwrap(),
                kept: "a.conflict-x-1".parse().unwrap(),
            }],
            skipped: vec![crate::engine::Skipped {
                path: "pipe".into(),
                why: "is a pipe".into(),
            }],
            pending: vec![crate::engine::Pending {
                path: None,
                why: "the server is away".into(),
            }],
            held: 3,
            held_here: 2,
            not_pushed: vec![crate::engine::Pending {
                path: Some("b".parse().unwrap()),
                why: "changed here".into(),
            }],
            not_pulled: vec![],
        };
        assert_eq!(
            serde_json::to_value(ReportView::from(report)).unwrap(),
            json!({
                "done": false, "equal": false, "sent": 1, "received": 2,
                "conflicts": [{"path": "a", "kept": "a.conflict-x-1"}],
                "skipped": [{"path": "pipe", "why": "is a pipe"}],
                "pending": [{"path": null, "why": "the server is away"}],
                "held": 3, "heldHere": 2,
                "notPushed": [{"path": "b", "why": "changed here"}], "notPulled": [],
            })
        );
        let nothing = ReportView::from(Report::default());
        assert!(nothing.done && nothing.equal);
    }
}
