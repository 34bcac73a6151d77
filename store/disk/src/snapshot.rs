//! Snapshot files: a bbolt database followed by its SHA-256, as `etcdctl snapshot save` writes them.
//!
//! In a data directory they are named by term and index; a file under its final name is complete and durable. Only the
//! newest is kept, and the one before until the newest has been checked.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::bbolt::PAGE_BYTES;
use crate::fs::temporary;
use crate::{Disk, DiskError, bbolt};

/// Bytes of the trailing hash.
pub const HASH_BYTES: u64 = 32;
/// Piece in which files are hashed.
const PIECE_BYTES: usize = 1 << 20;

/// A snapshot in a data directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotFile {
    pub index: u64,
    pub term: u64,
    pub path: PathBuf,
}

/// The name of the snapshot at `index`.
pub fn path(dir: &Path, term: u64, index: u64) -> PathBuf {
    dir.join(format!("{term:016x}-{index:016x}.db"))
}

/// Complete snapshots, newest first.
pub fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<SnapshotFile>, DiskError> {
    let mut found = Vec::new();
    for name in disk.list(dir).map_err(DiskError::io("list", dir))? {
        let numbers = name.strip_suffix(".db").and_then(|stem| stem.split_once('-'));
        let Some((term, index)) = numbers else { continue };
        let (Ok(term), Ok(index)) = (u64::from_str_radix(term, 16), u64::from_str_radix(index, 16)) else {
            continue;
        };
        found.push(SnapshotFile {
            index,
            term,
            path: dir.join(name),
        });
    }
    found.sort_by(|a, b| b.cmp(a));
    Ok(found)
}

/// Writes a snapshot under its final name, durable and with its hash. `fill` writes the buckets.
pub fn write(
    disk: &dyn Disk,
    path: &Path,
    fill: impl FnOnce(&mut bbolt::Writer) -> Result<(), DiskError>,
) -> Result<u64, DiskError> {
    let unfinished = temporary(path);
    let write = || {
        let file = disk
            .open(&unfinished, true)
            .map_err(DiskError::io("create", &unfinished))?;
        let mut writer = bbolt::Writer::new(file, &unfinished)?;
        fill(&mut writer)?;
        let size = writer.finish()?;
        let file = disk
            .open(&unfinished, false)
            .map_err(DiskError::io("open", &unfinished))?;
        let hash = hash(file.as_ref(), &unfinished, size)?;
        file.write_at(&hash, size)
            .map_err(DiskError::io("write", &unfinished))?;
        file.sync().map_err(DiskError::io("sync", &unfinished))?;
        Ok(size + HASH_BYTES)
    };
    let size = match write() {
        Ok(size) => size,
        Err(error) => {
            // Nothing refers to an unfinished file; leaving it would only keep the disk full.
            let _ = disk.remove(&unfinished);
            return Err(error);
        }
    };
    install(disk, &unfinished, path)?;
    Ok(size)
}

/// Gives a complete file its final name, durably.
pub fn install(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), DiskError> {
    disk.rename(from, to).map_err(DiskError::io("rename", from))?;
    let dir = to.parent().unwrap_or(Path::new("."));
    disk.sync_dir(dir).map_err(DiskError::io("sync", dir))
}

/// Checks the trailing hash. A file without one (copied from a data directory of etcd) gives false.
pub fn check(disk: &dyn Disk, path: &Path) -> Result<bool, DiskError> {
    let file = disk.open(path, false).map_err(DiskError::io("open", path))?;
    let length = file.len().map_err(DiskError::io("stat", path))?;
    if length % 512 != HASH_BYTES || length < PAGE_BYTES as u64 {
        return Ok(false);
    }
    let size = length - HASH_BYTES;
    let mut stored = [0; HASH_BYTES as usize];
    file.read_at(&mut stored, size)
        .map_err(DiskError::io("read", path))?;
    if hash(file.as_ref(), path, size)? != stored {
        return Err(DiskError::corrupt(
            path,
            0,
            "the snapshot's SHA-256 does not match its content",
        ));
    }
    Ok(true)
}

/// Removes all but the newest snapshot, and unfinished files.
pub fn purge(disk: &dyn Disk, dir: &Path) -> Result<(), DiskError> {
    for old in list(disk, dir)?.into_iter().skip(1) {
        disk.remove(&old.path)
            .map_err(DiskError::io("remove", &old.path))?;
    }
    Ok(())
}

fn hash(file: &dyn crate::DiskFile, path: &Path, size: u64) -> Result<[u8; 32], DiskError> {
    let mut hasher = Sha256::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut offset = 0;
    while offset < size {
        let length = usize::try_from(size - offset)
            .unwrap_or(usize::MAX)
            .min(PIECE_BYTES);
        file.read_at(&mut piece[..length], offset)
            .map_err(DiskError::io("read", path))?;
        hasher.update(&piece[..length]);
        offset += length as u64;
    }
    Ok(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RealDisk;

    #[test]
    fn a_snapshot_is_found_checked_and_its_damage_named() {
        let dir = tempfile::tempdir().unwrap();
        for index in [5, 9] {
            let path = path(dir.path(), 2, index);
            write(&RealDisk, &path, |writer| {
                writer.bucket(b"key")?;
                writer.put(b"a", &index.to_be_bytes())
            })
            .unwrap();
        }
        let found = list(&RealDisk, dir.path()).unwrap();
        assert_eq!(found.iter().map(|file| file.index).collect::<Vec<_>>(), [9, 5]);
        assert!(check(&RealDisk, &found[0].path).unwrap());
        purge(&RealDisk, dir.path()).unwrap();
        assert_eq!(list(&RealDisk, dir.path()).unwrap().len(), 1);
        let mut bytes = std::fs::read(&found[0].path).unwrap();
        bytes[5000] ^= 1;
        std::fs::write(&found[0].path, bytes).unwrap();
        assert!(matches!(
            check(&RealDisk, &found[0].path),
            Err(DiskError::Corrupt { .. })
        ));
    }
}
