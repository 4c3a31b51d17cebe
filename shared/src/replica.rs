//! A replica of one document over yrs. The only module (with its children) that opens a yrs
//! transaction.
//!
//! Must not do: keep a shared type across transactions (yrs references have no lifetime: using one
//! after its document is gone is undefined), call a caller's code inside a transaction (a second
//! one on the same thread deadlocks).
//!
//! Invariants: updates are scanned before yrs decodes them, so nesting, client ids and counts are
//! bounded; a panic inside yrs is caught and poisons the replica, whose owner must then rebuild it
//! from its log.

mod project;
mod text;

use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use yrs::updates::decoder::Decode as _;
use yrs::updates::encoder::Encode as _;
use yrs::{
    Doc, OffsetKind, Options, ReadTxn as _, StateVector, Transact as _, TransactionMut, Update,
};

pub use project::{KeyChange, ProjectApplied, ProjectEdit, ProjectReplica};
pub use text::TextReplica;

use crate::update::{BlockKind, Scan, ScanError, scan};

/// The update that adds nothing, as Yjs encodes it: no blocks, no deletions.
pub const EMPTY_UPDATE: [u8; 2] = [0, 0];

/// The author of edits. Fresh for every process start: an id used by two live processes corrupts
/// the document for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientId(u32);

/// What an update did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// The document's visible or structural state changed.
    pub changed: bool,
    /// Something of it was not known before: it changed the document, or waits for what is missing.
    pub new: bool,
    /// The document waits for updates that this one, or an earlier one, depends on.
    pub missing: bool,
}

/// Why an update or a state vector was not taken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReplicaError {
    /// Its structure is wrong.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// It scans, but yrs cannot read or integrate it.
    #[error("the update does not decode: {0}")]
    Decode(String),
    /// yrs panicked. The replica must be thrown away.
    #[error("applying the update failed inside the CRDT; the replica is no longer usable")]
    Poisoned,
}

/// One document.
pub struct Replica {
    doc: Doc,
    poisoned: AtomicBool,
}

impl ClientId {
    /// Makes an id of 32 random bits, the range Yjs 13 draws from.
    pub fn from_random(bytes: [u8; 4]) -> Self {
        Self(u32::from_le_bytes(bytes))
    }

    /// The id as it stands in updates.
    pub fn get(self) -> u64 {
        self.0.into()
    }
}

impl Replica {
    /// An empty document whose local edits are authored by `client`.
    pub fn new(client: ClientId) -> Self {
        let mut options = Options::with_client_id(yrs::block::ClientID::new(client.get()));
        // Yjs counts in UTF-16 units, and so do our text edits.
        options.offset_kind = OffsetKind::Utf16;
        // A replica never authors a deletion that its owner did not ask for.
        options.cleanup_formatting = false;
        Self {
            doc: Doc::with_options(options),
            poisoned: AtomicBool::new(false),
        }
    }

    /// Merges an update (encoding v1).
    pub fn apply(&self, update: &[u8]) -> Result<Applied, ReplicaError> {
        let scan = scan(update)?;
        self.apply_scanned(update, &scan)
    }

    /// Merges an update that was scanned already.
    pub fn apply_scanned(&self, update: &[u8], scan: &Scan<'_>) -> Result<Applied, ReplicaError> {
        if scan.is_empty() {
            return Ok(Applied {
                changed: false,
                new: false,
                missing: self.misses_updates(),
            });
        }
        let waits = self.reaches_beyond(scan);
        let decoded = self.guarded(|| Update::decode_v1(update))?;
        let decoded = decoded.map_err(|error| ReplicaError::Decode(error.to_string()))?;
        // Dropping a transaction commits it, and a panic while unwinding aborts the process: it is
        // dropped by hand, on the good path only. A poisoned replica leaks its transaction.
        let mut txn = ManuallyDrop::new(self.doc.transact_mut());
        self.guarded(|| txn.apply_update(decoded))?
            .map_err(|error| {
                self.poisoned.store(true, Ordering::Relaxed);
                ReplicaError::Decode(error.to_string())
            })?;
        let (changed, missing) = self.guarded(|| {
            let mut txn: TransactionMut<'_> = ManuallyDrop::into_inner(txn);
            txn.commit();
            let changed = !txn.insert_set().is_empty() || !txn.delete_set().is_empty();
            (changed, txn.has_missing_updates())
        })?;
        Ok(Applied {
            changed,
            new: changed || (missing && waits),
            missing,
        })
    }

    /// The state vector, encoded.
    pub fn state_vector(&self) -> Vec<u8> {
        self.doc.transact().state_vector().encode_v1()
    }

    /// What someone with `state_vector` lacks, as an update, with what waits for missing updates.
    pub fn diff(&self, state_vector: &[u8]) -> Result<Vec<u8>, ReplicaError> {
        crate::update::scan_state_vector(state_vector)?;
        let decoded = self.guarded(|| StateVector::decode_v1(state_vector))?;
        let state_vector = decoded.map_err(|error| ReplicaError::Decode(error.to_string()))?;
        self.guarded(|| self.doc.transact().encode_state_as_update_v1(&state_vector))
    }

    /// The whole document as one update, with what waits for missing updates.
    pub fn state(&self) -> Vec<u8> {
        let txn = self.doc.transact();
        txn.encode_state_as_update_v1(&StateVector::default())
    }

    /// Says up to which clock a client's elements are here now.
    pub fn clocks(&self) -> impl Fn(u64) -> u32 + use<> {
        let known = self.doc.transact().state_vector();
        move |client| known.get(&yrs::block::ClientID::new(client))
    }

    /// Whether updates wait for others that never came.
    pub fn misses_updates(&self) -> bool {
        self.doc.transact().has_missing_updates()
    }

    /// Whether a panic inside yrs made this replica unusable.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Relaxed)
    }

    /// Edits in one transaction and gives the update that says so, or `None` if nothing changed.
    fn edit_with(&self, edit: impl FnOnce(&mut TransactionMut<'_>)) -> Option<Vec<u8>> {
        let mut txn = self.doc.transact_mut();
        edit(&mut txn);
        txn.commit();
        if txn.insert_set().is_empty() && txn.delete_set().is_empty() {
            return None;
        }
        Some(txn.encode_update_v1())
    }

    /// Whether the scanned update names a block or deletes a range that is not here yet.
    fn reaches_beyond(&self, scan: &Scan<'_>) -> bool {
        let clock = self.clocks();
        let block = scan
            .blocks()
            .filter(|block| !matches!(block.kind, BlockKind::Skip))
            .any(|block| block.id.clock + block.len > clock(block.id.client));
        block
            || scan
                .deletes()
                .any(|range| range.start + range.len > clock(range.client))
    }

    /// Runs yrs on a stranger's bytes. A panic becomes an error and poisons the replica.
    fn guarded<T>(&self, run: impl FnOnce() -> T) -> Result<T, ReplicaError> {
        if self.is_poisoned() {
            return Err(ReplicaError::Poisoned);
        }
        catch_unwind(AssertUnwindSafe(run)).map_err(|_| {
            self.poisoned.store(true, Ordering::Relaxed);
            ReplicaError::Poisoned
        })
    }
}
