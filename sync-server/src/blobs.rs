//! Blobs: immutable bytes, named by their BLAKE3 hash.
//!
//! Owns: receiving, checking, keeping and reading them, and the line between small ones (in the
//! store) and large ones (behind the seam [`LargeBlobs`]). Must not do: decide who a reader is.
//!
//! Invariants:
//! - A project reads a blob only if its bytes were uploaded to it or settled in it. Unknown and
//!   forbidden answer alike, and an upload takes the same way whether or not another project has
//!   the same bytes.
//! - A blob that was answered as stored is durable: its bytes first, then the right to read it.
//! - A body that stops early, is too large or has another hash stores nothing.
//! - Bytes that were answered as stored stay for the grace period, and then as long as anything names
//!   them. Before it is said that bytes are there, their date is renewed.
//!
//! What a crash may leave behind: a large blob that the store does not name (its bytes were synced,
//! its grant was not; or the name is gone already), which [`Blobs::sweep`] removes, and temporary
//! files, removed at start. What it may lose: nothing that was answered as stored.

mod large;
mod upload;

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, future, stream};
use uspark_shared::id::{BlobHash, ProjectId};

use crate::store::{
    BlobBody, CommitError, Committer, Reader, Refused as RefusedWrite, Store, StoreError,
    StoredBlob, Upkeep, Write, read,
};

pub use large::{BytesStream, Clearing, Hold, LargeBlobs, Receiving};
pub use upload::{Stored, Upload};

/// Largest blob kept in the store, in bytes.
///
/// Up to here a row costs less than a file of its own with its three syncs, and a read is one
/// query; above, copying it through the log and its checkpoint costs more.
pub const INLINE_BYTES: usize = 64 << 10;
/// Room that is tried for after a blob was refused, at most, in bytes: one upload of gigabytes that
/// does not fit is no trouble of everybody's.
const MOST_TRIED: u64 = 16 << 20;

/// What an operator may want to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobLimits {
    /// Largest blob, in bytes.
    pub max_bytes: u64,
}

impl Default for BlobLimits {
    /// 5 GiB: any file that is of use in a workspace.
    fn default() -> Self {
        Self { max_bytes: 5 << 30 }
    }
}

/// Why a blob was not stored, or not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// It is larger than the server takes.
    #[error("the blob is larger than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The body is not as long as was announced.
    #[error("{announced} bytes were announced, {received} came")]
    WrongSize {
        /// What was announced.
        announced: u64,
        /// What came.
        received: u64,
    },
    /// The body is not what was announced.
    #[error("hash {announced} was announced, the body has {received}")]
    WrongHash {
        /// What was announced.
        announced: BlobHash,
        /// What came.
        received: BlobHash,
    },
    /// The store names bytes that are gone or cut.
    #[error("the bytes of blob {0} are missing or cut in the server's storage")]
    Lost(BlobHash),
    /// The store or the place of large blobs failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bytes were kept, the right to read them was not.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// The server's blobs. Cheap to clone.
#[derive(Clone)]
pub struct Blobs {
    store: Arc<dyn Store>,
    committer: Committer,
    large: Arc<dyn LargeBlobs>,
    limits: BlobLimits,
    /// Milliseconds since 1970.
    clock: fn() -> u64,
    refused: Arc<Mutex<Refused>>,
    /// Held while room is tried for: many at once would fill the disk themselves.
    trying: Arc<tokio::sync::Mutex<()>>,
}

/// What the storage did not take.
#[derive(Default)]
struct Refused {
    /// The size of the largest, if none so large was kept since.
    size: Option<u64>,
    /// How often that happened.
    times: u64,
}

/// How much of a blob on its way in was dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Partial,
    Whole,
}

/// A blob that its reader may read.
#[derive(Clone)]
pub struct Blob {
    /// Its size in bytes.
    pub size: u64,
    body: Body,
}

#[derive(Clone)]
enum Body {
    Inline(Bytes),
    Large {
        hash: BlobHash,
        from: Arc<dyn LargeBlobs>,
    },
}

impl Blobs {
    /// Keeps small blobs in `store` and large ones in `large`.
    pub fn new(
        store: Arc<dyn Store>,
        committer: Committer,
        large: Arc<dyn LargeBlobs>,
        limits: BlobLimits,
        clock: fn() -> u64,
    ) -> Self {
        Self {
            store,
            committer,
            large,
            limits,
            clock,
            refused: Arc::default(),
            trying: Arc::default(),
        }
    }

    /// Tells whether blobs can be kept; after a failure, by trying whether there is room.
    pub async fn check(&self) -> Result<(), StoreError> {
        let _trying = self.trying.lock().await;
        let (size, times) = {
            let refused = self.refused();
            (refused.size, refused.times)
        };
        let Some(size) = size else {
            return Ok(());
        };
        self.large.check(size.min(MOST_TRIED)).await?;
        let mut refused = self.refused();
        // Unless another was refused meanwhile.
        if refused.times == times {
            refused.size = None;
        }
        Ok(())
    }

    /// Notes what became of `size` bytes on their way in.
    fn note<T>(&self, size: u64, progress: Progress, result: &Result<T, BlobError>) {
        let mut refused = self.refused();
        match result {
            Ok(_) if progress == Progress::Whole && refused.size <= Some(size) => {
                refused.size = None;
            }
            Err(BlobError::Store(_) | BlobError::Commit(CommitError::Failed(_))) => {
                refused.size = refused.size.max(Some(size));
                refused.times += 1;
            }
            _ => {}
        }
    }

    fn refused(&self) -> MutexGuard<'_, Refused> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to receive a blob for `project`. Dropped unfinished, it leaves nothing.
    pub fn upload(&self, project: &ProjectId) -> Upload {
        Upload::new(self.clone(), project.clone())
    }

    /// Stores a blob that is in memory.
    pub async fn put(&self, project: &ProjectId, bytes: Bytes) -> Result<Stored, BlobError> {
        let mut upload = self.upload(project);
        upload.write(bytes).await?;
        upload.finish(None, None).await
    }

    /// Whether the project has the blob, whole; if so it is as if it had been uploaded now, and whoever
    /// asks need not send it. What others have makes no difference, in answer or in time.
    pub async fn renew(&self, project: &ProjectId, hash: &BlobHash) -> Result<bool, BlobError> {
        let Some(stored) = self.stored(Some(project), hash).await? else {
            return Ok(false);
        };
        // From then on it stays.
        let renewed = Upkeep::RenewBlob {
            project: project.clone(),
            hash: *hash,
            at: (self.clock)(),
        };
        match self.committer.commit(vec![Write::Upkeep(renewed)]).await {
            Err(CommitError::Refused(RefusedWrite::NoSuchBlob(_))) => return Ok(false),
            renewed => renewed?,
        }
        Ok(match stored {
            StoredBlob::Inline(_) => true,
            StoredBlob::External { size } => self.large.has(hash).await? == Some(size),
        })
    }

    /// Removes the bytes of large blobs that the store does not name. Gives how many it removed, and
    /// whether it looked at all: not at those that somebody keeps or copies right now.
    pub async fn sweep(&self) -> Result<(u64, bool), StoreError> {
        let (mut removed, mut all) = (0, true);
        for first in 0..=u8::MAX {
            let Some(clearing) = self.large.clear(first).await? else {
                all = false;
                continue;
            };
            let mut unnamed = Vec::new();
            for hash in clearing.blobs() {
                let stored = self.stored(None, hash).await?;
                if !matches!(stored, Some(StoredBlob::External { .. })) {
                    unnamed.push(*hash);
                }
            }
            if !unnamed.is_empty() {
                removed += clearing.remove(unnamed).await?;
            }
        }
        Ok((removed, all))
    }

    /// Whether `project` may read the blob, or without one: whether it is there.
    pub async fn has(
        &self,
        project: Option<&ProjectId>,
        hash: &BlobHash,
    ) -> Result<bool, StoreError> {
        Ok(self.stored(project, hash).await?.is_some())
    }

    /// Opens a blob on behalf of `project`, or without one on behalf of the server's own admin.
    ///
    /// Unknown and forbidden are both `None`.
    pub async fn open(
        &self,
        project: Option<&ProjectId>,
        hash: &BlobHash,
    ) -> Result<Option<Blob>, BlobError> {
        Ok(match self.stored(project, hash).await? {
            None => None,
            Some(StoredBlob::Inline(bytes)) => Some(Blob {
                size: bytes.len() as u64,
                body: Body::Inline(bytes),
            }),
            Some(StoredBlob::External { size }) => {
                if self.large.has(hash).await? != Some(size) {
                    return Err(BlobError::Lost(*hash));
                }
                let from = Arc::clone(&self.large);
                Some(Blob {
                    size,
                    body: Body::Large { hash: *hash, from },
                })
            }
        })
    }

    async fn stored(
        &self,
        project: Option<&ProjectId>,
        hash: &BlobHash,
    ) -> Result<Option<StoredBlob>, StoreError> {
        let (project, hash) = (project.cloned(), *hash);
        read(&self.store, move |store| {
            store.blob(&hash, project.as_ref().map_or(Reader::Any, Reader::Project))
        })
        .await
    }
}

impl Blob {
    /// Reads a range, cut to the blob's end, in chunks of at most 128 KiB.
    pub fn read(
        &self,
        range: Range<u64>,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static + use<> {
        let end = range.end.min(self.size);
        let range = range.start.min(end)..end;
        match self.body.clone() {
            Body::Inline(bytes) => {
                let part = bytes.slice(range.start as usize..range.end as usize);
                stream::once(future::ready(Ok(part))).boxed()
            }
            Body::Large { hash, from } => {
                let opened = async move { from.get(&hash, range).await };
                stream::once(opened).try_flatten().boxed()
            }
        }
    }

    /// Reads all of it into memory: for what is known to be small enough.
    pub async fn read_all(&self) -> io::Result<Bytes> {
        if let Body::Inline(bytes) = &self.body {
            return Ok(bytes.clone());
        }
        let mut all = BytesMut::with_capacity(usize::try_from(self.size).unwrap_or(0));
        let mut chunks = std::pin::pin!(self.read(0..self.size));
        while let Some(chunk) = chunks.try_next().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }
}

#[cfg(test)]
mod tests;
