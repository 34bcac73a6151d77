//! Where the record of each revision is: recent ones in memory, the others in blocks of the engine.
//!
//! Invariant: every revision the key index holds is in `recent`, or in the block with the greatest first revision not
//! above it. Recent records stay a while after they were written to a block, for watchers slightly behind.

use std::collections::{BTreeMap, VecDeque};

use keelson_store_disk::Engine;

use crate::backend::ReadError;
use crate::block::{Block, Record};
use crate::limits::RECENT_BYTES_KEPT;
use crate::{Revision, rows};

/// A block that is in the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockInfo {
    pub records: u32,
    /// Records the key index still holds.
    pub live: u32,
    pub bytes: u32,
}

/// Where to read a record, valid until the next reclaiming step.
#[derive(Debug, Clone)]
pub enum Place {
    Here(Record),
    Block(Revision),
}

#[derive(Debug)]
struct Slot {
    revision: Revision,
    /// `None` once compacted.
    record: Option<Record>,
}

/// The records' places.
#[derive(Debug, Default)]
pub struct History {
    recent: VecDeque<Slot>,
    /// How many of `recent`, from the front, are in blocks too.
    flushed: usize,
    flushed_bytes: usize,
    unflushed_bytes: usize,
    blocks: BTreeMap<Revision, BlockInfo>,
    /// Blocks with few live records, to be rewritten.
    sparse: std::collections::BTreeSet<Revision>,
    block_bytes: u64,
    live_bytes: u64,
}

impl History {
    /// Adds the newest record.
    pub fn push(&mut self, revision: Revision, record: Record) {
        self.unflushed_bytes += record.bytes();
        self.recent.push_back(Slot {
            revision,
            record: Some(record),
        });
    }

    /// Bytes of records no block has yet.
    pub fn unflushed_bytes(&self) -> usize {
        self.unflushed_bytes
    }

    /// Bytes of records on disk that are still live, about, and those that wait to be written.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes + self.unflushed_bytes as u64
    }

    /// Bytes of all blocks.
    pub fn block_bytes(&self) -> u64 {
        self.block_bytes
    }

    /// Where a revision's record is; `None` if it was compacted.
    pub fn locate(&self, revision: Revision) -> Option<Place> {
        if self.recent.front().is_some_and(|slot| slot.revision <= revision) {
            let place = self
                .recent
                .binary_search_by_key(&revision, |slot| slot.revision)
                .ok()?;
            return self.recent[place].record.clone().map(Place::Here);
        }
        let (first, _) = self.blocks.range(..=revision).next_back()?;
        Some(Place::Block(*first))
    }

    /// Records no block has yet, oldest first.
    pub fn unflushed(&self) -> Vec<(Revision, Record)> {
        let slots = self.recent.iter().skip(self.flushed);
        slots
            .filter_map(|slot| Some((slot.revision, slot.record.clone()?)))
            .collect()
    }

    /// The records up to `upto` are now in these blocks.
    pub fn flushed(&mut self, upto: Revision, blocks: &[(Revision, BlockInfo)]) {
        for (first, info) in blocks {
            self.add_block(*first, *info);
        }
        while let Some(slot) = self.recent.get(self.flushed) {
            if slot.revision > upto {
                break;
            }
            let (revision, bytes) = (slot.revision, slot.record.as_ref().map(Record::bytes));
            self.flushed += 1;
            match bytes {
                Some(bytes) => {
                    self.unflushed_bytes -= bytes;
                    self.flushed_bytes += bytes;
                }
                // Compacted while the block was being written, if it was in it at all.
                None => self.dead_in_block(revision),
            }
        }
        while self.flushed > 0 && self.flushed_bytes > RECENT_BYTES_KEPT {
            let slot = self.recent.pop_front().expect("flushed records are at the front");
            self.flushed -= 1;
            self.flushed_bytes -= slot.record.as_ref().map_or(0, Record::bytes);
        }
    }

    /// Adds a block found in or written to the engine.
    pub fn add_block(&mut self, first: Revision, info: BlockInfo) {
        self.block_bytes += u64::from(info.bytes);
        self.live_bytes += live_bytes(&info);
        self.blocks.insert(first, info);
    }

    /// A record was dropped from the key index.
    pub fn drop_record(&mut self, revision: Revision) {
        let front = self.recent.front().map(|slot| slot.revision);
        if front.is_some_and(|front| front <= revision)
            && let Ok(place) = self.recent.binary_search_by_key(&revision, |slot| slot.revision)
        {
            let record = self.recent[place].record.take();
            let bytes = record.as_ref().map_or(0, Record::bytes);
            if place >= self.flushed {
                self.unflushed_bytes -= bytes;
                return;
            }
            self.flushed_bytes -= bytes;
        }
        self.dead_in_block(revision);
    }

    /// Sparse blocks to rewrite, neighbours of each other where possible.
    pub fn sparse(&self, count: usize) -> Vec<Revision> {
        self.sparse.iter().take(count).copied().collect()
    }

    /// Replaces blocks by rewritten ones.
    pub fn rewritten(&mut self, old: &[Revision], new: &[(Revision, BlockInfo)]) {
        for first in old {
            self.sparse.remove(first);
            if let Some(info) = self.blocks.remove(first) {
                self.block_bytes -= u64::from(info.bytes);
                self.live_bytes -= live_bytes(&info);
            }
        }
        for (first, info) in new {
            self.add_block(*first, *info);
        }
    }

    fn dead_in_block(&mut self, revision: Revision) {
        let Some((first, info)) = self.blocks.range_mut(..=revision).next_back() else {
            return;
        };
        self.live_bytes -= live_bytes(info);
        info.live = info.live.saturating_sub(1);
        self.live_bytes += live_bytes(info);
        if info.live * 2 <= info.records {
            self.sparse.insert(*first);
        }
    }
}

fn live_bytes(info: &BlockInfo) -> u64 {
    u64::from(info.bytes) * u64::from(info.live) / u64::from(info.records.max(1))
}

/// Reads records at their places; remembers the last block, because neighbours are often asked for together.
pub struct Fetcher<'a> {
    engine: &'a dyn Engine,
    last: Option<(Revision, Block)>,
}

impl<'a> Fetcher<'a> {
    /// A reader of the engine's blocks.
    pub fn new(engine: &'a dyn Engine) -> Self {
        Self { engine, last: None }
    }

    /// The record, or `None` when its block has been rewritten since the place was looked up.
    pub fn fetch(&mut self, revision: Revision, place: Place) -> Result<Option<Record>, ReadError> {
        let first = match place {
            Place::Here(record) => return Ok(Some(record)),
            Place::Block(first) => first,
        };
        if self.last.as_ref().is_none_or(|(known, _)| *known != first) {
            let Some(bytes) = self.engine.get(&rows::block_key(first))? else {
                return Ok(None);
            };
            self.last = Some((first, Block::new(bytes).map_err(ReadError::damaged)?));
        }
        let Some((_, block)) = &self.last else {
            return Ok(None);
        };
        block.get(revision).map_err(ReadError::damaged)
    }
}
