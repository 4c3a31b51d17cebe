//! The scan of a raw update: everything in it is looked at before yrs sees it.
//!
//! Owns: the structure of update encoding V1 ([`scan`]) and of state vectors
//! ([`scan_state_vector`]), without a document and without yrs' decoder. Must not do: apply
//! anything, or judge what an edit means.
//!
//! Invariants: a scan never panics, recurses at most [`MAX_DEPTH`](crate::codec::MAX_DEPTH) deep,
//! and reserves nothing that the input does not pay for byte by byte. **What passes, the decoders
//! of yrs 0.28.1 and Yjs 13 read, both as the same thing**: a mutation test holds the scan to
//! that for yrs. So refused are also the few things that one of them would misread
//! ([`Unsupported`]) and what no honest client can have made, such as a block that refers to
//! its own future.

mod any;
mod block;
mod sections;
mod state_vector;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use crate::codec::Writer;

pub use any::AnyValues;
pub use block::{Block, BlockKind, Content, Id, Item, Parent, TypeKind};
pub use state_vector::scan_state_vector;

use crate::codec::DecodeError;
use sections::{BlockReader, DeleteReader};

/// The highest clock, and the highest end of a range of clocks: yrs computes with `i32`.
pub const MAX_CLOCK: u32 = i32::MAX as u32;

/// Why bytes are no update that may be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// The encoding itself is wrong.
    #[error("malformed update: {0}")]
    Decode(#[from] DecodeError),
    /// A clock, or the end of a range of clocks, above [`MAX_CLOCK`].
    #[error("a clock of client {client} above 2^31 - 1")]
    Clock {
        /// Whose clock.
        client: u64,
    },
    /// A block or a deleted range without any elements.
    #[error("an empty block or range at {0}")]
    Empty(Id),
    /// A client that is listed without blocks: yrs recurses once for each.
    #[error("client {0} is listed without blocks")]
    NoBlocks(u64),
    /// A client that is listed twice: Yjs keeps the second listing, yrs both.
    #[error("client {0} is listed twice")]
    ClientTwice(u64),
    /// Deleted ranges that overlap or are not in order: yrs searches them by halving.
    #[error("deleted ranges out of order at {0}")]
    DeletesOutOfOrder(Id),
    /// A block whose origin, right origin or parent is itself or comes after it.
    #[error("the block at {block} refers to {reference}, its own future")]
    OwnFuture {
        /// The block.
        block: Id,
        /// What it refers to.
        reference: Id,
    },
    /// Valid for some client, but not to be had here.
    #[error("not supported: {0}")]
    Unsupported(Unsupported),
}

/// Content that is valid for some client and that another one would misread or choke on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// ContentJSON, which Yjs 13 reads but no longer makes; yrs 0.28.1 reads one string too many.
    #[error("legacy JSON content")]
    LegacyJson,
    /// YXmlHook: Yjs writes its name, yrs 0.28.1 does not read it.
    #[error("an XML hook")]
    XmlHook,
    /// A type that only some builds of yrs know: every Yjs client throws at it.
    #[error("a shared type with the number {0}")]
    TypeRef(u8),
    /// JSON that Yjs writes and yrs cannot hold: half of a surrogate pair, a number above 2^63.
    #[error("a JSON value that is no number of 64 bits or no Unicode text")]
    Json,
}

/// An update whose structure was checked.
///
/// Holds the update, not what is in it: the iterators read again, so a scan costs no memory.
#[derive(Debug, Clone)]
pub struct Scan<'a> {
    update: &'a [u8],
    /// The tail of `update` that is its delete set.
    deletes: &'a [u8],
    block_count: usize,
    adds_nothing: bool,
}

/// A range of one client's elements that an update deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeletedRange {
    /// Whose elements.
    pub client: u64,
    /// The clock of the first deleted element.
    pub start: u32,
    /// How many, at least one.
    pub len: u32,
}

/// Checks the structure of `update`, from its first byte to its last.
pub fn scan(update: &[u8]) -> Result<Scan<'_>, ScanError> {
    let mut clients = HashSet::new();
    let mut blocks = BlockReader::new(update)?;
    let (mut block_count, mut adds_nothing) = (0, true);
    while let Some(block) = blocks.next_block(|client| once(&mut clients, client))? {
        block_count += 1;
        adds_nothing &= matches!(block.kind, BlockKind::Skip);
    }

    clients.clear();
    let deletes = blocks.rest();
    let mut ranges = DeleteReader::new(deletes)?;
    while ranges
        .next_range(|client| once(&mut clients, client))?
        .is_some()
    {
        adds_nothing = false;
    }
    ranges.finish()?;

    Ok(Scan {
        update,
        deletes,
        block_count,
        adds_nothing,
    })
}

impl<'a> Scan<'a> {
    /// Whether the update adds nothing: no blocks but skips, and no deletes.
    pub fn is_empty(&self) -> bool {
        self.adds_nothing
    }

    /// How many blocks there are, skips included.
    pub fn block_count(&self) -> usize {
        self.block_count
    }

    /// The blocks in the order of the update: client by client, each client's clock ascending.
    pub fn blocks(&self) -> impl Iterator<Item = Block<'a>> + use<'a> {
        let mut reader = BlockReader::new(self.update).expect(CHECKED);
        std::iter::from_fn(move || reader.next_block(|_| Ok(())).expect(CHECKED))
    }

    /// The deleted ranges: client by client, each client's ascending and apart.
    pub fn deletes(&self) -> impl Iterator<Item = DeletedRange> + use<'a> {
        let mut reader = DeleteReader::new(self.deletes).expect(CHECKED);
        std::iter::from_fn(move || reader.next_range(|_| Ok(())).expect(CHECKED))
    }
}

impl Scan<'_> {
    /// The part of the update that lies below these clocks, as an update.
    pub fn below(&self, reach: impl Fn(u64) -> u32) -> Vec<u8> {
        let mut sections = Vec::<(Id, usize, Vec<u8>)>::new();
        let mut reader = BlockReader::new(self.update).expect(CHECKED);
        let mut over = None;
        while let Some(block) = reader.next_block(|_| Ok(())).expect(CHECKED) {
            let client = block.id.client;
            if over == Some(client) || block.end().clock > reach(client) {
                over = Some(client);
                continue;
            }
            match sections.last_mut() {
                Some((first, count, bytes)) if first.client == client => {
                    *count += 1;
                    bytes.extend_from_slice(reader.last_bytes());
                }
                _ => sections.push((block.id, 1, reader.last_bytes().to_vec())),
            }
        }
        let is_below = |range: &DeletedRange| range.start + range.len <= reach(range.client);
        let deletes: Vec<_> = self.deletes().filter(is_below).collect();
        let mut writer = Writer::new();
        writer.var_uint(sections.len() as u64);
        for (first, count, bytes) in sections {
            writer.var_uint(count as u64).var_uint(first.client);
            writer.var_uint(first.clock.into()).raw(&bytes);
        }
        let of_client = || deletes.chunk_by(|a, b| a.client == b.client);
        writer.var_uint(of_client().count() as u64);
        for ranges in of_client() {
            writer
                .var_uint(ranges[0].client)
                .var_uint(ranges.len() as u64);
            for range in ranges {
                writer
                    .var_uint(range.start.into())
                    .var_uint(range.len.into());
            }
        }
        writer.into_bytes()
    }
}

fn once(clients: &mut HashSet<u64>, client: u64) -> Result<(), ScanError> {
    if clients.insert(client) {
        Ok(())
    } else {
        Err(ScanError::ClientTwice(client))
    }
}

/// Why the iterators of a [`Scan`] cannot fail: [`scan`] ran the same readers to their end.
const CHECKED: &str = "scan has read these bytes";
