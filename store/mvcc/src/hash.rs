//! Hashes by which members (and etcd's tools) compare their content.

use crc32fast::Hasher;
use prost::Message;

use crate::backend::ReadError;
use crate::error::Failure;
use crate::history::Fetcher;
use crate::{ApiError, Mvcc, Revision};

/// CRC-32 with Castagnoli's polynomial, as etcd uses it.
#[derive(Debug, Clone, Copy)]
struct Castagnoli(u32);

impl Castagnoli {
    fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let place = (self.0 ^ u32::from(*byte)) & 0xff;
            self.0 = TABLE[place as usize] ^ (self.0 >> 8);
        }
    }
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut number = 0;
    while number < 256 {
        let mut value = number as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 {
                (value >> 1) ^ 0x82F6_3B78
            } else {
                value >> 1
            };
            bit += 1;
        }
        table[number] = value;
        number += 1;
    }
    table
};

/// Outcome of `hash_kv`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvHash {
    pub hash: u32,
    pub compact_revision: i64,
    pub hash_revision: i64,
    pub revision: i64,
}

impl Mvcc {
    /// etcd's HashKV: over all revisions up to `at` (0: all) after the compaction, and of those before it what a
    /// compaction at `at` would keep.
    pub fn hash_kv(&self, at: i64) -> Result<KvHash, Failure> {
        if at > 0 && at < self.compacted {
            return Err(ApiError::Compacted.into());
        }
        if at > self.revision {
            return Err(ApiError::FutureRev.into());
        }
        let at = if at == 0 { self.revision } else { at };
        let mut versions: Vec<(Revision, bool)> = self
            .index
            .versions_between(b"", None, 0, at)
            .filter(|(key, version)| {
                let modified = version.modified;
                modified.main > self.compacted || self.index.visible_since(key, modified, at)
            })
            .map(|(_, version)| (version.modified, version.is_tombstone()))
            .collect();
        versions.sort_unstable();
        let mut hasher = Castagnoli(!0);
        hasher.update(b"key");
        let mut fetcher = Fetcher::new(self.engine.as_ref());
        for (revision, tombstone) in versions {
            let place = self.history.locate(revision);
            let record = match place {
                Some(place) => fetcher.fetch(revision, place)?,
                None => None,
            };
            let record = record.ok_or_else(|| ReadError::damaged("a record is missing"))?;
            hasher.update(&revision.to_etcd_bytes(tombstone));
            hasher.update(&stored_form(&record).encode_to_vec());
        }
        Ok(KvHash {
            hash: !hasher.0,
            compact_revision: self.compacted,
            hash_revision: at,
            revision: self.revision,
        })
    }

    /// A hash of everything replicated, for members at the same applied index.
    pub fn hash_all(&self) -> Result<u32, Failure> {
        let kv = self.hash_kv(0)?;
        let mut hasher = Hasher::new();
        hasher.update(&kv.hash.to_le_bytes());
        for (id, lease) in self.leases.iter() {
            hasher.update(&id.to_le_bytes());
            hasher.update(&lease.ttl_s.to_le_bytes());
        }
        for member in self.members.list() {
            hasher.update(&member.encode_to_vec());
        }
        for alarm in self.alarms.list(0) {
            hasher.update(&alarm.encode_to_vec());
        }
        hasher.update(&self.auth.revision().to_le_bytes());
        Ok(hasher.finalize())
    }
}

/// A record as etcd's backend has it: of a deletion only the key.
pub fn stored_form(record: &crate::block::Record) -> keelson_proto::etcd::mvccpb::KeyValue {
    if record.tombstone {
        keelson_proto::etcd::mvccpb::KeyValue {
            key: record.kv.key.clone(),
            ..Default::default()
        }
    } else {
        record.kv.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_polynomial_is_castagnolis() {
        let mut hasher = Castagnoli(!0);
        hasher.update(b"123456789");
        assert_eq!(!hasher.0, 0xE306_9283);
    }
}
