//! Minting, checking and revoking tokens.
//!
//! Owns: the cache of live tokens, so that a request does not read the store, and the word that a
//! token was revoked. Invariant: nothing read from the store before a revocation enters the cache
//! after it.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use tokio::sync::broadcast;
use uspark_shared::id::ProjectId;

use super::{Access, Grant, Refusal, Token, TokenId, TokenRecord, TokenScope};
use crate::store::{AuditRecord, CommitError, Committer, Refused, Store, StoreError, Write, read};

/// Live tokens kept in memory: about 300 bytes each, and more than are in use at one time.
const CACHED: NonZeroUsize = NonZeroUsize::new(4096).expect("it is not zero");

/// Revocations that a receiver may fall behind before it must look for itself.
const REVOCATIONS: usize = 1024;

/// The server's tokens. Cheap to clone. Times are ms since 1970, given by the caller.
#[derive(Clone)]
pub struct Tokens {
    store: Arc<dyn Store>,
    committer: Committer,
    shared: Arc<Shared>,
}

struct Shared {
    cache: Mutex<Cache>,
    revoked: broadcast::Sender<TokenId>,
}

struct Cache {
    live: LruCache<TokenId, Arc<TokenRecord>>,
    /// Counts revocations: what was read before one must not be kept after it.
    generation: u64,
}

/// What a new token shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// Where it is valid.
    pub scope: TokenScope,
    /// What it allows there.
    pub access: Access,
    /// From when on it is no longer valid.
    pub expires_at: Option<u64>,
    /// What it is for, in people's words.
    pub name: Option<String>,
}

/// Why a token was not minted, checked or revoked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is not valid.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It was not written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// It could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Tokens {
    /// Serves the tokens of a store.
    pub fn new(store: Arc<dyn Store>, committer: Committer) -> Self {
        let cache = Mutex::new(Cache {
            live: LruCache::new(CACHED),
            generation: 0,
        });
        let shared = Arc::new(Shared {
            cache,
            revoked: broadcast::Sender::new(REVOCATIONS),
        });
        Self {
            store,
            committer,
            shared,
        }
    }

    /// Makes a token; its secret is in the answer and nowhere else.
    ///
    /// `actor` is who asked, for the audit log: a token's id, or `server`.
    pub async fn mint(
        &self,
        new: NewToken,
        actor: &str,
        now: u64,
    ) -> Result<(TokenRecord, Token), TokenError> {
        let token = Token::random();
        let record = self.put(&token, new, actor, now).await?;
        Ok((record, token))
    }

    /// Takes a token that the operator brought. One that is there already stays as it is, and
    /// must be valid and have this secret.
    pub async fn adopt(
        &self,
        token: &Token,
        new: NewToken,
        actor: &str,
        now: u64,
    ) -> Result<Grant, TokenError> {
        match self.put(token, new, actor, now).await {
            Err(TokenError::Commit(CommitError::Refused(Refused::TokenExists(_)))) => {}
            other => drop(other?),
        }
        self.verify_token(token, now).await
    }

    /// What `presented` allows now.
    ///
    /// A socket calls [`Tokens::revoked`] first, so that no revocation falls between the two.
    pub async fn verify(&self, presented: &str, now: u64) -> Result<Grant, TokenError> {
        let token = presented.parse().map_err(|_| Refusal::Unknown)?;
        self.verify_token(&token, now).await
    }

    /// The tokens of one project, or all, by id; revoked and expired ones too.
    pub async fn list(&self, project: Option<&ProjectId>) -> Result<Vec<TokenRecord>, StoreError> {
        let project = project.cloned();
        read(&self.store, move |store| store.tokens(project.as_ref())).await
    }

    /// One token's record.
    pub async fn get(&self, id: &TokenId) -> Result<Option<TokenRecord>, StoreError> {
        let id = id.clone();
        read(&self.store, move |store| store.token(&id)).await
    }

    /// Revokes a token: durable, then out of the cache, then told to every receiver.
    pub async fn revoke(&self, id: &TokenId, actor: &str, now: u64) -> Result<(), TokenError> {
        let record = self.get(id).await?.ok_or(Refusal::Unknown)?;
        let writes = vec![
            Write::RevokeToken {
                id: id.clone(),
                at: now,
            },
            audit("token.revoke", &record, actor, now),
        ];
        self.end(writes, vec![id.clone()], None).await
    }

    /// Deletes a project with all that is stored of it, and revokes its tokens.
    ///
    /// Here, because a token that outlived its project would open the next one of that id.
    pub async fn delete_project(
        &self,
        project: &ProjectId,
        actor: &str,
        now: u64,
    ) -> Result<(), TokenError> {
        let ids = self
            .list(Some(project))
            .await?
            .into_iter()
            .map(|token| token.id)
            .collect();
        let writes = vec![
            Write::DeleteProject(project.clone()),
            Write::Audit(AuditRecord {
                at: now,
                actor: actor.into(),
                action: "project.delete".into(),
                project: Some(project.clone()),
                detail: project.to_string(),
            }),
        ];
        self.end(writes, ids, Some(project.clone())).await
    }

    /// The ids of tokens as they are revoked.
    ///
    /// A receiver that is told it lagged asks [`Tokens::get`] about each token it holds.
    pub fn revoked(&self) -> broadcast::Receiver<TokenId> {
        self.shared.revoked.subscribe()
    }

    async fn put(
        &self,
        token: &Token,
        new: NewToken,
        actor: &str,
        now: u64,
    ) -> Result<TokenRecord, TokenError> {
        let record = TokenRecord {
            id: token.id().clone(),
            scope: new.scope,
            access: new.access,
            digest: token.digest(),
            created_at: now,
            expires_at: new.expires_at,
            revoked_at: None,
            name: new.name,
        };
        let audit = audit("token.mint", &record, actor, now);
        self.committer
            .commit(vec![Write::PutToken(record.clone()), audit])
            .await?;
        Ok(record)
    }

    async fn verify_token(&self, token: &Token, now: u64) -> Result<Grant, TokenError> {
        let digest = token.digest();
        let (cached, generation) = {
            let mut cache = self.shared.cache();
            (cache.live.get(token.id()).cloned(), cache.generation)
        };
        if let Some(record) = TokenRecord::with_secret(cached.as_deref(), &digest) {
            return Ok(record.grant(now)?);
        }
        // A wrong secret of a cached token goes this way too: it takes as long as an unknown one.
        let found = self.get(token.id()).await?;
        let record = TokenRecord::with_secret(found.as_ref(), &digest).ok_or(Refusal::Unknown)?;
        let grant = record.grant(now)?;
        let mut cache = self.shared.cache();
        if cache.generation == generation {
            cache.live.put(record.id.clone(), Arc::new(record.clone()));
        }
        Ok(grant)
    }

    /// Commits what ends tokens, then makes it known.
    ///
    /// In a task of its own: a caller that goes away in between must leave no revoked token in
    /// the cache. The task ends with the commit, at the latest when the committer closes.
    async fn end(
        &self,
        writes: Vec<Write>,
        ids: Vec<TokenId>,
        project: Option<ProjectId>,
    ) -> Result<(), TokenError> {
        let durable = self.committer.submit(writes);
        let shared = Arc::clone(&self.shared);
        let task = tokio::spawn(async move {
            durable.await?;
            shared.forget(ids, project);
            Ok(())
        });
        task.await
            .unwrap_or(Err(CommitError::Closed))
            .map_err(TokenError::Commit)
    }
}

impl Shared {
    fn forget(&self, mut ended: Vec<TokenId>, project: Option<ProjectId>) {
        let mut cache = self.cache();
        cache.generation += 1;
        if let Some(project) = project {
            // Also those that were minted after the list was read.
            let scope = TokenScope::Project(project);
            let of_project = cache.live.iter().filter(|(_, token)| token.scope == scope);
            ended.extend(of_project.map(|(id, _)| id.clone()));
        }
        ended.sort_unstable();
        ended.dedup();
        for id in &ended {
            cache.live.pop(id);
        }
        drop(cache);
        for id in ended {
            // Without a receiver there is no socket to close.
            let _ = self.revoked.send(id);
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn audit(action: &str, token: &TokenRecord, actor: &str, at: u64) -> Write {
    let project = match &token.scope {
        TokenScope::Project(project) => Some(project.clone()),
        TokenScope::Server => None,
    };
    Write::Audit(AuditRecord {
        at,
        actor: actor.into(),
        action: action.into(),
        project,
        detail: format!("{} {}", token.id, token.access),
    })
}

#[cfg(test)]
mod tests;
