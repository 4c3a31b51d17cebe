//! The server from outside: HTTP against a server in this process, and the binary itself.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that fails may panic, and looks at what is on the disk"
)]

mod access;
mod archive;
mod binary;
mod blobs;
mod client;
mod collection;
mod events;
mod files;
mod foreign;
mod hostile;
mod limits;
mod messages;
mod metrics;
mod operating;
mod problems;
mod projects;
mod socket;
mod stalled;
mod stopping;
mod tls;
mod tokens;
