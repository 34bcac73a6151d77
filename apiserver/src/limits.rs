//! Every bound of the API server, with why it is what it is.

use std::time::Duration;

/// Largest request body, as upstream: 3 MiB.
pub const REQUEST_BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Bytes of a body too large that are still taken, and thrown away, before the client is told.
pub const REQUEST_BODY_DRAIN_MAX: usize = 64 * 1024 * 1024;
/// Connections open at once; further ones wait in the listen queue.
pub const CONNECTIONS_MAX: usize = 16_384;
/// Time a connection may take for its TLS handshake and first request head.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams one HTTP/2 connection may have open, as upstream.
pub const HTTP2_STREAMS_MAX: u32 = 1_000;
/// Bytes of header a request may carry.
pub const HEADER_BYTES_MAX: u32 = 64 * 1024;
/// Requests that are not long-running may take this long (`--request-timeout`).
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Events one resource's window holds for watches that resume.
pub const WINDOW_EVENTS_MAX: usize = 4_096;
/// Bytes of objects one resource's window may keep alive; at least `WINDOW_EVENTS_MIN` events stay.
pub const WINDOW_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Events a window keeps whatever they weigh.
pub const WINDOW_EVENTS_MIN: usize = 100;
/// Revisions of the store before its start that a server reads into its windows.
pub const HISTORY_REVISIONS: i64 = 4_096;
/// Events waiting for one watcher; one that is further behind is ended and resumes by its resourceVersion.
pub const WATCHER_EVENTS_MAX: usize = 1_024;
/// Bytes gathered into one frame of a streamed list or watch.
pub const FRAME_BYTES: usize = 64 * 1024;
/// Room in a frame for its last piece, so that it seldom grows.
pub const FRAME_SLACK: usize = 12 * 1024;
/// Objects of a list that are encoded before other requests have their turn.
pub const LIST_TURN: usize = 64;

/// Objects one page of the initial read asks of the store.
pub const STORE_PAGE: i64 = 1_000;
/// How long a read waits for the cache to reach a revision, as upstream's `blockTimeout`.
pub const CACHE_WAIT: Duration = Duration::from_secs(3);
/// How long a request to a server that has just started waits for its caches, which tell who may do what.
pub const START_WAIT: Duration = Duration::from_secs(10);
/// Attempts of one read-modify-write before the client is told of the conflict.
pub const UPDATE_ATTEMPTS_MAX: usize = 100;
/// Names generated for one create before it is refused, as upstream.
pub const GENERATE_NAME_ATTEMPTS: usize = 8;
/// One store call may take this long.
pub const STORE_TIMEOUT: Duration = Duration::from_secs(30);
/// Deletions a deletecollection runs side by side.
pub const DELETE_COLLECTION_WORKERS: usize = 8;
/// A list answered smaller than this is sent as it is, also to a client that takes gzip (upstream's threshold).
pub const GZIP_BYTES_MIN: usize = 128 * 1024;
