//! The harness of the end-to-end tests.
//!
//! Owns: starting the real binaries, other people's programs and a scripted model, and ending them. Everything is
//! reached at its edge, by wire, HTTP or command line; nothing here links the server or the agent.
//!
//! Must not: sleep anywhere but in [`eventually`] and [`pause`]; leave a process or a file behind, also when a test panics.
//!
//! The harness panics where a test should fail: a message says what was expected and what each process said.
#![allow(
    clippy::disallowed_methods,
    reason = "tests prepare and inspect workspaces as a user does"
)]

mod curl;
mod eventually;
mod log;
mod model;
mod node;
mod outline;
mod process;
mod programs;
mod server;
mod soak;
mod used;
mod workspace;

pub use curl::{Curl, Reply};
pub use eventually::{SOON, eventually, pause, same};
pub use log::{Change, changes, is_stored};
pub use model::{Model, Turn, call_id};
pub use node::{Node, from_hex, to_hex};
pub use outline::{Outline, same_outline};
pub use process::{Ended, Running};
pub use programs::{as_ordinary_user, private_mounts, program, under};
pub use server::{Project, Server, events_in};
pub use soak::Row;
pub use used::Used;
pub use workspace::{Entry, Tree, Workspace};
