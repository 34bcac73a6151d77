//! Bounds of the replicated state. Bounds of one process's connections are the server's.

/// Bytes of a block of records: small, because reading one record reads the page its block is in.
pub const BLOCK_BYTES: usize = 4 << 10;
/// Recent records are handed to the engine when they pass this size.
pub const FLUSH_BYTES: usize = 1 << 20;
/// Flushed records kept in memory for watchers that are slightly behind.
pub const RECENT_BYTES_KEPT: usize = 4 << 20;
/// Unflushed records at which writers wait for the engine.
pub const UNFLUSHED_BYTES_MAX: usize = 32 << 20;
/// Superseded records one compaction step removes while it holds the state.
pub const COMPACT_STEP_RECORDS: usize = 2_000;
/// Blocks one reclaiming step rewrites while it holds the state.
pub const RECLAIM_STEP_BLOCKS: usize = 16;
/// Lists of dead records one reclaiming step stores while it holds the state.
pub const RECLAIM_STEP_LISTS: usize = 256;
/// Longest lease, in seconds (etcd's bound).
pub const LEASE_TTL_S_MAX: i64 = 9_000_000_000;
/// Members that do not vote (etcd's bound).
pub const LEARNERS_MAX: usize = 1;
/// Revisions one step of a lagging watcher looks at.
pub const CATCH_UP_RECORDS: usize = 1_000;
