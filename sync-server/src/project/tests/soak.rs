//! Long tests of single projects: see `uspark_tests::Row` and `make soak`.

mod cold;
