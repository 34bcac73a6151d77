//! What is on disk: segmented log, snapshots, state engine.
//!
//! Three layers that do not know each other: `wal` (the truth: every entry, one fsync per batch), `bbolt` (snapshots, in
//! the file format of etcd's backend, so that a snapshot of ours is a snapshot to etcd's tools and theirs one to us), and
//! `engine` (applied state, which can be rebuilt from the other two at any time and is never trusted unchecked).
//! All file access of the log and the snapshots goes through `fs::Disk`, so that a simulated disk fits underneath.
//! Nothing here knows Raft or revisions: the layers above give opaque bytes.

pub mod bbolt;
pub mod engine;
pub mod error;
pub mod fs;
pub mod lock;
pub mod memory_engine;
pub mod sled_engine;
pub mod snapshot;
pub mod wal;

pub use engine::{Batch, Engine, Op};
pub use error::DiskError;
pub use fs::{Disk, DiskFile, RealDisk};
