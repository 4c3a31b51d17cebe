//! The heart of the agent: keeps a workspace and a project equal.
//!
//! Owns [`Session`]: one loop ([`run`]) that owns all state and takes one closed event type, and
//! the tasks that feed it: the watcher's thread, the link's task, jobs for disk and blobs. Must
//! not do: print, parse arguments, know HTTP statuses.
//!
//! How a change travels. Disk to project: the watcher marks a path, a job looks at it, the planner
//! ([`plan`]) names a step, the step edits the shadow ([`texts`]) or the project document
//! ([`project`]), the journal gets both, then the wire. Project to disk: a frame changes the live
//! replica or the project document, the path is looked at and planned, a job swaps the file in,
//! then the shadow follows. A restart, a lost connection and lost events of the kernel lead into the
//! same way through a listing and an exchange of state vectors.
//!
//! Invariants
//! - Nothing is on the socket or in a file that the journal does not have: see [`run`].
//! - A path is only ever written over what it was seen to be: see [`crate::disk::swap`].
//! - Bytes that are right are not written again; what is written is not sent again, because it
//!   equals the base.
//! - What cannot be done is named, with its reason, in every [`Report`]; all else goes on.

mod agreed;
mod barrier;
mod config;
mod deletions;
mod documents;
mod guard;
mod jobs;
mod lacked;
mod look;
mod one_way;
pub mod plan;
mod project;
mod recover;
mod remote;
mod renames;
mod report;
mod run;
mod session;
mod stale;
mod step;
mod texts;
mod tools;
mod wire;
mod withdrawn;
mod work;
mod write;

pub use config::{
    Direction, Limits, MassDelete, Meant, Progress, ProgressSink, SyncConfig, ToolCall,
};
pub use report::{Conflict, LinkState, Pending, Report, Skipped, Status};
pub use run::Over;
pub use session::{EngineError, Session, SessionHandle};

#[cfg(test)]
mod tests;
