//! The seam for large blobs: a directory now, an object store later.

use std::io;
use std::ops::Range;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use uspark_shared::id::BlobHash;

use crate::store::StoreError;

/// Chunks of a blob, in order.
pub type BytesStream = BoxStream<'static, io::Result<Bytes>>;

/// Where large blobs are kept, by hash. Knows nothing of projects.
pub trait LargeBlobs: Send + Sync + 'static {
    /// Begins to receive a blob whose hash is known only at its end.
    fn put(&self) -> BoxFuture<'_, Result<Box<dyn Receiving>, StoreError>>;

    /// Reads a range that lies in the blob; an end before the range's is an error.
    fn get(&self, hash: &BlobHash, range: Range<u64>) -> BoxFuture<'_, io::Result<BytesStream>>;

    /// Tells whether a blob of `size` bytes could be kept now, by trying whether there is room.
    fn check(&self, size: u64) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The size of a blob that is there.
    fn has(&self, hash: &BlobHash) -> BoxFuture<'_, Result<Option<u64>, StoreError>>;

    /// Begins to remove some of the blobs whose hash begins with this byte. `None` if one of them is held,
    /// or somebody outside copies or verifies what is there.
    fn clear(&self, first: u8) -> BoxFuture<'_, Result<Option<Box<dyn Clearing>>, StoreError>>;
}

/// Keeps what was kept from being removed, while nobody may know yet that it is named.
pub type Hold = Box<dyn Send + Sync>;

/// Blobs among which some are to be removed. While it lives none of them can be kept anew.
pub trait Clearing: Send + Sync {
    /// Which there are.
    fn blobs(&self) -> &[BlobHash];

    /// Removes some of them, and says how many. Once begun it goes on though nobody waits for it; a crash
    /// may leave some there.
    fn remove(self: Box<Self>, blobs: Vec<BlobHash>)
    -> BoxFuture<'static, Result<u64, StoreError>>;
}

/// A large blob on its way in. Dropped before it is kept, it leaves nothing.
pub trait Receiving: Send {
    /// Takes the next bytes.
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Makes all that was written durable under `hash`, and holds it there. Over the same blob, it
    /// replaces it by the same bytes.
    fn keep(self: Box<Self>, hash: BlobHash) -> BoxFuture<'static, Result<Hold, StoreError>>;
}
