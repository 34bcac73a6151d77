//! The log as Raft reads it.

use keelson_store_disk::wal::Wal;
use keelson_store_raft::{Entry, Log, LogError};

/// The WAL behind Raft's `Log`.
pub struct WalLog {
    pub wal: Wal,
}

impl Log for WalLog {
    fn first_index(&self) -> u64 {
        self.wal.first_index()
    }

    fn last_index(&self) -> u64 {
        self.wal.last_index()
    }

    fn read(&self, low: u64, high: u64, bytes_max: u64) -> Result<Vec<Entry>, LogError> {
        let wrong = |what: String| LogError { what };
        let found = self
            .wal
            .read(low, high, bytes_max)
            .map_err(|error| wrong(error.to_string()))?;
        found
            .into_iter()
            .map(|(_, data)| keelson_store_raft::decode(&data).map_err(|error| wrong(error.to_string())))
            .collect()
    }
}
