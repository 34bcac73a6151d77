//! An engine in memory: for tests, for simulation and as the model the real one is compared with.

use std::collections::BTreeMap;

use bytes::Bytes;
use std::sync::{PoisonError, RwLock};

use crate::{Batch, DiskError, Engine, Op};

/// A map; its content ends with the process.
#[derive(Debug, Default)]
pub struct MemoryEngine {
    /// Guards the map; held for one call, never across another lock.
    map: RwLock<BTreeMap<Bytes, Bytes>>,
}

impl Engine for MemoryEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, DiskError> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        Ok(map.get(key).cloned())
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), DiskError> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in map.range(Bytes::copy_from_slice(from)..Bytes::copy_from_slice(to)) {
            if !visit(key, value.clone()) {
                break;
            }
        }
        Ok(())
    }

    fn apply(&self, batch: Batch) -> Result<(), DiskError> {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        for op in batch.ops {
            match op {
                Op::Put(key, value) => {
                    map.insert(key, value);
                }
                Op::Delete(key) => {
                    map.remove(&key);
                }
            }
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), DiskError> {
        Ok(())
    }

    fn size_on_disk(&self) -> u64 {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        map.iter()
            .map(|(key, value)| (key.len() + value.len()) as u64)
            .sum()
    }
}
