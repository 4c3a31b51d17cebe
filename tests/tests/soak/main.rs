//! The agent's long tests, with the real programs: see `uspark_tests::Row` and `make soak`.

mod tokens;
mod tree;
