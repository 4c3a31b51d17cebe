//! The seam behind which everything durable lies, except the bytes of large blobs.
//!
//! Owns: the [`Store`] trait in the server's own verbs, its records and errors, and the
//! [`committer`] through which all writes pass. Must not do: read a clock, draw ids, interpret an
//! update, decide who may do what.
//!
//! Invariants:
//! - A group of writes is atomic: all of it is durable, or none of it has any effect.
//! - A refused group harms no other group, and so no other document.
//! - What [`Store::commit`] reported as done survives kill -9 and a power cut.
//! - Nothing above this module knows SQLite, a path, or that there is one process.
//! - The numbers of a project's events only grow, without a gap, and none is given twice.

mod backup;
mod check;
pub mod committer;
#[cfg(test)]
mod contract;
mod directory;
mod files;
mod memory;
mod news;
mod records;
mod sqlite;
#[doc(hidden)]
pub mod testing;
mod upkeep;

use std::sync::Arc;

use uspark_shared::id::{BlobHash, DocId, DocumentName, ProjectId};

use crate::access::{TokenId, TokenRecord};

pub use backup::{BackupError, backup};
pub use check::{Findings, Problem, Progress, check};
pub use committer::{CommitError, Committer};
pub(crate) use directory::ADMIN_TOKEN;
pub use directory::DataDirectory;
pub use files::BlobFiles;
pub use memory::MemoryStore;
pub use news::News;
pub use records::{
    AuditRecord, BlobBody, EventPage, EventRecord, FileKind, FileState, Happening, Origin,
    OriginSpan, ProjectRecord, Reader, RunLines, SettledVersion, StoredBlob, StoredDocument,
    TextRecord, Write,
};
pub use sqlite::SqliteStore;
pub use upkeep::{DAY, Doubtful, Spent, Upkeep};

/// Where documents, projects, texts, small blobs, tokens and the audit log are kept.
///
/// All calls block: on the async side, writes go through the [`Committer`] and reads through
/// [`read`]. Limits count rows; what a page does not hold comes with the next call.
pub trait Store: Send + Sync + 'static {
    /// Makes a batch durable: each inner vector is one caller's group, applied in order.
    ///
    /// Answers one [`Outcome`] for each group, in order. A refused group has no effect and
    /// harms no other. On `Err` no group is to be taken for durable, though after a failing disk
    /// some may turn out to be there: whoever wrote must load again. An empty group in the batch
    /// still makes the store write, so that it can be used as a probe.
    fn commit(&self, batch: &[Vec<Write>]) -> Result<Vec<Outcome>, StoreError>;

    /// The epoch: drawn at random when the store was first made, and again when a backup of it is first
    /// opened. Never changed otherwise.
    fn epoch(&self) -> &str;

    /// One project.
    fn project(&self, id: &ProjectId) -> Result<Option<ProjectRecord>, StoreError>;

    /// Projects by id, those after `after`.
    fn projects(
        &self,
        after: Option<&ProjectId>,
        limit: usize,
    ) -> Result<Vec<ProjectRecord>, StoreError>;

    /// All that is stored of a document; an unknown one is empty.
    fn load(&self, name: &DocumentName) -> Result<StoredDocument, StoreError>;

    /// Who wrote which updates of a document, newest first.
    fn origins(&self, name: &DocumentName, limit: usize) -> Result<Vec<OriginSpan>, StoreError>;

    /// One text document's record.
    fn text(&self, project: &ProjectId, doc: &DocId) -> Result<Option<TextRecord>, StoreError>;

    /// Every text document of a project by id, with its newest settled version.
    fn texts(
        &self,
        project: &ProjectId,
    ) -> Result<Vec<(TextRecord, Option<SettledVersion>)>, StoreError>;

    /// A text's settled versions with the project's `seq` of each, newest first.
    fn settled(
        &self,
        project: &ProjectId,
        doc: &DocId,
        limit: usize,
    ) -> Result<Vec<(u64, SettledVersion)>, StoreError>;

    /// Texts with updates that no settled version holds, by id.
    fn unsettled(&self, project: &ProjectId) -> Result<Vec<DocId>, StoreError>;

    /// A blob, if `reader` may read it; unknown and forbidden answer alike.
    fn blob(&self, hash: &BlobHash, reader: Reader<'_>) -> Result<Option<StoredBlob>, StoreError>;

    /// Those of `hashes` that name no blob which the project may read.
    fn absent(&self, project: &ProjectId, hashes: &[BlobHash])
    -> Result<Vec<BlobHash>, StoreError>;

    /// One token, revoked and expired ones too.
    fn token(&self, id: &TokenId) -> Result<Option<TokenRecord>, StoreError>;

    /// The tokens of one project, or all of the server, by id.
    fn tokens(&self, project: Option<&ProjectId>) -> Result<Vec<TokenRecord>, StoreError>;

    /// The audit log in order, each record with its number, those after number `after`.
    fn audit(&self, after: u64, limit: usize) -> Result<Vec<(u64, AuditRecord)>, StoreError>;

    /// A project's events after number `after`; `None` if there is no such project.
    ///
    /// At most `limit`, and no more once those on the page have [`EVENT_PAGE_BYTES`].
    fn events(
        &self,
        project: &ProjectId,
        after: u64,
        limit: usize,
    ) -> Result<Option<EventPage>, StoreError>;

    /// Blobs of a project that are spent, and that nothing is known to name ([`Upkeep::KeepBlobs`]).
    fn doubtful_blobs(
        &self,
        project: &ProjectId,
        spent: Spent,
        limit: usize,
    ) -> Result<Vec<Doubtful>, StoreError>;

    /// Texts of a project without a path since before a date.
    fn texts_deleted(
        &self,
        project: &ProjectId,
        before: u64,
        limit: usize,
    ) -> Result<Vec<DocId>, StoreError>;

    /// Settled versions from before a date that are not the last of their text and day, each with
    /// the project's place, for [`Upkeep::ForgetVersions`].
    fn crowded_versions(
        &self,
        project: &ProjectId,
        before: u64,
        limit: usize,
    ) -> Result<Vec<(DocId, u64)>, StoreError>;

    /// Blobs that no project may read, each with its bytes.
    fn blobs_of_nobody(&self, limit: usize) -> Result<Vec<(BlobHash, u64)>, StoreError>;
}

/// Bytes of events from which on a page is full. One that begins below it is on the page: the
/// longest is a line of a run.
pub const EVENT_PAGE_BYTES: usize = 256 << 10;

/// What became of one group in a batch that was committed.
pub type Outcome = Result<(), Refused>;

/// Why a group of writes had no effect, though the store is well.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Another owner of the document has written at this place: this one is stale.
    #[error("update {seq} of document `{name}` was written by another owner")]
    SequenceTaken {
        /// The document.
        name: DocumentName,
        /// The place that was taken.
        seq: u64,
    },
    /// The project does not exist, or no longer.
    #[error("there is no project `{0}`")]
    NoSuchProject(ProjectId),
    /// A project of this id exists.
    #[error("there is a project `{0}` already")]
    ProjectExists(ProjectId),
    /// The project has no such blob.
    #[error("there is no blob `{0}`")]
    NoSuchBlob(BlobHash),
    /// The token does not exist.
    #[error("there is no token `{0}`")]
    NoSuchToken(TokenId),
    /// A token of this id exists; tokens are never changed, only revoked.
    #[error("there is a token `{0}` already")]
    TokenExists(TokenId),
    /// Lines of a run come without those before them.
    #[error("the run's next line is number {next}")]
    LinesMissing {
        /// The number of the first that is missing.
        next: u64,
    },
}

/// What is wrong with the store itself. `place` names the file or directory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No room: nothing of what was being written is kept.
    #[error("no space left to write {place}")]
    Full {
        /// What could not be written.
        place: String,
    },
    /// It may be read at most.
    #[error("{place} cannot be written: {detail}")]
    ReadOnly {
        /// What could not be written.
        place: String,
        /// The system's words.
        detail: String,
    },
    /// It is damaged, or not ours.
    #[error("{place} is damaged or no data of uspark: {detail}")]
    Corrupt {
        /// What is damaged.
        place: String,
        /// What was found.
        detail: String,
    },
    /// A newer version of the server wrote it.
    #[error("{place} has format {found}, this server knows formats up to {known}")]
    Newer {
        /// The database.
        place: String,
        /// Its format.
        found: i64,
        /// The newest one known here.
        known: i64,
    },
    /// Another server works on it.
    #[error("{place} is in use by another sync-server")]
    InUse {
        /// The data directory.
        place: String,
    },
    /// No server ever worked there.
    #[error("{place} is no data directory of a sync-server")]
    NoData {
        /// What was named.
        place: String,
    },
    /// It is no directory.
    #[error("{place} is no directory, and none can be made there")]
    NoDirectory {
        /// What is there, or lies below what is there.
        place: String,
    },
    /// Anything else the system said.
    #[error("{place}: {detail}")]
    Failed {
        /// What was being read or written.
        place: String,
        /// The system's words.
        detail: String,
    },
}

impl StoreError {
    /// What an operator can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Full { .. } => Some("free some space: a running server goes on by itself"),
            Self::ReadOnly { .. } => {
                Some("give the server's user write access, or choose another place with --data")
            }
            Self::Corrupt { .. } => {
                Some("keep a copy, then restore the data directory from a backup")
            }
            Self::Newer { .. } => Some("start the version of sync-server that wrote it"),
            Self::InUse { .. } => {
                Some("stop the other server, or choose another place with --data")
            }
            Self::NoData { .. } => Some("name the directory that the server works on with --data"),
            Self::NoDirectory { .. } => Some("name a directory with --data, or one to be made"),
            Self::Failed { .. } => None,
        }
    }

    /// Says what went wrong with a file or directory.
    pub(crate) fn io(place: impl std::fmt::Display, error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        let (place, detail) = (place.to_string(), error.to_string());
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full { place },
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                Self::ReadOnly { place, detail }
            }
            _ => Self::Failed { place, detail },
        }
    }
}

/// Runs a blocking read of the store off the async threads.
pub async fn read<T, F>(store: &Arc<dyn Store>, query: F) -> Result<T, StoreError>
where
    T: Send + 'static,
    F: FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
{
    let store = Arc::clone(store);
    let task = tokio::task::spawn_blocking(move || query(&*store));
    task.await.unwrap_or_else(|error| {
        Err(StoreError::Failed {
            place: "a read of the store".into(),
            detail: error.to_string(),
        })
    })
}
