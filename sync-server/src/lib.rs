//! The uspark sync server: CRDT documents, blobs and tokens, over WebSocket and HTTP.
//!
//! [`Server::start`] is the way in; `main.rs` and the tests use nothing else. From the outside in:
//! [`server`] and [`config`] start it; [`http`], [`ws`] and [`collab`] are the edges; [`project`]
//! owns the documents in memory; [`access`], [`blobs`] and [`store`] are what lies below;
//! [`collector`] lets go of what nothing needs any more; [`refusal`] is the one table of statuses and
//! close codes, [`metrics`] what can be measured.

pub mod access;
pub mod ack;
pub mod blobs;
pub mod collab;
pub mod collector;
pub mod config;
pub mod http;
pub mod metrics;
pub mod project;
pub mod refusal;
pub mod server;
pub mod socket;
pub mod store;
pub mod subscriber;
pub mod ws;

pub use config::Config;
pub use server::{Running, Server, StartError};
