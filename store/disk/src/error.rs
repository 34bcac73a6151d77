//! What can go wrong on disk, named by step and place.

use std::io;
use std::path::{Path, PathBuf};

/// An operating or consistency error of the disk layer.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The operating system refused or failed.
    #[error("cannot {step} {}", path.display())]
    Io {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Bytes that were once synced are not what was written.
    #[error("{} is damaged at offset {offset}: {what}", path.display())]
    Corrupt {
        path: PathBuf,
        offset: u64,
        what: String,
    },
    /// The directory is in use by another process.
    #[error("{} is used by another process: stop it or give another --data-dir", path.display())]
    Locked { path: PathBuf },
    /// The state engine failed; its content can be rebuilt.
    #[error("the state engine in {} failed to {step}: {what}", path.display())]
    Engine {
        step: &'static str,
        path: PathBuf,
        what: String,
    },
}

impl DiskError {
    /// An I/O error with its place, as a `map_err` argument.
    pub fn io<'a>(step: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io {
            step,
            path: path.to_owned(),
            source,
        }
    }

    /// Damage found in a file.
    pub fn corrupt(path: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Corrupt {
            path: path.to_owned(),
            offset,
            what: what.into(),
        }
    }

    /// Whether the cause is a full disk (or quota), which passes when room is made.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                matches!(
                    source.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                )
            }
            _ => false,
        }
    }
}
