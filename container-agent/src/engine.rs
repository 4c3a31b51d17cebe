//! wip
pub mod config;
pub mod report;
