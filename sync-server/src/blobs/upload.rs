//! One blob on its way in.

use bytes::Bytes;
use uspark_shared::id::{BlobHash, ProjectId};

use super::{BlobBody, BlobError, Blobs, INLINE_BYTES, Progress, Receiving, StoredBlob, Write};

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
        if is_kept(&self.blobs, &self.project, &hash).await? {
            return Ok(Stored {
                hash,
                size,
                created: false,
            });
        }
        let blobs = self.blobs.clone();
        let result = self.keep().await;
        blobs.note(size, Progress::Whole, &result);
        result.map(|()| Stored {
            hash,
            size,
            created: true,
        })
    }

    async fn keep(self) -> Result<(), BlobError> {
        let committer = self.blobs.committer.clone();
        let (_, grant) = self.prepare().await?;
        Ok(committer.commit(vec![grant]).await?)
    }

    pub(super) async fn prepare(self) -> Result<(BlobHash, Write), BlobError> {
        let (hash, size) = (self.hash(), self.size);
        let body = match self.held {
            Held::Memory(bytes) => BlobBody::Inline(bytes.into()),
            Held::Large(large) => {
                large.keep(hash).await?;
                BlobBody::External { size }
            }
        };
        Ok((
            hash,
            Write::PutBlob {
                project: self.project,
                hash,
                body,
            },
        ))
    }

    fn hash(&self) -> BlobHash {
        BlobHash::from_bytes(*self.hasher.finalize().as_bytes())
    }
}

/// Whether this project has the blob, whole. What others have makes no difference, in answer or in
/// time.
///
/// Not a method: a part of an upload may be `Send` only, and then a future must not borrow it.
async fn is_kept(blobs: &Blobs, project: &ProjectId, hash: &BlobHash) -> Result<bool, BlobError> {
    Ok(match blobs.stored(Some(project), hash).await? {
        None => false,
        Some(StoredBlob::Inline(_)) => true,
        Some(StoredBlob::External { size }) => blobs.large.has(hash).await? == Some(size),
    })
}
