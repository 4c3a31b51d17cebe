//! The agent: keeps a workspace on disk and a project on the server equal.

pub mod disk;
pub mod engine;
pub mod journal;
pub mod rules;
pub mod watch;
