//! The pure parts that the server and the agent both use.
//!
//! Owns: names and paths ([`id`], [`path`]), the project document's schema ([`schema`]), the wire
//! codec ([`codec`]), the scan of raw updates ([`update`]), the replica over yrs ([`replica`]),
//! seeding ([`seed`]) and the text diff ([`diff`]). Must not do: I/O, spawning, reading a clock,
//! drawing randomness (a caller passes it in).

pub mod codec;
pub mod diff;
pub mod id;
pub mod path;
pub mod printable;
pub mod replica;
pub mod schema;
pub mod seed;
pub mod text;
pub mod update;
