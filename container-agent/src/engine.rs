//! wip
pub mod config;
pub mod plan;
pub mod report;
