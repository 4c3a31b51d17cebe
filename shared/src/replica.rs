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
//!
//! Of an update that builds on others which are not here only the part goes in that does not; it is
//! kept as it was received until all of it can. yrs 0.28 would take it too, but it makes a state that
//! lacks elements of several such updates (`merge_updates`), and takes in what stands behind a gap:
//! another replica then does not. The test below fails with either.

mod project;
mod text;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use yrs::updates::decoder::Decode as _;
use yrs::updates::encoder::Encode as _;
use yrs::{
    Doc, OffsetKind, Options, ReadTxn as _, StateVector, Transact as _, TransactionMut, Update,
    WriteTxn as _,
};

pub use project::{KeyChange, ProjectApplied, ProjectEdit, ProjectReplica};
pub use text::TextReplica;

use crate::codec::Writer;
use crate::update::{Block, BlockKind, Id, Parent, Scan, ScanError, scan};

/// The update that adds nothing, as Yjs encodes it: no blocks, no deletions.
pub const EMPTY_UPDATE: [u8; 2] = [0, 0];

/// Updates that may wait for others, and their bytes: more than any client sends that lost a
/// connection, and little enough to be tried again at every update.
const MAX_WAITING: (usize, usize) = (1024, 16 << 20);

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
    /// It, or a part of it, waits for others.
    pub waits: bool,
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
    /// It waits for updates that never came, and too many do. Nothing of it was taken.
    #[error("too many updates wait for others that never came")]
    Waiting,
    /// yrs panicked. The replica must be thrown away.
    #[error("applying the update failed inside the CRDT; the replica is no longer usable")]
    Poisoned,
}

/// One document.
pub struct Replica {
    doc: Doc,
    poisoned: AtomicBool,
    /// Updates that wait for others, as they were received, oldest first.
    waiting: Mutex<Vec<Vec<u8>>>,
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
            waiting: Mutex::default(),
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
                waits: false,
                missing: self.misses_updates(),
            });
        }
        let mut waiting = self.waiting();
        let reach = self.ground(scan);
        let waits = reach.is_some();
        let is_kept = waits && !waiting.iter().any(|other| other == update);
        let bytes = || waiting.iter().map(Vec::len).sum::<usize>() + update.len();
        if is_kept && (waiting.len() >= MAX_WAITING.0 || bytes() > MAX_WAITING.1) {
            return Err(ReplicaError::Waiting);
        }
        let changed = self.integrate(update, scan, reach)?;
        if is_kept {
            waiting.push(update.to_vec());
        }
        // What came may be what others waited for, and these what others again did.
        let mut came = changed;
        while came && !waiting.is_empty() {
            came = false;
            let mut still = Vec::with_capacity(waiting.len());
            for update in waiting.drain(..) {
                let scan = crate::update::scan(&update)?;
                let reach = self.ground(&scan);
                let waits = reach.is_some();
                came |= self.integrate(&update, &scan, reach)?;
                if waits {
                    still.push(update);
                }
            }
            *waiting = still;
        }
        Ok(Applied {
            changed,
            new: changed || is_kept,
            waits,
            missing: !waiting.is_empty(),
        })
    }

    /// Applies an update, or what of it is below `reach`. Gives whether that changed anything.
    fn integrate(
        &self,
        update: &[u8],
        scan: &Scan<'_>,
        reach: Option<HashMap<u64, Line<'_>>>,
    ) -> Result<bool, ReplicaError> {
        let Some(reach) = reach else {
            return self.integrate_whole(update);
        };
        // What would be refused when it has its ground is refused now.
        self.decode(update)?;
        let known = self.clocks();
        let part = scan.below(|client| match reach.get(&client) {
            Some((reach, _)) => *reach,
            None => known(client),
        });
        self.integrate_whole(&part)
    }

    /// How far the blocks of an update go for each client, that have here or in it all that they build
    /// on; none when they all do, and so do its deletions.
    fn ground<'a>(&self, scan: &Scan<'a>) -> Option<HashMap<u64, Line<'a>>> {
        let known = self.clocks();
        // Of each client, how far it is in, and the blocks that follow.
        let mut lines = HashMap::<u64, Line<'_>>::new();
        for block in scan.blocks() {
            let client = block.id.client;
            let (_, line) = lines
                .entry(client)
                .or_insert_with(|| (known(client), VecDeque::new()));
            if !matches!(block.kind, BlockKind::Skip) {
                line.push_back(block);
            }
        }
        // Clients whose next block waits for an element, by that element.
        let mut blocked = BTreeSet::<(Id, u64)>::new();
        let mut ready: Vec<u64> = lines.keys().copied().collect();
        while let Some(client) = ready.pop() {
            let Some((mut reach, mut line)) = lines.remove(&client) else {
                continue;
            };
            while let Some(block) = line.front() {
                let is_here = |id: &Id| {
                    let of_other = lines.get(&id.client).map(|(reach, _)| *reach);
                    let reach = match id.client == client {
                        true => reach,
                        false => of_other.unwrap_or_else(|| known(id.client)),
                    };
                    id.clock < reach
                };
                if block.id.clock > reach {
                    break;
                }
                if let Some(on) = references(block).find(|id| !is_here(id)) {
                    blocked.insert((on, client));
                    break;
                }
                reach = block.end().clock.max(reach);
                line.pop_front();
            }
            lines.insert(client, (reach, line));
            let of = |clock| (Id { client, clock }, 0);
            while let Some(&(id, waits)) = blocked.range(of(0)..of(reach)).next() {
                blocked.remove(&(id, waits));
                ready.push(waits);
            }
        }
        let reach = |client| {
            let line = lines.get(&client);
            line.map_or_else(|| known(client), |(reach, _)| *reach)
        };
        let is_whole = lines.values().all(|(_, line)| line.is_empty())
            && scan
                .deletes()
                .all(|range| range.start + range.len <= reach(range.client));
        (!is_whole).then_some(lines)
    }

    fn decode(&self, update: &[u8]) -> Result<Update, ReplicaError> {
        self.guarded(|| Update::decode_v1(update))?
            .map_err(|error| ReplicaError::Decode(error.to_string()))
    }

    /// Applies an update that has its ground. Gives whether that changed anything.
    fn integrate_whole(&self, update: &[u8]) -> Result<bool, ReplicaError> {
        let decoded = self.decode(update)?;
        // Dropping a transaction commits it, and a panic while unwinding aborts the process: it is
        // dropped by hand, and guarded. Without that a poisoned document would stay in memory.
        let mut txn = ManuallyDrop::new(self.doc.transact_mut());
        let applied = self.guarded(|| txn.apply_update(decoded));
        let commit = || {
            let mut txn: TransactionMut<'_> = ManuallyDrop::into_inner(txn);
            txn.prune_pending();
            txn.commit();
            !txn.insert_set().is_empty() || !txn.delete_set().is_empty()
        };
        match applied {
            Ok(Ok(())) => self.guarded(commit),
            Ok(Err(error)) => {
                // A part of it is in.
                let _ = self.guarded(commit);
                self.let_go_of_subdocuments();
                self.poisoned.store(true, Ordering::Relaxed);
                Err(ReplicaError::Decode(error.to_string()))
            }
            Err(error) => {
                let _ = catch_unwind(AssertUnwindSafe(commit));
                Err(error)
            }
        }
    }

    /// The state vector, encoded.
    pub fn state_vector(&self) -> Vec<u8> {
        self.doc.transact().state_vector().encode_v1()
    }

    /// What someone with `state_vector` lacks of what is not waiting, as an update.
    pub fn diff(&self, state_vector: &[u8]) -> Result<Vec<u8>, ReplicaError> {
        crate::update::scan_state_vector(state_vector)?;
        let decoded = self.guarded(|| StateVector::decode_v1(state_vector))?;
        let state_vector = decoded.map_err(|error| ReplicaError::Decode(error.to_string()))?;
        self.guarded(|| self.doc.transact().encode_diff_v1(&state_vector))
    }

    /// The whole document as one update, without what is waiting.
    pub fn state(&self) -> Vec<u8> {
        self.doc.transact().encode_diff_v1(&StateVector::default())
    }

    /// The updates that wait for others, as they were received, oldest first.
    pub fn waiting_updates(&self) -> Vec<Vec<u8>> {
        self.waiting().clone()
    }

    /// How many bytes of updates wait for others.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting().iter().map(Vec::len).sum()
    }

    /// Says up to which clock a client's elements are here now.
    pub fn clocks(&self) -> impl Fn(u64) -> u32 + use<> {
        let known = self.doc.transact().state_vector();
        move |client| known.get(&yrs::block::ClientID::new(client))
    }

    /// Whether updates wait for others that never came.
    pub fn misses_updates(&self) -> bool {
        !self.waiting().is_empty()
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

    /// A subdocument and its document hold each other in yrs 0.28, and neither would ever leave memory. All
    /// elements are deleted, and with that collected.
    fn let_go_of_subdocuments(&self) {
        let Ok(txn) = self.doc.try_transact() else {
            return;
        };
        if txn.subdocs().next().is_none() {
            return;
        }
        let known = txn.state_vector();
        drop(txn);
        let mut all = Writer::new();
        all.var_uint(0).var_uint(known.len() as u64);
        for (client, clock) in known.iter() {
            all.var_uint(client.get()).var_uint(1);
            all.var_uint(0).var_uint((*clock).into());
        }
        if let Err(error) = self.integrate_whole(&all.into_bytes()) {
            debug_assert!(matches!(error, ReplicaError::Poisoned), "{error}");
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
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

impl Drop for Replica {
    fn drop(&mut self) {
        // In a thread that panics, another panic might be one too many.
        if !std::thread::panicking() {
            self.let_go_of_subdocuments();
        }
    }
}

/// How far a client's elements are in, and the blocks that follow.
type Line<'a> = (u32, VecDeque<Block<'a>>);

/// What a block builds on.
fn references(block: &Block<'_>) -> impl Iterator<Item = Id> {
    let item = match block.kind {
        BlockKind::Item(item) => Some(item),
        _ => None,
    };
    let references = item.map(|item| {
        let parent = match item.parent {
            Some(Parent::Item(id)) => Some(id),
            _ => None,
        };
        [item.origin, item.right_origin, parent]
    });
    references.into_iter().flatten().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::diff;

    const LETTERS: [char; 4] = ['a', 'b', 'c', 'd'];

    /// Authors who see one another late, and a reader to whom their updates come in any order, some twice.
    #[test]
    fn updates_in_any_order_come_to_the_same_and_no_state_on_the_way_lacks_anything() {
        for seed in 0..300 {
            let mut random = fastrand::Rng::with_seed(seed);
            let replica = |n: u8| TextReplica::new(ClientId::from_random([n; 4]));
            let authors = [replica(1), replica(2), replica(3)];
            let mut updates = Vec::new();
            for _ in 0..25 {
                let (author, other) = (random.usize(..3), random.usize(..3));
                let since = authors[author].state_vector();
                let seen = authors[other].diff(&since).unwrap();
                authors[author].apply(&seen).unwrap();
                let old = authors[author].text();
                let mut new: Vec<char> = old.chars().collect();
                for _ in 0..random.usize(1..4) {
                    new.insert(
                        random.usize(..=new.len()),
                        *random.choice(&LETTERS).unwrap(),
                    );
                }
                new.remove(random.usize(..new.len()));
                let new: String = new.into_iter().collect();
                updates.extend(authors[author].edit(&diff(&old, &new)));
                if random.u8(..) < 60 {
                    updates.push(seen);
                }
            }
            let all = replica(9);
            for update in &updates {
                all.apply(update).unwrap();
            }
            assert!(!all.misses_updates());
            for _ in 0..3 {
                updates.push(random.choice(&updates).unwrap().clone());
            }
            random.shuffle(&mut updates);
            let reader = replica(10);
            for update in &updates {
                reader.apply(update).unwrap();
                let late = replica(11);
                late.apply(&reader.state()).unwrap();
                assert_eq!(late.text(), reader.text(), "seed {seed}");
                assert!(
                    reader.misses_updates() || !late.misses_updates(),
                    "seed {seed}"
                );
            }
            assert_eq!(reader.text(), all.text(), "seed {seed}");
            assert!(!reader.misses_updates(), "seed {seed}");
        }
    }

    #[test]
    fn of_an_update_the_part_goes_in_that_waits_for_nothing() {
        let replica = |n: u8| TextReplica::new(ClientId::from_random([n; 4]));
        let (ann, ben, both) = (replica(1), replica(2), replica(3));
        let first = ann.append("a").unwrap();
        both.apply(&first).unwrap();
        let since = both.state_vector();
        both.apply(&ann.append("b").unwrap()).unwrap();
        both.apply(&ben.append("other").unwrap()).unwrap();
        let reader = replica(4);
        let applied = reader.apply(&both.diff(&since).unwrap()).unwrap();
        assert!(applied.changed && applied.waits && applied.missing);
        assert_eq!(reader.text(), "other");
        assert!(!reader.apply(&first).unwrap().missing);
        assert_eq!(reader.text(), both.text());
    }

    #[test]
    fn what_waits_is_kept_once_and_bounded() {
        let author = TextReplica::new(ClientId::from_random([1; 4]));
        let first = author.append("a").unwrap();
        let second = author.append("b").unwrap();
        let reader = TextReplica::new(ClientId::from_random([2; 4]));
        let waits = Applied {
            changed: false,
            new: true,
            waits: true,
            missing: true,
        };
        assert_eq!(reader.apply(&second).unwrap(), waits);
        let again = Applied {
            new: false,
            ..waits
        };
        assert_eq!(reader.apply(&second).unwrap(), again);
        assert_eq!(reader.waiting_updates(), std::slice::from_ref(&second));
        for n in 1..MAX_WAITING.0 {
            let stranger = TextReplica::new(ClientId::from_random((n as u32 + 77).to_le_bytes()));
            stranger.append("x");
            assert!(reader.apply(&stranger.append("y").unwrap()).unwrap().new);
        }
        let stranger = TextReplica::new(ClientId::from_random([3; 4]));
        stranger.append("x");
        let refused = reader.apply(&stranger.append("y").unwrap());
        assert!(matches!(refused, Err(ReplicaError::Waiting)));
        assert!(reader.apply(&first).unwrap().changed);
        assert_eq!(reader.text(), "ab");
    }
}
