//! Engines in memory that a crash keeps, loses, sets back to an earlier state, or damages.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keelson_store_disk::memory_engine::MemoryEngine;
use keelson_store_disk::{Batch, DiskError, Engine};
use kube_store::member::open::Engines;
use parking_lot::Mutex;

use crate::chance::Chance;

#[derive(Default)]
struct Held {
    now: BTreeMap<PathBuf, Arc<MemoryEngine>>,
    earlier: BTreeMap<PathBuf, Arc<MemoryEngine>>,
}

/// One member's engines.
#[derive(Default)]
pub struct SimEngines {
    /// Guards the maps; taken for one call.
    held: Mutex<Held>,
}

impl SimEngines {
    /// Keeps a copy that a crash may set back to.
    pub fn remember(&self) {
        let mut held = self.held.lock();
        held.earlier = held
            .now
            .iter()
            .map(|(path, engine)| (path.clone(), Arc::new(copy(engine, None))))
            .collect();
    }

    /// Decides what is left.
    pub fn crash(&self, chance: &mut Chance) {
        let mut held = self.held.lock();
        let earlier = std::mem::take(&mut held.earlier);
        let now = std::mem::take(&mut held.now);
        for (path, engine) in now {
            let left = match chance.below(10) {
                0..4 => engine,
                4..6 => continue,
                6 => Arc::new(copy(&engine, Some(chance))),
                _ => earlier.get(&path).cloned().unwrap_or(engine),
            };
            held.now.insert(path, left);
        }
    }
}

/// A copy; with `damage`, one byte of one value differs.
fn copy(engine: &MemoryEngine, damage: Option<&mut Chance>) -> MemoryEngine {
    let mut rows = Vec::new();
    engine
        .scan(&[], &[0xff; 64], &mut |key, value| {
            rows.push((key.to_vec(), value.to_vec()));
            true
        })
        .expect("a map in memory can be read");
    if let Some(chance) = damage
        && !rows.is_empty()
    {
        let row = chance.place(rows.len());
        let value = &mut rows[row].1;
        if !value.is_empty() {
            let place = chance.place(value.len());
            value[place] ^= 1 << chance.below(8);
        }
    }
    let mut batch = Batch::default();
    for (key, value) in rows {
        batch.put(key, value);
    }
    let copied = MemoryEngine::default();
    copied.apply(batch).expect("a map in memory can be written");
    copied
}

impl Engines for SimEngines {
    fn open(&self, path: &Path) -> Result<Arc<dyn Engine>, DiskError> {
        Ok(self.held.lock().now.entry(path.to_owned()).or_default().clone())
    }

    fn discard(&self, path: &Path) -> Result<(), DiskError> {
        self.held.lock().now.remove(path);
        Ok(())
    }

    fn list(&self, dir: &Path) -> Vec<String> {
        let held = self.held.lock();
        let inside = held.now.keys().filter(|path| path.parent() == Some(dir));
        inside
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect()
    }
}
