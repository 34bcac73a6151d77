//! One process per data directory.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::DiskError;

/// Held as long as the directory is used; the operating system releases it when the process ends.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

impl DirLock {
    /// Takes the lock or says who may hold it.
    pub fn take(dir: &Path) -> Result<Self, DiskError> {
        let path = dir.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(DiskError::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(DiskError::Locked { path: dir.to_owned() }),
            Err(TryLockError::Error(source)) => Err(DiskError::io("lock", &path)(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_used_once() {
        let dir = tempfile::tempdir().unwrap();
        let held = DirLock::take(dir.path()).unwrap();
        assert!(matches!(DirLock::take(dir.path()), Err(DiskError::Locked { .. })));
        drop(held);
        assert!(DirLock::take(dir.path()).is_ok());
    }
}
