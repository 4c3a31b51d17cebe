//! The sync server: CRDT documents, blobs and tokens, over WebSocket and HTTP.

pub mod access;
pub mod blobs;
pub mod store;
