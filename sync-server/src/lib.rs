//! The uspark sync server.

pub mod access;
pub mod ack;
pub mod blobs;
pub mod project;
pub mod refusal;
pub mod store;
pub mod subscriber;
