//! The uspark sync server.

pub mod access;
pub mod ack;
pub mod blobs;
pub mod collab;
pub mod project;
pub mod refusal;
pub mod server;
pub mod socket;
pub mod store;
pub mod subscriber;
pub mod ws;
