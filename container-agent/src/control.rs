//! How one command talks to the agent that already holds the workspace.
//!
//! Owns: the socket `.uspark/agent.sock` (its owner's alone), the JSON lines on it ([`message`]),
//! both ends of it. Must not do: sync; it asks an [`Agent`] and passes the answer on.
//! Invariants: only who holds the workspace's lock listens; a request is bounded in length, an
//! unknown one is refused and harms nothing; a tool call that a lost peer left open is ended.

mod client;
pub mod message;
mod server;
mod socket;

use std::time::Duration;

pub use client::{ControlClient, ControlError};
use message::Reason;
pub use message::{ReportView, StatusView, ToolStart};
pub use server::ControlServer;
use uspark_shared::path::FilePath;

use crate::engine::Meant;

/// What answers on the socket: the running session.
pub trait Agent: Clone + Send + Sync + 'static {
    /// What the agent is doing now.
    fn status(&self) -> impl Future<Output = StatusView> + Send;
    /// Waits until workspace and project are equal, for at most `timeout`; while it waits, the
    /// deletions that are `meant` are not held.
    fn barrier(&self, timeout: Duration, meant: Meant) -> impl Future<Output = ReportView> + Send;
    /// Which of `paths` name nothing that is synced, and why.
    fn unknown(&self, paths: Vec<FilePath>) -> impl Future<Output = Vec<Reason>> + Send;
    /// A tool call begins. Returns at once.
    fn tool_started(&self, call: ToolStart);
    /// A tool call has ended. Returns at once.
    fn tool_finished(&self, id: &str);
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests make their own files")]
mod tests;
