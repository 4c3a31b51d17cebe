//! What the targets share: the checks that the tests of `shared` make, too.

#[path = "../../shared/tests/checks/mod.rs"]
pub mod checks;
