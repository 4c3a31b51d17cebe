//! The store in one SQLite database: the embedded default.
//!
//! Owns: the database file and its connections. One connection writes, and is used by the
//! committer alone; a few others read beside it (WAL: neither waits for the other).
//!
//! What a crash may still lose: nothing that was reported as committed (`synchronous=FULL` syncs
//! the log at every commit). A batch cut in the middle is not there at all. A compaction is one
//! transaction: before it there are the updates, after it the snapshot.
#![allow(
    clippy::disallowed_methods,
    reason = "this module owns the database file"
)]

mod copy;
mod events;
mod log;
mod reads;
mod schema;
mod snapshot;
mod upkeep;
mod writes;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use rusqlite::{Connection, ErrorCode, TransactionBehavior, ffi};
use uspark_shared::id::{BlobHash, DocId, DocumentName, ProjectId};

use super::{
    AuditRecord, DataDirectory, Doubtful, EventPage, OriginSpan, Outcome, ProjectRecord, Reader,
    SettledVersion, Spent, Store, StoreError, StoredBlob, StoredDocument, TextRecord, Write,
};
use crate::access::{TokenId, TokenRecord};

pub(super) use copy::copy;
pub(super) use snapshot::{Seed, Snapshot};

/// Connections that read: loads are short, and more would only contend for two to eight cores.
const READERS: usize = 4;

/// Documents, projects, texts, small blobs, tokens and audit in SQLite.
#[derive(Debug)]
pub struct SqliteStore {
    epoch: String,
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: [Mutex<Connection>; READERS],
    /// Where the next read begins to look for a free connection.
    next_reader: AtomicUsize,
    /// Closed, and so unlocked, after the connections.
    _directory: DataDirectory,
}

impl SqliteStore {
    /// Opens the database of a data directory, or makes it.
    pub fn open(directory: &DataDirectory) -> Result<Self, StoreError> {
        let path = directory.database();
        schema::create_if_absent(&path)?;
        let failed = |error| store_error(&path, &error);
        let writer = schema::open_writer(&path)?;
        let reader = || schema::open_reader(&path).map(Mutex::new).map_err(failed);
        Ok(Self {
            epoch: reads::epoch(&writer).map_err(failed)?,
            readers: [reader()?, reader()?, reader()?, reader()?],
            writer: Mutex::new(writer),
            next_reader: AtomicUsize::new(0),
            _directory: directory.clone(),
            path,
        })
    }

    fn read<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        query(&self.reader()).map_err(|error| store_error(&self.path, &error))
    }

    /// A free connection if there is one, else waits for the next in turn.
    fn reader(&self) -> MutexGuard<'_, Connection> {
        let first = self.next_reader.fetch_add(1, Ordering::Relaxed);
        for turn in 0..READERS {
            match self.readers[first.wrapping_add(turn) % READERS].try_lock() {
                Ok(reader) => return reader,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        lock(&self.readers[first % READERS])
    }

    fn commit_batch(&self, batch: &[Vec<Write>]) -> rusqlite::Result<Vec<Outcome>> {
        let mut writer = lock(&self.writer);
        let mut transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut outcomes = Vec::with_capacity(batch.len());
        for group in batch {
            // Dropped without its commit, a savepoint takes back what the group did.
            let savepoint = transaction.savepoint()?;
            let outcome = writes::apply_group(&savepoint, group)?;
            if outcome.is_ok() {
                savepoint.commit()?;
            }
            outcomes.push(outcome);
        }
        transaction.commit()?;
        Ok(outcomes)
    }
}

impl Store for SqliteStore {
    fn commit(&self, batch: &[Vec<Write>]) -> Result<Vec<Outcome>, StoreError> {
        self.commit_batch(batch)
            .map_err(|error| store_error(&self.path, &error))
    }

    fn epoch(&self) -> &str {
        &self.epoch
    }

    fn project(&self, id: &ProjectId) -> Result<Option<ProjectRecord>, StoreError> {
        self.read(|db| reads::project(db, id))
    }

    fn projects(
        &self,
        after: Option<&ProjectId>,
        limit: usize,
    ) -> Result<Vec<ProjectRecord>, StoreError> {
        self.read(|db| reads::projects(db, after, limit))
    }

    fn load(&self, name: &DocumentName) -> Result<StoredDocument, StoreError> {
        self.read(|db| log::load(db, name))
    }

    fn origins(&self, name: &DocumentName, limit: usize) -> Result<Vec<OriginSpan>, StoreError> {
        self.read(|db| log::origins(db, name, limit))
    }

    fn text(&self, project: &ProjectId, doc: &DocId) -> Result<Option<TextRecord>, StoreError> {
        self.read(|db| reads::text(db, project, doc))
    }

    fn texts(
        &self,
        project: &ProjectId,
    ) -> Result<Vec<(TextRecord, Option<SettledVersion>)>, StoreError> {
        self.read(|db| reads::texts(db, project))
    }

    fn settled(
        &self,
        project: &ProjectId,
        doc: &DocId,
        limit: usize,
    ) -> Result<Vec<(u64, SettledVersion)>, StoreError> {
        self.read(|db| reads::settled(db, project, doc, limit))
    }

    fn unsettled(&self, project: &ProjectId) -> Result<Vec<DocId>, StoreError> {
        self.read(|db| reads::unsettled(db, project))
    }

    fn blob(&self, hash: &BlobHash, reader: Reader<'_>) -> Result<Option<StoredBlob>, StoreError> {
        self.read(|db| reads::blob(db, hash, reader))
    }

    fn absent(
        &self,
        project: &ProjectId,
        hashes: &[BlobHash],
    ) -> Result<Vec<BlobHash>, StoreError> {
        self.read(|db| reads::absent(db, project, hashes))
    }

    fn token(&self, id: &TokenId) -> Result<Option<TokenRecord>, StoreError> {
        self.read(|db| reads::token(db, id))
    }

    fn tokens(&self, project: Option<&ProjectId>) -> Result<Vec<TokenRecord>, StoreError> {
        self.read(|db| reads::tokens(db, project))
    }

    fn audit(&self, after: u64, limit: usize) -> Result<Vec<(u64, AuditRecord)>, StoreError> {
        self.read(|db| reads::audit(db, after, limit))
    }

    fn events(
        &self,
        project: &ProjectId,
        after: u64,
        limit: usize,
    ) -> Result<Option<EventPage>, StoreError> {
        self.read(|db| events::page(db, project, after, limit))
    }

    fn doubtful_blobs(
        &self,
        project: &ProjectId,
        spent: Spent,
        limit: usize,
    ) -> Result<Vec<Doubtful>, StoreError> {
        self.read(|db| upkeep::doubtful_blobs(db, project, spent, limit))
    }

    fn texts_deleted(
        &self,
        project: &ProjectId,
        before: u64,
        limit: usize,
    ) -> Result<Vec<DocId>, StoreError> {
        self.read(|db| upkeep::texts_deleted(db, project, before, limit))
    }

    fn crowded_versions(
        &self,
        project: &ProjectId,
        before: u64,
        limit: usize,
    ) -> Result<Vec<(DocId, u64)>, StoreError> {
        self.read(|db| upkeep::crowded_versions(db, project, before, limit))
    }

    fn blobs_of_nobody(&self, limit: usize) -> Result<Vec<(BlobHash, u64)>, StoreError> {
        self.read(|db| upkeep::blobs_of_nobody(db, limit))
    }
}

/// A connection has no state of ours that a panic could leave half-changed.
fn lock(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

/// SQLite has no larger integers than this.
fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn store_error(path: &std::path::Path, error: &rusqlite::Error) -> StoreError {
    let (place, detail) = (path.display().to_string(), error.to_string());
    let Some(failure) = error.sqlite_error() else {
        // A row that is not what was written: the file was changed by something else.
        return StoreError::Corrupt { place, detail };
    };
    match (failure.code, failure.extended_code) {
        // Growing the log's index fails with its own code on a full disk.
        (ErrorCode::DiskFull, _) | (_, ffi::SQLITE_IOERR_SHMSIZE) => StoreError::Full { place },
        (ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen, _) => {
            StoreError::ReadOnly { place, detail }
        }
        (ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, _) => {
            StoreError::Corrupt { place, detail }
        }
        _ => StoreError::Failed { place, detail },
    }
}

#[cfg(test)]
mod tests;
