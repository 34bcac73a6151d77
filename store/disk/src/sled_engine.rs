//! The state engine on sled 0.34, with the guards it needs.
//!
//! Guards: long values are cut into chunks, so that a leaf of 16 stays below 128 KiB (sled keeps larger pages in side files it never syncs);
//! `flush` is followed by `fdatasync` of sled's file (sled itself only starts write-back); a panic while opening counts as
//! damage; all keys live in one tree, so a batch is atomic. Damage is an error here and a rebuild above, never fatal.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::{Batch, DiskError, Engine, Op};

/// Longest value stored in one piece: a leaf splits after 16 values and must stay below 128 KiB with one more.
const CHUNK_BYTES_MAX: usize = 7 << 10;
/// Memory sled may use for pages it has read.
const CACHE_BYTES: u64 = 48 << 20;
/// First byte of a value stored in one piece.
const WHOLE: u8 = 0;
/// First byte of a value stored in chunks; the rest is the number of chunks, 4 bytes big-endian.
const CHUNKED: u8 = 1;
/// First byte of every chunk's key; other keys start with `DATA`.
const CHUNK: u8 = 1;
const DATA: u8 = 0;

/// sled behind `Engine`.
pub struct SledEngine {
    path: PathBuf,
    db: sled::Db,
}

impl SledEngine {
    /// Opens or creates the engine's directory.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        let open = || {
            sled::Config::default()
                .path(path)
                .cache_capacity(CACHE_BYTES)
                .flush_every_ms(None)
                .open()
        };
        let fail = |what: String| DiskError::Engine {
            step: "open",
            path: path.to_owned(),
            what,
        };
        // sled asserts while it recovers; what it cannot read is refilled by our caller.
        let db = catch_unwind(AssertUnwindSafe(open))
            .map_err(|_| fail("it panicked while recovering".to_owned()))?
            .map_err(|error| fail(error.to_string()))?;
        let engine = Self {
            path: path.to_owned(),
            db,
        };
        engine.sync_files()?;
        Ok(engine)
    }

    /// Removes the engine's directory: the state will be rebuilt.
    pub fn discard(path: &Path) -> Result<(), DiskError> {
        match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(DiskError::io("remove", path)(error))
            }
            _ => Ok(()),
        }
    }

    fn failed(&self, step: &'static str) -> impl Fn(sled::Error) -> DiskError + '_ {
        move |error| match error {
            sled::Error::Io(source) => DiskError::Io {
                step,
                path: self.path.clone(),
                source,
            },
            other => DiskError::Engine {
                step,
                path: self.path.clone(),
                what: other.to_string(),
            },
        }
    }

    fn sync_files(&self) -> Result<(), DiskError> {
        for name in ["conf", "db"] {
            let file = self.path.join(name);
            match File::open(&file) {
                Ok(open) => open.sync_data().map_err(DiskError::io("sync", &file))?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(DiskError::io("open", &file)(error)),
            }
        }
        Ok(())
    }

    fn whole(&self, key: &[u8], stored: sled::IVec) -> Result<Bytes, DiskError> {
        match stored.first() {
            Some(&WHOLE) => Ok(Bytes::from_owner(stored).slice(1..)),
            Some(&CHUNKED) if stored.len() == 5 => {
                let chunks = u32::from_be_bytes([stored[1], stored[2], stored[3], stored[4]]);
                let mut value = Vec::new();
                for number in 0..chunks {
                    let chunk = self.db.get(chunk_key(key, number)).map_err(self.failed("read"))?;
                    value.extend_from_slice(&chunk.ok_or_else(|| self.damaged("a chunk is missing"))?);
                }
                Ok(value.into())
            }
            _ => Err(self.damaged("a value has no valid form")),
        }
    }

    /// How many chunks the value now stored under `key` has.
    fn chunks_of(&self, key: &[u8]) -> Result<u32, DiskError> {
        let stored = self.db.get(data_key(key)).map_err(self.failed("read"))?;
        Ok(match stored.as_deref() {
            Some([CHUNKED, count @ ..]) => <[u8; 4]>::try_from(count).map_or(0, u32::from_be_bytes),
            _ => 0,
        })
    }

    fn damaged(&self, what: &str) -> DiskError {
        DiskError::Engine {
            step: "read",
            path: self.path.clone(),
            what: what.to_owned(),
        }
    }
}

impl Engine for SledEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, DiskError> {
        match self.db.get(data_key(key)).map_err(self.failed("read"))? {
            None => Ok(None),
            Some(stored) => self.whole(key, stored).map(Some),
        }
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), DiskError> {
        for item in self.db.range(data_key(from)..data_key(to)) {
            let (key, stored) = item.map_err(self.failed("scan"))?;
            let key = &key[1..];
            if !visit(key, self.whole(key, stored)?) {
                break;
            }
        }
        Ok(())
    }

    fn apply(&self, batch: Batch) -> Result<(), DiskError> {
        let mut changes = sled::Batch::default();
        for op in batch.ops {
            let (Op::Put(key, _) | Op::Delete(key)) = &op;
            for number in 0..self.chunks_of(key)? {
                changes.remove(chunk_key(key, number));
            }
            match op {
                Op::Put(key, value) if value.len() <= CHUNK_BYTES_MAX => {
                    let mut stored = Vec::with_capacity(value.len() + 1);
                    stored.push(WHOLE);
                    stored.extend_from_slice(&value);
                    changes.insert(data_key(&key), stored);
                }
                Op::Put(key, value) => {
                    let mut count = 0u32;
                    for chunk in value.chunks(CHUNK_BYTES_MAX) {
                        changes.insert(chunk_key(&key, count), chunk);
                        count += 1;
                    }
                    let mut stored = vec![CHUNKED];
                    stored.extend_from_slice(&count.to_be_bytes());
                    changes.insert(data_key(&key), stored);
                }
                Op::Delete(key) => {
                    changes.remove(data_key(&key));
                }
            }
        }
        self.db.apply_batch(changes).map_err(self.failed("write"))
    }

    fn flush(&self) -> Result<(), DiskError> {
        self.db.flush().map_err(self.failed("flush"))?;
        self.sync_files()
    }

    fn size_on_disk(&self) -> u64 {
        self.db.size_on_disk().unwrap_or(0)
    }
}

fn data_key(key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(key.len() + 1);
    full.push(DATA);
    full.extend_from_slice(key);
    full
}

fn chunk_key(key: &[u8], number: u32) -> Vec<u8> {
    let mut full = Vec::with_capacity(key.len() + 5);
    full.push(CHUNK);
    full.extend_from_slice(key);
    full.extend_from_slice(&number.to_be_bytes());
    full
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory_engine::MemoryEngine;

    fn check(engine: &dyn Engine) {
        let mut batch = Batch::default();
        batch.put("a", "1");
        batch.put("b", vec![7u8; 300 << 10]);
        batch.put("c", "");
        engine.apply(batch).unwrap();
        assert_eq!(engine.get(b"a").unwrap().unwrap(), "1");
        assert_eq!(engine.get(b"b").unwrap().unwrap().len(), 300 << 10);
        let mut seen = Vec::new();
        engine
            .scan(b"a", b"z", &mut |key, value| {
                seen.push((key.to_vec(), value.len()));
                seen.len() < 3
            })
            .unwrap();
        assert_eq!(
            seen,
            [(b"a".to_vec(), 1), (b"b".to_vec(), 300 << 10), (b"c".to_vec(), 0)]
        );
        let mut batch = Batch::default();
        batch.delete("b");
        batch.put("a", "2");
        batch.delete("missing");
        engine.apply(batch).unwrap();
        assert_eq!(engine.get(b"b").unwrap(), None);
        assert_eq!(engine.get(b"a").unwrap().unwrap(), "2");
    }

    #[test]
    fn behaves_as_the_model_and_keeps_large_values_out_of_blobs() {
        check(&MemoryEngine::default());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let engine = SledEngine::open(&path).unwrap();
        check(&engine);
        engine.flush().unwrap();
        assert_eq!(std::fs::read_dir(path.join("blobs")).unwrap().count(), 0);
        let chunks: Vec<_> = engine.db.range([CHUNK]..).map(|item| item.unwrap().0).collect();
        assert!(
            chunks.is_empty(),
            "chunks of a deleted value are gone: {chunks:?}"
        );
        drop(engine);
        let engine = SledEngine::open(&path).unwrap();
        assert_eq!(engine.get(b"a").unwrap().unwrap(), "2");
    }

    #[test]
    fn a_damaged_directory_is_an_error_and_can_be_discarded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("conf"), b"not a configuration").unwrap();
        assert!(SledEngine::open(&path).is_err());
        SledEngine::discard(&path).unwrap();
        assert!(SledEngine::open(&path).is_ok());
    }
}
