//! A project in memory: one owner for its document and all its loaded texts.
//!
//! Owns: applying, storing, forwarding and acknowledging updates; settling texts; repairs; the
//! bridge for clients of the original protocol. Must not do: speak a wire format, name a status.
//!
//! Invariants: at most one live copy of a document in a process; an update is stored as it was
//! received; others get it at once, its author hears of it when it is durable; when a commit fails
//! the owner goes away with all it holds, and clients give back what is missing.

mod awareness;
mod cache;
mod chain;
mod command;
mod facts;
mod happened;
mod live;
mod merge;
mod owner;
mod registry;
mod repair;
#[cfg(test)]
mod tests;
mod tree;

pub use cache::Cache;
pub use command::{
    Attribution, By, Command, FileView, Manifest, ManifestFile, Patched, PutBase, Seat, SeatAck,
    SeatMessage,
};
pub use facts::BlobFacts;
pub use registry::{ProjectDeps, ProjectHandle, Projects, Timing};
pub use repair::Report;
