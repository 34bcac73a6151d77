//! Where the record of each revision is: recent ones in memory, the others in blocks of the engine.
//!
//! Invariant: every revision the key index holds is in `recent`, or in the block with the greatest first revision not
//! above it. Recent records stay a while after they were written to a block, for watchers slightly behind.
//!
//! A record the index no longer holds stays in its block until the block is rewritten, and is known as dead until then.
//! A deletion must not leave its block while an older record of its key, in a block not worth rewriting, would come to
//! life again when the engine is next opened. So the lists of dead records are stored before any block is rewritten,
//! and sparse blocks are rewritten from the oldest on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use keelson_proto::etcd::mvccpb::KeyValue;
use keelson_store_disk::Engine;
use prost::Message;

use crate::backend::{ReadError, ReclaimJob};
use crate::block::{Block, Record};
use crate::limits::{RECENT_BYTES_KEPT, RECLAIM_STEP_BLOCKS, RECLAIM_STEP_LISTS};
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
    Here(Arc<Record>),
    Block(Revision),
}

#[derive(Debug)]
struct Slot {
    revision: Revision,
    /// `None` once compacted.
    record: Option<Arc<Record>>,
    /// A deletion that was compacted before any block had it. It is written all the same: an older record of its key
    /// may be in a block already.
    dead: bool,
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
    /// Records of each block that the key index no longer holds.
    dead: BTreeMap<Revision, Vec<Revision>>,
    /// Blocks whose list of dead records has grown since it was stored.
    unlisted: BTreeSet<Revision>,
    /// Blocks with few live records, to be rewritten.
    sparse: BTreeSet<Revision>,
    block_bytes: u64,
    live_bytes: u64,
}

impl History {
    /// Adds the newest record.
    pub fn push(&mut self, revision: Revision, record: Record) {
        self.unflushed_bytes += record.bytes();
        self.recent.push_back(Slot {
            revision,
            record: Some(Arc::new(record)),
            dead: false,
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
            let place = self.place_in_recent(revision)?;
            return self.recent[place].record.clone().map(Place::Here);
        }
        let (first, _) = self.blocks.range(..=revision).next_back()?;
        Some(Place::Block(*first))
    }

    fn place_in_recent(&self, revision: Revision) -> Option<usize> {
        let front = self.recent.front()?.revision;
        // Where it is if every transaction so far changed one key.
        let guess = usize::try_from(revision.main - front.main).ok();
        let right = |place: &usize| {
            self.recent
                .get(*place)
                .is_some_and(|slot| slot.revision == revision)
        };
        guess.filter(right).or_else(|| {
            let found = self.recent.binary_search_by_key(&revision, |slot| slot.revision);
            found.ok()
        })
    }

    /// Records no block has yet, oldest first.
    pub fn unflushed(&self) -> Vec<(Revision, Record)> {
        let slots = self.recent.iter().skip(self.flushed);
        slots
            .filter_map(|slot| Some((slot.revision, Record::clone(slot.record.as_ref()?))))
            .collect()
    }

    /// The records up to `upto` were handed over, and those of `written` are now in these blocks.
    pub fn flushed(
        &mut self,
        upto: Revision,
        written: &[(Revision, Record)],
        blocks: &[(Revision, BlockInfo)],
    ) {
        for (first, info) in blocks {
            self.add_block(*first, *info);
        }
        while let Some(slot) = self.recent.get(self.flushed) {
            if slot.revision > upto {
                break;
            }
            let (revision, dead) = (slot.revision, slot.dead);
            let bytes = slot.record.as_deref().map(Record::bytes);
            self.flushed += 1;
            match bytes {
                Some(bytes) => {
                    self.unflushed_bytes -= bytes;
                    self.flushed_bytes += bytes;
                    if dead {
                        self.dead_in_block(revision);
                    }
                }
                // Compacted while the block was being written, or before that.
                None if written
                    .binary_search_by_key(&revision, |(known, _)| *known)
                    .is_ok() =>
                {
                    self.dead_in_block(revision);
                }
                None => {}
            }
        }
        while self.flushed > 0 && self.flushed_bytes > RECENT_BYTES_KEPT {
            let slot = self.recent.pop_front().expect("flushed records are at the front");
            self.flushed -= 1;
            self.flushed_bytes -= slot.record.as_deref().map_or(0, Record::bytes);
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
            && let Some(place) = self.place_in_recent(revision)
        {
            let slot = &mut self.recent[place];
            if place >= self.flushed && slot.record.as_deref().is_some_and(|record| record.tombstone) {
                slot.dead = true;
                return;
            }
            let record = slot.record.take();
            let bytes = record.as_deref().map_or(0, Record::bytes);
            if place >= self.flushed {
                self.unflushed_bytes -= bytes;
                return;
            }
            self.flushed_bytes -= bytes;
        }
        self.dead_in_block(revision);
    }

    /// Adds a block found in the engine with its stored list of dead records.
    pub fn restore_block(&mut self, first: Revision, info: BlockInfo, dead: Vec<Revision>) {
        self.add_block(first, info);
        if info.live * 2 <= info.records {
            self.sparse.insert(first);
        }
        if !dead.is_empty() {
            self.dead.insert(first, dead);
        }
    }

    /// The next step towards fewer dead records on disk: lists to store or, when all are, the oldest sparse blocks.
    pub fn reclaim_job(&self) -> Option<ReclaimJob> {
        let mut job = ReclaimJob::default();
        if self.sparse.is_empty() {
            return None;
        }
        let unlisted = self.unlisted.iter().filter(|first| !self.sparse.contains(first));
        for first in unlisted.take(RECLAIM_STEP_LISTS) {
            let dead = self.dead.get(first).cloned();
            job.dead.push((*first, dead.unwrap_or_default()));
        }
        if job.dead.is_empty() {
            job.blocks.extend(self.sparse.iter().take(RECLAIM_STEP_BLOCKS));
        }
        Some(job)
    }

    /// A step was done: lists are stored, and blocks replaced by rewritten ones.
    pub fn reclaimed(&mut self, job: &ReclaimJob, new: &[(Revision, BlockInfo)]) {
        for (first, _) in &job.dead {
            self.unlisted.remove(first);
        }
        for first in &job.blocks {
            self.sparse.remove(first);
            self.unlisted.remove(first);
            self.dead.remove(first);
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
        assert!(info.live > 0, "a record of block {first:?} died twice");
        info.live -= 1;
        self.live_bytes += live_bytes(info);
        if info.live * 2 <= info.records {
            self.sparse.insert(*first);
        }
        self.dead.entry(*first).or_default().push(revision);
        self.unlisted.insert(*first);
    }
}

fn live_bytes(info: &BlockInfo) -> u64 {
    u64::from(info.bytes) * u64::from(info.live) / u64::from(info.records.max(1))
}

/// A pair that was read, in the form it was found in.
#[derive(Debug, Clone)]
pub enum Pair {
    Decoded(Arc<Record>),
    /// An encoded `mvccpb.KeyValue`.
    Encoded(Bytes),
}

impl Default for Pair {
    fn default() -> Self {
        Self::Encoded(Bytes::new())
    }
}

impl Pair {
    /// The pair, decoded.
    pub fn decode(self) -> Result<KeyValue, ReadError> {
        match self {
            Self::Decoded(record) => Ok(record.kv.clone()),
            Self::Encoded(bytes) => {
                KeyValue::decode(bytes).map_err(|error| ReadError::damaged(error.to_string()))
            }
        }
    }

    /// Its length as a message.
    pub fn encoded_len(&self) -> usize {
        match self {
            Self::Decoded(record) => record.kv.encoded_len(),
            Self::Encoded(bytes) => bytes.len(),
        }
    }

    /// Appends it as a message.
    pub fn encode(&self, buffer: &mut impl bytes::BufMut) {
        match self {
            Self::Decoded(record) => record.kv.encode_raw(buffer),
            Self::Encoded(bytes) => buffer.put_slice(bytes),
        }
    }
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
        match place {
            Place::Here(record) => Ok(Some(Record::clone(&record))),
            Place::Block(first) => match self.block(first)? {
                Some(block) => block.get(revision).map_err(ReadError::damaged),
                None => Ok(None),
            },
        }
    }

    /// The pair without decoding it; `None` as for `fetch`.
    pub fn fetch_pair(&mut self, revision: Revision, place: &Place) -> Result<Option<Pair>, ReadError> {
        match place {
            Place::Here(record) => Ok(Some(Pair::Decoded(record.clone()))),
            Place::Block(first) => match self.block(*first)? {
                Some(block) => {
                    let stored = block.stored(revision).map_err(ReadError::damaged)?;
                    Ok(stored.map(Pair::Encoded))
                }
                None => Ok(None),
            },
        }
    }

    fn block(&mut self, first: Revision) -> Result<Option<&Block>, ReadError> {
        if self.last.as_ref().is_none_or(|(known, _)| *known != first) {
            let Some(bytes) = self.engine.get(&rows::block_key(first))? else {
                return Ok(None);
            };
            self.last = Some((first, Block::new(bytes).map_err(ReadError::damaged)?));
        }
        Ok(self.last.as_ref().map(|(_, block)| block))
    }
}
