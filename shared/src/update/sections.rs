//! The two lists of an update: the blocks of each client, and what each client lost.

use super::block::{Block, Id, read_block, read_clock, read_len};
use super::{DeletedRange, ScanError};
use crate::codec::Reader;

/// Count, client, clock and one block of two bytes.
const MIN_SECTION_BYTES: u64 = 5;
const MIN_BLOCK_BYTES: u64 = 2;
/// Client and count; a clock and a length.
const MIN_DELETES_BYTES: u64 = 2;
const MIN_RANGE_BYTES: u64 = 2;

/// Reads blocks, client by client, from the front of an update.
#[derive(Debug, Clone)]
pub(super) struct BlockReader<'a> {
    reader: Reader<'a>,
    sections_left: usize,
    blocks_left: usize,
    next: Id,
    /// From the last block that was read.
    last: &'a [u8],
}

impl<'a> BlockReader<'a> {
    pub(super) fn new(update: &'a [u8]) -> Result<Self, ScanError> {
        let mut reader = Reader::new(update);
        Ok(Self {
            sections_left: reader.count(MIN_SECTION_BYTES)?,
            last: reader.rest(),
            reader,
            blocks_left: 0,
            next: Id {
                client: 0,
                clock: 0,
            },
        })
    }

    /// Reads the next block; `listed` says whether a client may be listed, before its first.
    pub(super) fn next_block(
        &mut self,
        listed: impl FnOnce(u64) -> Result<(), ScanError>,
    ) -> Result<Option<Block<'a>>, ScanError> {
        if self.blocks_left == 0 {
            if self.sections_left == 0 {
                return Ok(None);
            }
            self.sections_left -= 1;
            self.blocks_left = self.reader.count(MIN_BLOCK_BYTES)?;
            let client = self.reader.var_uint()?;
            if self.blocks_left == 0 {
                return Err(ScanError::NoBlocks(client));
            }
            listed(client)?;
            let clock = read_clock(&mut self.reader, client)?;
            self.next = Id { client, clock };
        }
        self.blocks_left -= 1;
        self.last = self.reader.rest();
        let block = read_block(&mut self.reader, self.next)?;
        self.next = block.end();
        Ok(Some(block))
    }

    /// The bytes of the block that was read last.
    pub(super) fn last_bytes(&self) -> &'a [u8] {
        &self.last[..self.last.len() - self.rest().len()]
    }

    /// What follows the blocks that were read.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.reader.rest()
    }
}

/// Reads deleted ranges, client by client, and checks that each client's are in order.
#[derive(Debug, Clone)]
pub(super) struct DeleteReader<'a> {
    reader: Reader<'a>,
    clients_left: usize,
    ranges_left: usize,
    /// Where the client's next range may start.
    next: Id,
}

impl<'a> DeleteReader<'a> {
    pub(super) fn new(deletes: &'a [u8]) -> Result<Self, ScanError> {
        let mut reader = Reader::new(deletes);
        Ok(Self {
            clients_left: reader.count(MIN_DELETES_BYTES)?,
            reader,
            ranges_left: 0,
            next: Id {
                client: 0,
                clock: 0,
            },
        })
    }

    /// Reads the next range; `listed` says whether a client may be listed, before its first.
    pub(super) fn next_range(
        &mut self,
        mut listed: impl FnMut(u64) -> Result<(), ScanError>,
    ) -> Result<Option<DeletedRange>, ScanError> {
        while self.ranges_left == 0 {
            if self.clients_left == 0 {
                return Ok(None);
            }
            self.clients_left -= 1;
            let client = self.reader.var_uint()?;
            listed(client)?;
            self.ranges_left = self.reader.count(MIN_RANGE_BYTES)?;
            self.next = Id { client, clock: 0 };
        }
        self.ranges_left -= 1;
        let client = self.next.client;
        let clock = read_clock(&mut self.reader, client)?;
        let start = Id { client, clock };
        if clock < self.next.clock {
            return Err(ScanError::DeletesOutOfOrder(start));
        }
        let len = read_len(&mut self.reader, start)?;
        self.next.clock = clock + len;
        Ok(Some(DeletedRange {
            client,
            start: clock,
            len,
        }))
    }

    /// Fails unless the last range was the end of the update.
    pub(super) fn finish(&self) -> Result<(), ScanError> {
        Ok(self.reader.finish()?)
    }
}
