//! One blob on its way in.

use bytes::Bytes;
use uspark_shared::id::{BlobHash, ProjectId};

use super::{BlobBody, BlobError, Blobs, INLINE_BYTES, Progress, Receiving, StoreError, Write};

/// A blob that is being received: hashed as it comes, in memory until it outgrows
/// [`INLINE_BYTES`], and kept by nobody until it is finished.
#[must_use = "an upload that is not finished stores nothing"]
pub struct Upload {
    blobs: Blobs,
    project: ProjectId,
    hasher: blake3::Hasher,
    size: u64,
    held: Held,
}

enum Held {
    Memory(Vec<u8>),
    Large(Box<dyn Receiving>),
}

/// A blob that is durable, and that its project may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its name.
    pub hash: BlobHash,
    /// Its size in bytes.
    pub size: u64,
    /// Whether it is new to this project. It may not be new to the server: that is not told.
    pub created: bool,
}

impl Upload {
    pub(super) fn new(blobs: Blobs, project: ProjectId) -> Self {
        let held = Held::Memory(Vec::new());
        Self {
            blobs,
            project,
            hasher: blake3::Hasher::new(),
            size: 0,
            held,
        }
    }

    /// Takes the next bytes. After an error the upload can only be dropped.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        let result = self.take(bytes).await;
        self.blobs.note(self.size, Progress::Partial, &result);
        result
    }

    async fn take(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        let limit = self.blobs.limits.max_bytes;
        self.size += bytes.len() as u64;
        if self.size > limit {
            return Err(BlobError::TooLarge { limit });
        }
        self.hasher.update(&bytes);
        match &mut self.held {
            Held::Memory(memory) if memory.len() + bytes.len() <= INLINE_BYTES => {
                memory.extend_from_slice(&bytes);
            }
            Held::Memory(memory) => {
                let mut large = self.blobs.large.put().await?;
                large.write(std::mem::take(memory).into()).await?;
                large.write(bytes).await?;
                self.held = Held::Large(large);
            }
            Held::Large(large) => large.write(bytes).await?,
        }
        Ok(())
    }

    /// Checks what came against what was announced, makes it durable and grants it.
    pub async fn finish(
        self,
        announced_hash: Option<BlobHash>,
        announced_size: Option<u64>,
    ) -> Result<Stored, BlobError> {
        let (hash, size) = (self.hash(), self.size);
        if let Some(announced) = announced_size.filter(|&announced| announced != size) {
            return Err(BlobError::WrongSize {
                announced,
                received: size,
            });
        }
        if let Some(announced) = announced_hash.filter(|&announced| announced != hash) {
            return Err(BlobError::WrongHash {
                announced,
                received: hash,
            });
        }
        // Not a borrow of `self`: a part of an upload may be `Send` only.
        let (blobs, project) = (self.blobs.clone(), self.project.clone());
        if blobs.renew(&project, &hash).await? {
            return Ok(Stored {
                hash,
                size,
                created: false,
            });
        }
        // Whoever waits for it may go away: a file stays held until it is known to be named.
        let kept = tokio::spawn(self.keep(hash)).await;
        let result = kept.unwrap_or_else(|error| {
            Err(BlobError::Store(StoreError::Failed {
                place: format!("blob {hash}"),
                detail: error.to_string(),
            }))
        });
        blobs.note(size, Progress::Whole, &result);
        result.map(|()| Stored {
            hash,
            size,
            created: true,
        })
    }

    async fn keep(self, hash: BlobHash) -> Result<(), BlobError> {
        let (body, _held) = match self.held {
            Held::Memory(bytes) => (BlobBody::Inline(bytes.into()), None),
            Held::Large(large) => {
                let held = large.keep(hash).await?;
                (BlobBody::External { size: self.size }, Some(held))
            }
        };
        let grant = Write::PutBlob {
            project: self.project,
            hash,
            body,
            at: (self.blobs.clock)(),
        };
        Ok(self.blobs.committer.commit(vec![grant]).await?)
    }

    fn hash(&self) -> BlobHash {
        BlobHash::from_bytes(*self.hasher.finalize().as_bytes())
    }
}
