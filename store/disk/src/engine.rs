//! The state engine: an ordered map of bytes with atomic batches.
//!
//! What it must give: a batch is seen whole or not at all, also after a crash. What it need not give: durability. The
//! layer above keeps the applied index inside each batch and replays the log from there, and it checks the content when
//! it opens; an engine that lost its tail, or everything, is caught up or refilled.

use bytes::Bytes;

use crate::DiskError;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    Put(Bytes, Bytes),
    Delete(Bytes),
}

/// Changes that belong together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    pub ops: Vec<Op>,
}

impl Batch {
    /// Sets a key.
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.ops.push(Op::Put(key.into(), value.into()));
    }

    /// Removes a key; a missing one is fine.
    pub fn delete(&mut self, key: impl Into<Bytes>) {
        self.ops.push(Op::Delete(key.into()));
    }
}

/// An ordered map on disk; shared between the one writer and many readers.
pub trait Engine: Send + Sync {
    /// One value.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, DiskError>;
    /// Calls `visit` for each key in `[from, to)` in order until it answers false.
    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), DiskError>;
    /// Applies a batch atomically.
    fn apply(&self, batch: Batch) -> Result<(), DiskError>;
    /// Hands everything to the disk, as far as the engine can.
    fn flush(&self) -> Result<(), DiskError>;
    /// Bytes the engine occupies on disk.
    fn size_on_disk(&self) -> u64;
}
