//! Between the state and the engine: what a flush writes, what opening reads and checks, what reclaiming rewrites.
//!
//! `Backend` is the engine's only writer. The sum over everything stored is kept in the same batch as the data and is
//! compared when the engine is opened, so an engine that lost or changed anything is noticed and refilled.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use keelson_store_disk::{Batch, DiskError, Engine};

use crate::block::{self, Block, Record};
use crate::history::BlockInfo;
use crate::limits::BLOCK_BYTES;
use crate::rows::{self, Dirty, Table};
use crate::scan_ahead::scan_ahead;
use crate::{Revision, image};

/// Why stored state cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(
        "the applied state is damaged: {what}; it can be rebuilt from snapshot and log: restart the member"
    )]
    Damaged { what: String },
}

impl ReadError {
    /// Damage, as a `map_err` argument.
    pub fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged { what: what.into() }
    }
}

/// What the engine's content stands for.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Meta {
    /// Index and term of the last command whose effects are included.
    #[prost(uint64, tag = "1")]
    pub applied_index: u64,
    #[prost(uint64, tag = "2")]
    pub applied_term: u64,
    #[prost(int64, tag = "3")]
    pub revision: i64,
    #[prost(int64, tag = "4")]
    pub compacted: i64,
    /// Raft's configuration at the applied index, encoded by the Raft layer.
    #[prost(bytes = "bytes", tag = "5")]
    pub conf_state: Bytes,
    /// Sum over all blocks and rows.
    #[prost(fixed64, tag = "6")]
    pub sum: u64,
    /// CRC-32 of all the above, set by `seal`.
    #[prost(fixed32, tag = "7")]
    pub check: u32,
}

impl Meta {
    /// The stored form, with its checksum: no sum over the data covers this.
    pub fn seal(&self) -> Vec<u8> {
        let mut whole = Self {
            check: 0,
            ..self.clone()
        };
        whole.check = crc32fast::hash(&prost::Message::encode_to_vec(&whole));
        prost::Message::encode_to_vec(&whole)
    }

    /// Reads and checks the stored form.
    pub fn unseal(bytes: &[u8]) -> Result<Self, ReadError> {
        let whole: Self =
            prost::Message::decode(bytes).map_err(|error| ReadError::damaged(error.to_string()))?;
        if whole.seal() != bytes {
            return Err(ReadError::damaged(
                "what the state stands for does not match its checksum",
            ));
        }
        Ok(whole)
    }
}

/// What one flush writes; taken from the state at one applied index.
#[derive(Debug)]
pub struct FlushJob {
    pub meta: Meta,
    pub upto: Revision,
    pub records: Vec<(Revision, Record)>,
    pub rows: Dirty,
}

/// One step of reclaiming: lists of dead records to store, blocks to rewrite.
#[derive(Debug, Default)]
pub struct ReclaimJob {
    pub dead: Vec<(Revision, Vec<Revision>)>,
    pub blocks: Vec<Revision>,
}

/// The engine's writer.
pub struct Backend {
    engine: Arc<dyn Engine>,
    meta: Meta,
}

impl Backend {
    /// A writer that continues from what the engine holds.
    pub fn new(engine: Arc<dyn Engine>) -> Result<Self, ReadError> {
        let meta = read_meta(engine.as_ref())?.unwrap_or_default();
        Ok(Self { engine, meta })
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// What was last written.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Writes a job in one batch; gives the new blocks for `Mvcc::flushed`.
    pub fn flush(&mut self, job: &FlushJob) -> Result<Vec<(Revision, BlockInfo)>, ReadError> {
        let mut batch = Batch::default();
        let mut sum = self.meta.sum;
        let blocks = put_blocks(&job.records, &mut batch, &mut sum);
        for (key, value) in job.rows.clone().into_rows() {
            sum = sum.wrapping_sub(self.stored_sum(&key)?);
            match value {
                Some(value) => {
                    sum = sum.wrapping_add(sum_of(&key, &value));
                    batch.put(key, value);
                }
                None => batch.delete(key),
            }
        }
        self.commit(
            batch,
            Meta {
                sum,
                ..job.meta.clone()
            },
        )?;
        Ok(blocks)
    }

    /// Stores lists of dead records, and rewrites blocks without the records `holds` denies. Those must be dead by a
    /// compaction the stored meta knows of: see `Mvcc::reclaim_job`.
    pub fn reclaim(
        &mut self,
        job: &ReclaimJob,
        holds: &mut dyn FnMut(&[u8], Revision) -> bool,
    ) -> Result<Vec<(Revision, BlockInfo)>, ReadError> {
        let mut batch = Batch::default();
        let mut sum = self.meta.sum;
        let mut kept = Vec::new();
        let mut new = Vec::new();
        for (first, dead) in &job.dead {
            let key = rows::dead_key(*first);
            sum = sum.wrapping_sub(self.stored_sum(&key)?);
            let list = rows::encode_dead(dead);
            sum = sum.wrapping_add(sum_of(&key, &list));
            batch.put(key, list);
        }
        for (number, first) in job.blocks.iter().enumerate() {
            let list = rows::dead_key(*first);
            sum = sum.wrapping_sub(self.stored_sum(&list)?);
            batch.delete(list);
            let key = rows::block_key(*first);
            let stored = self
                .engine
                .get(&key)?
                .ok_or_else(|| ReadError::damaged("a block is missing"))?;
            sum = sum.wrapping_sub(sum_of(&key, &stored));
            batch.delete(key);
            for record in Block::new(stored).map_err(ReadError::damaged)?.records() {
                let (revision, record) = record.map_err(ReadError::damaged)?;
                if holds(&record.kv.key, revision) {
                    kept.push((revision, record));
                }
            }
            // Blocks that are not neighbours must not share a new one: another block's records lie between.
            let next_is_neighbour = job
                .blocks
                .get(number + 1)
                .is_some_and(|next| self.is_next_block(*first, *next));
            if !next_is_neighbour {
                new.extend(put_blocks(&std::mem::take(&mut kept), &mut batch, &mut sum));
            }
        }
        self.commit(
            batch,
            Meta {
                sum,
                ..self.meta.clone()
            },
        )?;
        Ok(new)
    }

    /// Hands everything to the disk.
    pub fn sync(&self) -> Result<(), ReadError> {
        Ok(self.engine.flush()?)
    }

    /// A stored pair's share of the sum; 0 for none.
    fn stored_sum(&self, key: &[u8]) -> Result<u64, ReadError> {
        let stored = self.engine.get(key)?;
        Ok(stored.map_or(0, |value| sum_of(key, &value)))
    }

    fn is_next_block(&self, first: Revision, next: Revision) -> bool {
        let mut found = None;
        let mut from = rows::block_key(first);
        from.push(0);
        let scanned = self.engine.scan(&from, &[rows::BLOCK + 1], &mut |key, _| {
            found = Revision::from_bytes(&key[1..]);
            false
        });
        scanned.is_ok() && found == Some(next)
    }

    fn commit(&mut self, mut batch: Batch, meta: Meta) -> Result<(), ReadError> {
        batch.put(vec![rows::META], meta.seal());
        self.engine.apply(batch)?;
        self.meta = meta;
        Ok(())
    }
}

/// Cuts records into blocks and adds them to a batch.
pub fn put_blocks(
    records: &[(Revision, Record)],
    batch: &mut Batch,
    sum: &mut u64,
) -> Vec<(Revision, BlockInfo)> {
    let mut blocks = Vec::new();
    let mut start = 0;
    let mut bytes = 0;
    for end in 1..=records.len() {
        bytes += records[end - 1].1.bytes();
        let next = records.get(end).map_or(BLOCK_BYTES, |(_, record)| record.bytes());
        if end < records.len() && bytes + next <= BLOCK_BYTES {
            continue;
        }
        let first = records[start].0;
        let encoded = block::encode(&records[start..end]);
        let count = (end - start) as u32;
        blocks.push((
            first,
            BlockInfo {
                records: count,
                live: count,
                bytes: encoded.len() as u32,
            },
        ));
        let key = rows::block_key(first);
        *sum = sum.wrapping_add(sum_of(&key, &encoded));
        batch.put(key, encoded);
        start = end;
        bytes = 0;
    }
    blocks
}

/// A pair's share of the sum.
pub fn sum_of(key: &[u8], value: &[u8]) -> u64 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(value);
    let low = hasher.clone().finalize();
    hasher.update(key);
    let high = hasher.finalize();
    (u64::from(high) << 32 | u64::from(low)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// What the engine's content stands for; `None` for an empty engine.
pub fn read_meta(engine: &dyn Engine) -> Result<Option<Meta>, ReadError> {
    match engine.get(&[rows::META])? {
        None => Ok(None),
        Some(bytes) => Meta::unseal(&bytes).map(Some),
    }
}

/// Reads everything once, in order, and checks it against the sum. Blocks come with their lists of dead records.
pub fn read_all(
    engine: &dyn Engine,
    meta: &Meta,
    mut row: impl FnMut(Table, &[u8], Bytes) -> Result<(), String>,
    mut visit_block: impl FnMut(Revision, u32, Vec<(Revision, Record)>, Vec<Revision>),
) -> Result<(), ReadError> {
    let mut sum = 0u64;
    let mut failed = None;
    let mut dead = read_dead(engine, &mut sum)?;
    let mut visit = |key: &[u8], value: Bytes| {
        sum = sum.wrapping_add(sum_of(key, &value));
        let outcome = if key[0] == rows::BLOCK {
            let length = value.len() as u32;
            Revision::from_bytes(&key[1..])
                .ok_or_else(|| "a block's key is wrong".to_owned())
                .and_then(|first| {
                    let records = Block::new(value)?.records().collect::<Result<_, _>>()?;
                    visit_block(first, length, records, dead.remove(&first).unwrap_or_default());
                    Ok(())
                })
        } else {
            match Table::parse(key) {
                Some((table, key)) => row(table, key, value),
                None => Err("a key has no meaning".to_owned()),
            }
        };
        if let Err(what) = outcome {
            failed.get_or_insert(what);
        }
        failed.is_none()
    };
    scan_ahead(engine, &[rows::BLOCK], &[rows::BLOCK + 1], &mut visit)?;
    scan_ahead(engine, &[rows::ROW], &[rows::ROW + 1], &mut visit)?;
    if let Some(what) = failed {
        return Err(ReadError::damaged(what));
    }
    if sum != meta.sum {
        return Err(ReadError::damaged(
            "what is stored does not add up to what was written",
        ));
    }
    Ok(())
}

/// The lists of dead records, by block; adds their share of the sum.
pub fn read_dead(engine: &dyn Engine, sum: &mut u64) -> Result<BTreeMap<Revision, Vec<Revision>>, ReadError> {
    let mut dead = BTreeMap::new();
    let mut failed = None;
    engine.scan(&[rows::DEAD], &[rows::DEAD + 1], &mut |key, value| {
        *sum = sum.wrapping_add(sum_of(key, &value));
        let first = Revision::from_bytes(&key[1..]).ok_or_else(|| "a list's key is wrong".to_owned());
        match first.and_then(|first| Ok((first, rows::decode_dead(&value)?))) {
            Ok((first, list)) => {
                dead.insert(first, list);
            }
            Err(what) => failed = Some(what),
        }
        failed.is_none()
    })?;
    failed.map_or(Ok(dead), |what| Err(ReadError::damaged(what)))
}

/// Fills an empty engine from an image file; gives what it now stands for.
pub fn fill(engine: &dyn Engine, source: &image::Source<'_>) -> Result<Meta, ReadError> {
    source.load(engine)
}
