//! Bounds of one member: requests, streams, queues.

/// Longest encoded request; larger ones are refused with etcd's text.
pub const REQUEST_BYTES_MAX: usize = 3 << 19;
/// Room for gRPC and transaction overhead above the request itself.
pub const REQUEST_OVERHEAD_BYTES: usize = 512 << 10;
/// Comparisons and operations in each list of a transaction.
pub const TXN_OPS_MAX: usize = 128;
/// Requests waiting for the member's thread; more are refused as too many requests.
pub const REQUESTS_WAITING_MAX: usize = 5_000;
/// Events queued for one watch stream; its watchers lag beyond that.
pub const WATCH_QUEUE_EVENTS_MAX: usize = 1_024;
/// Bytes queued for one watch stream.
pub const WATCH_QUEUE_BYTES_MAX: usize = 8 << 20;
/// Watchers of one stream.
pub const WATCHERS_PER_STREAM_MAX: usize = 100_000;
/// Client connections of one listener; fewer where the process may open fewer files.
pub const CONNECTIONS_MAX: usize = 20_000;
/// Files that connections leave to log, state and peers.
pub const FILES_RESERVED: usize = 256;
/// Streams of one HTTP/2 connection.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 16_384;
/// Entries kept behind a snapshot for followers that are a little behind.
pub const CATCH_UP_ENTRIES: u64 = 5_000;
/// A snapshot is taken when the log has grown by this, or by the size of the last snapshot if that is more.
pub const SNAPSHOT_LOG_BYTES: u64 = 64 << 20;
/// Entries applied while the state is locked once.
pub const APPLY_BATCH_ENTRIES: usize = 256;
/// Leases revoked per tick.
pub const LEASES_REVOKED_PER_TICK: usize = 1_000;
/// Time after which an expired lease's revocation is proposed again.
pub const LEASE_RETRY_MS: u64 = 3_000;
/// Free bytes below which writes are refused, so that the log's tail always has room.
pub const DISK_RESERVE_BYTES: u64 = 8 << 20;
/// How often a full disk is tried again.
pub const DISK_RETRY_MS: u64 = 200;
/// Messages queued for one peer; more are dropped, which Raft repairs.
pub const PEER_QUEUE_MESSAGES_MAX: usize = 4_096;
/// Bytes of one peer frame.
pub const PEER_FRAME_BYTES_MAX: usize = 64 << 20;
/// Bytes of one piece of a snapshot.
pub const SNAPSHOT_PIECE_BYTES: usize = 1 << 20;
