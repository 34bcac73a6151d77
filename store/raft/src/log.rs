//! What RawNode may ask of the log: recent entries from memory, older ones from the owner's log.

use std::cell::Cell;
use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot, SnapshotMetadata};
use raft::{GetEntriesContext, RaftState, StorageError};

/// Bytes of recent entries kept in memory for followers.
const CACHE_BYTES_MAX: usize = 4 << 20;

/// The durable log, written by the node's owner.
pub trait Log {
    /// Index of the oldest entry that can be read; one more than `last_index` when there is none.
    fn first_index(&self) -> u64;
    /// Index of the newest durable entry.
    fn last_index(&self) -> u64;
    /// Entries from `low` up to but not including `high`, at least one and about `bytes_max`.
    fn read(&self, low: u64, high: u64, bytes_max: u64) -> Result<Vec<Entry>, LogError>;
}

/// The log cannot be read; Raft cannot go on.
#[derive(Debug, thiserror::Error)]
#[error("the log cannot be read: {what}")]
pub struct LogError {
    pub what: String,
}

/// The entry a log starts after: of a snapshot, or of the cluster's birth.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SnapshotBase {
    pub index: u64,
    pub term: u64,
    pub conf_state: ConfState,
    /// Whether there is a snapshot that can be sent; the cluster's birth has none.
    pub has_file: bool,
}

/// Raft's storage.
pub(crate) struct LogStorage<L> {
    pub log: L,
    pub hard_state: HardState,
    /// Configuration as of the applied index: where RawNode starts.
    pub conf_state: ConfState,
    /// The newest snapshot that can be sent.
    pub snapshot: SnapshotBase,
    /// Index and term of the entry before the first readable one.
    pub truncated: (u64, u64),
    /// Newest entries, without gaps up to the last.
    cache: VecDeque<Entry>,
    cache_bytes: usize,
    /// A follower needs a snapshot newer than `snapshot`.
    pub snapshot_wanted: Cell<bool>,
    pub failure: Cell<Option<String>>,
}

impl<L: Log> LogStorage<L> {
    pub fn new(
        log: L,
        hard_state: HardState,
        conf_state: ConfState,
        snapshot: SnapshotBase,
    ) -> Result<Self, LogError> {
        // A log kept from before the snapshot starts with an entry whose predecessor's term is forgotten: that entry
        // itself becomes the one the log starts after.
        let first = log.first_index();
        let truncated = if first == snapshot.index + 1 || log.last_index() < first {
            (snapshot.index.max(first - 1), snapshot.term)
        } else {
            let entry = log.read(first, first + 1, 0)?;
            let term = entry.first().map(|entry| entry.term);
            (first, term.ok_or_else(|| missing(first))?)
        };
        Ok(Self {
            log,
            hard_state,
            conf_state,
            snapshot,
            truncated,
            cache: VecDeque::new(),
            cache_bytes: 0,
            snapshot_wanted: Cell::new(false),
            failure: Cell::new(None),
        })
    }

    /// Durable entries become readable.
    pub fn append(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first().map(|entry| entry.index) else {
            return;
        };
        while self.cache.back().is_some_and(|entry| entry.index >= first) {
            let dropped = self.cache.pop_back().expect("seen just above");
            self.cache_bytes -= size(&dropped);
        }
        if self.cache.back().is_some_and(|entry| entry.index + 1 != first) {
            self.forget_cache();
        }
        for entry in entries {
            self.cache_bytes += size(&entry);
            self.cache.push_back(entry);
        }
        while self.cache_bytes > CACHE_BYTES_MAX && self.cache.len() > 1 {
            let dropped = self.cache.pop_front().expect("longer than one");
            self.cache_bytes -= size(&dropped);
        }
    }

    pub fn forget_cache(&mut self) {
        self.cache.clear();
        self.cache_bytes = 0;
    }

    fn last(&self) -> u64 {
        self.cache
            .back()
            .map_or_else(|| self.log.last_index(), |entry| entry.index)
    }

    fn cached(&self, index: u64) -> Option<&Entry> {
        let first = self.cache.front()?.index;
        self.cache.get(usize::try_from(index.checked_sub(first)?).ok()?)
    }

    fn failed(&self, error: &LogError) -> raft::Error {
        self.failure.set(Some(error.what.clone()));
        raft::Error::Store(StorageError::Unavailable)
    }
}

fn missing(index: u64) -> LogError {
    LogError {
        what: format!("entry {index} is missing"),
    }
}

fn size(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len() + 32
}

impl<L: Log> raft::Storage for LogStorage<L> {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.truncated.0 {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        let most = max_size.into().unwrap_or(u64::MAX);
        if self.cached(low).is_none() {
            let until = self.cache.front().map_or(high, |entry| entry.index.min(high));
            return self
                .log
                .read(low, until, most)
                .map_err(|error| self.failed(&error));
        }
        let mut found = Vec::new();
        let mut bytes = 0;
        for index in low..high {
            let Some(entry) = self.cached(index) else { break };
            bytes += size(entry) as u64;
            if bytes > most && !found.is_empty() {
                break;
            }
            found.push(entry.clone());
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.truncated.0 {
            return Ok(self.truncated.1);
        }
        if index == self.snapshot.index {
            return Ok(self.snapshot.term);
        }
        if index < self.truncated.0 {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        if index > self.last() {
            return Err(raft::Error::Store(StorageError::Unavailable));
        }
        if let Some(entry) = self.cached(index) {
            return Ok(entry.term);
        }
        let read = self
            .log
            .read(index, index + 1, 0)
            .map_err(|error| self.failed(&error))?;
        let term = read.first().map(|entry| entry.term);
        term.ok_or_else(|| self.failed(&missing(index)))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.truncated.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last().max(self.truncated.0))
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        // The follower continues with the log after it, so the log must reach back to the snapshot. One from before the
        // follower was added is refused by it.
        let conf = &self.snapshot.conf_state;
        let mut members = conf.voters.iter().chain(&conf.learners);
        let usable = self.snapshot.index >= request_index
            && self.snapshot.index >= self.truncated.0
            && members.any(|member| *member == to);
        if !usable || !self.snapshot.has_file {
            self.snapshot_wanted.set(true);
            return Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        Ok(Snapshot {
            data: Vec::new(),
            metadata: Some(SnapshotMetadata {
                conf_state: Some(self.snapshot.conf_state.clone()),
                index: self.snapshot.index,
                term: self.snapshot.term,
            }),
        })
    }
}
