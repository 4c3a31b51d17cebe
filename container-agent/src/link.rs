//! The way to the server: one socket to `/collab` for documents, HTTP for blobs.
//!
//! Owns: [`Server`], the seam at which tests put a server of their own; connecting again and
//! again; keeping the socket alive. Must not do: know documents, decide what to send, or remember
//! anything: a new connection starts from nothing.
//!
//! Invariants: the caller never waits for the network. What is sent goes into a bounded queue;
//! when that is full the connection is given up, because a gap could not be told from silence,
//! while a new connection exchanges state vectors.

mod remote;
mod task;

use std::fs::File;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tokio::sync::mpsc;
use uspark_shared::id::BlobHash;

pub use remote::RemoteServer;
pub use task::keep_connected;

/// Frames that wait to be written at most. The engine keeps far fewer unacknowledged.
pub const MAX_WAITING_FRAMES: usize = 1024;

/// A server, as far as the engine needs one.
pub trait Server: Send + Sync + 'static {
    /// Opens a socket to `/collab`.
    fn connect(&self) -> BoxFuture<'_, Result<Connection, String>>;
    /// Stores a blob. Durable when this returns; gives the hash of the bytes that arrived.
    fn upload(&self, upload: Upload) -> BoxFuture<'_, Result<BlobHash, BlobError>>;
    /// Fetches a blob, piece by piece. The caller checks the hash.
    fn download(&self, hash: BlobHash) -> BoxFuture<'_, Result<BlobStream, BlobError>>;
}

/// A blob as it arrives.
pub type BlobStream = BoxStream<'static, Result<Bytes, BlobError>>;

/// An open socket: one frame per message, both ways. It is closed when either half is dropped.
pub struct Connection {
    /// Frames to the server.
    pub outgoing: mpsc::Sender<Vec<u8>>,
    /// Frames from the server; an error or the end is the end of the socket.
    pub incoming: mpsc::Receiver<Result<Vec<u8>, String>>,
}

/// A blob to be stored.
#[derive(Debug)]
pub struct Upload {
    /// What its bytes hash to, as far as is known.
    pub hash: BlobHash,
    /// How many they are.
    pub size: u64,
    /// The bytes.
    pub content: UploadContent,
}

/// Where the bytes of a blob come from.
#[derive(Debug)]
pub enum UploadContent {
    /// Memory.
    Bytes(Bytes),
    /// An open file, from where it stands.
    File(File),
}

/// Why a blob did not travel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// The server is away or cannot now.
    #[error("{0}")]
    Passing(String),
    /// The project has no such blob, yet.
    #[error("the server has no blob {0} for this project")]
    Missing(BlobHash),
    /// The server will not, whenever it is asked.
    #[error("{0}")]
    Refused(String),
}

/// What happens on the way to the server.
pub enum LinkEvent {
    /// A new socket is open. What was sent on an earlier one may or may not have arrived.
    Up(mpsc::Sender<Vec<u8>>),
    /// A frame came.
    Frame(Vec<u8>),
    /// The socket is gone, or could not be opened; it is tried again.
    Down(String),
}
