//! The agent's long tests, with the real programs: see `uspark_tests::Row` and `make soak`.
#![allow(
    clippy::disallowed_methods,
    reason = "tests prepare and inspect workspaces as a user does"
)]

mod attribution;
mod away;
mod claude;
mod clients;
mod events;
mod kills;
mod odd;
mod search;
mod tokens;
mod tree;
mod watched;
