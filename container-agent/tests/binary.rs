//! The program `uspark` itself, where no server is needed: an agent is played on the workspace's
//! control socket, Claude Code by a script, the server's token call by a few lines.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests make their own files"
)]

#[path = "binary/auth.rs"]
mod auth;
#[path = "binary/mass_delete.rs"]
mod mass_delete;
#[path = "binary/run.rs"]
mod run;
#[path = "binary/sandbox.rs"]
mod sandbox;
#[path = "binary/status.rs"]
mod status;
#[path = "binary/usage.rs"]
mod usage;
#[path = "binary/watch_claude.rs"]
mod watch_claude;
