//! Every bound of this crate, by name.

use std::time::Duration;

/// Objects per page of an initial list (client-go's reflector default).
pub const LIST_PAGE_SIZE: u32 = 500;
/// First pause after a failed list or watch.
pub const WATCH_BACKOFF_MIN: Duration = Duration::from_millis(50);
/// Longest pause between tries of a list or watch while the server is away.
pub const WATCH_BACKOFF_MAX: Duration = Duration::from_secs(2);
/// Without a failure for this long a watch counts as well; longer than a try to connect and a pause take together.
pub const WATCH_QUIET: Duration = Duration::from_secs(15);
/// Longest pause while a refused watch is retried so: what allows it is being made at this moment.
pub const WATCH_BACKOFF_REFUSED_SOON: Duration = Duration::from_millis(250);
/// How long a refused watch (403, 404) is retried as if the server were starting.
pub const WATCH_REFUSED_PATIENCE: Duration = Duration::from_secs(30);
/// Pause before a resource the server does not serve (or forbids) for longer is asked for again.
pub const WATCH_BACKOFF_REFUSED: Duration = Duration::from_secs(10);
/// Events waiting to be written; more are dropped (client-go's broadcaster: 1000).
pub const EVENTS_QUEUED_MAX: usize = 1000;
/// Distinct event keys remembered for counting (client-go: 4096).
pub const EVENT_KEYS_MAX: usize = 4096;
/// How long establishing a TCP connection may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Quiet time after which an HTTP/2 connection is pinged (client-go: 30 s).
pub const PING_AFTER_IDLE: Duration = Duration::from_secs(30);
/// How long the answer to a ping may take (client-go: 15 s).
pub const PING_TIMEOUT: Duration = Duration::from_secs(15);
/// How often, at most, certificate files are checked for a change.
pub const CERTIFICATE_CHECK_PERIOD: Duration = Duration::from_secs(10);
/// First pause after a try to take a lease that failed; it doubles up to the retry period.
pub const ACQUIRE_BACKOFF_MIN: Duration = Duration::from_millis(50);
/// How long giving a lease back may take at shutdown; the API server may be ending too.
pub const RELEASE_TIMEOUT: Duration = Duration::from_millis(500);
