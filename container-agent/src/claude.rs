//! Claude Code: how it is started, and what its output tells.
//!
//! Owns: the copy of its stream-json to standard output ([`stream`]), the events read beside that
//! copy ([`event`]), its command line and environment ([`launch`]). Must not do: wait for the
//! network, decide what to sync. The stream is a hint of *which tool call* wrote and *when* it was
//! done; that something changed is told by the kernel.
//! Invariants: what comes out is what came in, byte for byte; memory is bounded whatever comes in.

pub mod event;
pub mod launch;
mod lines;
mod pipe;
pub mod stream;

pub use event::StreamEvent;
pub use lines::Line;
pub use pipe::{Outlet, Stopper, Tap};
pub use stream::{TeeEnd, tee, tee_lines};
