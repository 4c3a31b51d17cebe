//! The uspark agent: keeps a workspace on disk and a project on the server equal.

pub mod api;
pub mod claude;
pub mod cli;
pub mod clock;
pub mod command;
pub mod compare;
pub mod config;
pub mod control;
pub mod disk;
pub mod engine;
pub mod journal;
pub mod link;
pub mod publish;
pub mod rules;
pub mod watch;
