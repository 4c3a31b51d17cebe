//! The agent's long tests, with the real programs: see `uspark_tests::Row` and `make soak`.

mod away;
mod claude;
mod kills;
mod odd;
mod search;
mod tree;
mod watched;
