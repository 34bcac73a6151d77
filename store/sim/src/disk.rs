//! A simulated disk: what was not synced may be lost or torn at a crash, a bit may flip, room may run out.
//!
//! A crash can come at any step that changes something (`arm`): the step fails, and everything after it, until `crash`
//! decides what is left. Writes are torn by sectors of 512 bytes; names are lost from the last one on, per directory.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keelson_store_disk::{Disk, DiskFile};
use parking_lot::Mutex;

use crate::chance::Chance;

const SECTOR_BYTES: usize = 512;

enum Write {
    At(usize, Vec<u8>),
    Cut(usize),
}

#[derive(Default)]
struct File {
    live: Vec<u8>,
    synced: Vec<u8>,
    pending: Vec<Write>,
}

enum Name {
    Create(PathBuf, u64),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, u64),
}

impl Name {
    fn dir(&self) -> Option<&Path> {
        match self {
            Self::Create(path, _) | Self::Remove(path) | Self::Rename(path, _, _) => path.parent(),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Create(path, file) => {
                names.insert(path.clone(), *file);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
            Self::Rename(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
        }
    }
}

struct Core {
    chance: Chance,
    names: BTreeMap<PathBuf, u64>,
    durable: BTreeMap<PathBuf, u64>,
    pending: Vec<Name>,
    files: BTreeMap<u64, File>,
    next_file: u64,
    /// Changing steps left until the crash.
    fuse: Option<u64>,
    dead: bool,
    /// Whether writes find no room.
    full: bool,
    loses_syncs: bool,
}

/// One member's disk; clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    /// Guards everything; taken for one call.
    core: Arc<Mutex<Core>>,
}

impl SimDisk {
    /// An empty disk. One that `loses_syncs` acknowledges them and does nothing.
    pub fn new(chance: Chance, loses_syncs: bool) -> Self {
        Self {
            core: Arc::new(Mutex::new(Core {
                chance,
                names: BTreeMap::new(),
                durable: BTreeMap::new(),
                pending: Vec::new(),
                files: BTreeMap::new(),
                next_file: 1,
                fuse: None,
                dead: false,
                full: false,
                loses_syncs,
            })),
        }
    }

    /// The machine stops at the changing step after so many more.
    pub fn arm(&self, steps: u64) {
        self.core.lock().fuse = Some(steps);
    }

    /// The machine does not stop by itself any more.
    pub fn disarm(&self) {
        self.core.lock().fuse = None;
    }

    /// Whether the machine has stopped.
    pub fn is_dead(&self) -> bool {
        self.core.lock().dead
    }

    /// From now on writes find no room, or find some again.
    pub fn set_full(&self, full: bool) {
        self.core.lock().full = full;
    }

    /// Whether writes find no room.
    pub fn is_full(&self) -> bool {
        self.core.lock().full
    }

    /// From now on syncs are honest.
    pub fn be_honest(&self) {
        self.core.lock().loses_syncs = false;
    }

    /// Whether the last write or name is durable.
    pub fn everything_is_durable(&self) -> bool {
        let core = self.core.lock();
        core.pending.is_empty() && core.files.values().all(|file| file.pending.is_empty())
    }

    /// Power is lost and comes back: decides what is left.
    pub fn crash(&self) {
        let core = &mut *self.core.lock();
        let mut kept: BTreeMap<PathBuf, usize> = BTreeMap::new();
        for name in &core.pending {
            *kept
                .entry(name.dir().unwrap_or(Path::new("")).to_owned())
                .or_default() += 1;
        }
        for count in kept.values_mut() {
            *count = core.chance.place(*count + 1);
        }
        for name in std::mem::take(&mut core.pending) {
            if let Some(left) = kept.get_mut(name.dir().unwrap_or(Path::new("")))
                && *left > 0
            {
                *left -= 1;
                name.apply(&mut core.durable);
            }
        }
        core.names = core.durable.clone();
        let used: Vec<u64> = core.names.values().copied().collect();
        core.files.retain(|number, _| used.contains(number));
        for file in core.files.values_mut() {
            for write in std::mem::take(&mut file.pending) {
                land(&mut core.chance, &mut file.synced, write);
            }
            file.live = file.synced.clone();
        }
        core.dead = false;
        core.fuse = None;
    }

    /// Flips one bit of a durable file whose name ends so; false when there is none.
    pub fn flip(&self, suffix: &str) -> bool {
        let core = &mut *self.core.lock();
        let names = core
            .names
            .iter()
            .filter(|(path, _)| path.to_string_lossy().ends_with(suffix));
        let numbers: Vec<u64> = names.map(|(_, number)| *number).collect();
        if numbers.is_empty() {
            return false;
        }
        let number = numbers[core.chance.place(numbers.len())];
        let Some(file) = core.files.get_mut(&number).filter(|file| !file.synced.is_empty()) else {
            return false;
        };
        let place = core.chance.place(file.synced.len());
        file.synced[place] ^= 1 << core.chance.below(8);
        file.live = file.synced.clone();
        true
    }
}

/// A write that was under way: all of it, nothing, or some of its sectors.
fn land(chance: &mut Chance, content: &mut Vec<u8>, write: Write) {
    let fate = chance.below(3);
    match write {
        Write::Cut(length) if fate > 0 => content.resize(length, 0),
        Write::At(offset, bytes) if fate == 2 => put(content, offset, &bytes),
        Write::At(offset, bytes) if fate == 1 => {
            let mut at = offset;
            while at < offset + bytes.len() {
                let end = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(offset + bytes.len());
                if chance.per_mille(500) {
                    put(content, at, &bytes[at - offset..end - offset]);
                }
                at = end;
            }
            let end = offset + bytes.len();
            if content.len() < end && chance.per_mille(500) {
                content.resize(end, 0);
            }
        }
        Write::Cut(_) | Write::At(..) => {}
    }
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

fn stopped() -> io::Error {
    io::Error::other("the simulated machine has stopped")
}

impl Core {
    fn alive(&self) -> io::Result<()> {
        if self.dead { Err(stopped()) } else { Ok(()) }
    }

    /// One changing step; false when the machine stops during it.
    fn step(&mut self) -> io::Result<bool> {
        self.alive()?;
        match &mut self.fuse {
            Some(0) => {
                self.dead = true;
                Ok(false)
            }
            Some(left) => {
                *left -= 1;
                Ok(true)
            }
            None => Ok(true),
        }
    }

    /// Changes a name; a stop may come before or after.
    fn rename(&mut self, name: Name) -> io::Result<()> {
        let whole = self.step()?;
        if whole || self.chance.per_mille(500) {
            name.apply(&mut self.names);
            self.pending.push(name);
        }
        if whole { Ok(()) } else { Err(stopped()) }
    }

    fn file(&mut self, number: u64) -> io::Result<&mut File> {
        self.files
            .get_mut(&number)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn DiskFile>> {
        let mut core = self.core.lock();
        core.alive()?;
        let number = match core.names.get(path) {
            Some(number) => *number,
            None if create => {
                let number = core.next_file;
                core.next_file += 1;
                core.files.insert(number, File::default());
                core.rename(Name::Create(path.to_owned(), number))?;
                number
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Box::new(SimFile {
            core: self.core.clone(),
            number,
        }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let core = self.core.lock();
        core.alive()?;
        let inside = core.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut core = self.core.lock();
        let number = *core.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        core.rename(Name::Rename(from.to_owned(), to.to_owned(), number))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut core = self.core.lock();
        if !core.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        core.rename(Name::Remove(path.to_owned()))
    }

    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        self.core.lock().alive()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let core = &mut *self.core.lock();
        if !core.step()? {
            return Err(stopped());
        }
        if core.loses_syncs {
            return Ok(());
        }
        let (here, elsewhere) = std::mem::take(&mut core.pending)
            .into_iter()
            .partition(|name| name.dir() == Some(dir));
        core.pending = elsewhere;
        let here: Vec<Name> = here;
        for name in here {
            name.apply(&mut core.durable);
        }
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(1 << 40)
    }
}

struct SimFile {
    core: Arc<Mutex<Core>>,
    number: u64,
}

impl DiskFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut core = self.core.lock();
        core.alive()?;
        let file = core.file(self.number)?;
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let found = file
            .live
            .get(from..from + buf.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(found);
        Ok(())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut core = self.core.lock();
        let whole = core.step()?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let full = core.full;
        let bytes = if full { &buf[..buf.len() / 2] } else { buf };
        let file = core.file(self.number)?;
        put(&mut file.live, offset, bytes);
        file.pending.push(Write::At(offset, bytes.to_vec()));
        match (whole, full) {
            (false, _) => Err(stopped()),
            (true, true) => Err(io::ErrorKind::StorageFull.into()),
            (true, false) => Ok(()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        let mut core = self.core.lock();
        let whole = core.step()?;
        let lost = core.loses_syncs || (!whole && core.chance.per_mille(500));
        if !lost {
            let file = core.file(self.number)?;
            file.synced = file.live.clone();
            file.pending.clear();
        }
        if whole { Ok(()) } else { Err(stopped()) }
    }

    fn len(&self) -> io::Result<u64> {
        let mut core = self.core.lock();
        core.alive()?;
        Ok(core.file(self.number)?.live.len() as u64)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut core = self.core.lock();
        let whole = core.step()?;
        let length = usize::try_from(len).map_err(io::Error::other)?;
        let file = core.file(self.number)?;
        file.live.resize(length, 0);
        file.pending.push(Write::Cut(length));
        if whole { Ok(()) } else { Err(stopped()) }
    }
}
