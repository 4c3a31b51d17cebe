//! What is known of blobs, remembered: an upload is mostly followed by an entry that names it.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use uspark_shared::id::{BlobHash, ProjectId};
use uspark_shared::text::{MAX_TEXT_BYTES, as_text};

use super::repair::BlobFact;
use crate::blobs::{BlobError, Blobs};

/// Facts that are kept; about 120 bytes each.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(16_384).expect("not zero");

/// Answers whether a project may read a blob, how long it is, and whether it is text.
#[derive(Clone)]
pub struct BlobFacts {
    blobs: Blobs,
    /// Only what may be read: that changes only by [`BlobFacts::forget`], and absent blobs may come.
    known: Arc<Mutex<LruCache<(ProjectId, BlobHash), BlobFact>>>,
}

impl BlobFacts {
    /// Facts about `blobs`.
    pub fn new(blobs: Blobs) -> Self {
        let known = Arc::new(Mutex::new(LruCache::new(REMEMBERED)));
        Self { blobs, known }
    }

    /// Remembers a blob that this project may read, or is about to.
    pub fn learn(&self, project: &ProjectId, hash: BlobHash, bytes: &[u8]) {
        let fact = BlobFact {
            size: bytes.len() as u64,
            is_text: as_text(bytes).is_some(),
        };
        self.remember((project.clone(), hash), fact);
    }

    /// What is known of a blob; `None` if the project may not read it, or there is none.
    ///
    /// Blocks the thread for a read of at most [`MAX_TEXT_BYTES`]; needs a multi-thread runtime.
    pub fn get(&self, project: &ProjectId, hash: &BlobHash) -> Option<BlobFact> {
        let key = (project.clone(), *hash);
        let known = self
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .copied();
        if known.is_some() {
            return known;
        }
        let runtime = tokio::runtime::Handle::current();
        let read = tokio::task::block_in_place(|| runtime.block_on(self.read(project, hash)));
        match read {
            Ok(fact) => {
                if let Some(fact) = fact {
                    self.remember(key, fact);
                }
                fact
            }
            Err(error) => {
                tracing::error!(%project, %hash, %error, "a blob cannot be read");
                None
            }
        }
    }

    /// Forgets blobs that this project may soon read no more.
    pub fn forget(&self, project: &ProjectId, hashes: &[BlobHash]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for hash in hashes {
            known.pop(&(project.clone(), *hash));
        }
    }

    /// Forgets all blobs of a project.
    pub fn forget_project(&self, project: &ProjectId) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let of_project = known.iter().filter(|((of, _), _)| of == project);
        let keys: Vec<_> = of_project.map(|(key, _)| key.clone()).collect();
        for key in keys {
            known.pop(&key);
        }
    }

    fn remember(&self, key: (ProjectId, BlobHash), fact: BlobFact) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.put(key, fact);
    }

    async fn read(
        &self,
        project: &ProjectId,
        hash: &BlobHash,
    ) -> Result<Option<BlobFact>, BlobError> {
        let Some(blob) = self.blobs.open(Some(project), hash).await? else {
            return Ok(None);
        };
        let size = blob.size;
        let is_text = size <= MAX_TEXT_BYTES as u64 && {
            let bytes = blob.read_all().await.map_err(|_| BlobError::Lost(*hash))?;
            as_text(&bytes).is_some()
        };
        Ok(Some(BlobFact { size, is_text }))
    }
}
