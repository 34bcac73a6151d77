//! Every bound of this crate, by name.

use std::time::Duration;

/// First pause after a failure of a key (client-go's default item limiter: 5 ms).
pub const RETRY_MIN: Duration = Duration::from_millis(5);
/// Longest pause of a key that keeps failing (client-go: 1000 s).
pub const RETRY_MAX: Duration = Duration::from_secs(1000);
/// How long a key waits for its own writes to show before it goes on without.
pub const BARRIER_WAIT: Duration = Duration::from_secs(5);
/// Requests of one plan in flight at once.
pub const REQUESTS_MAX: usize = 64;
/// How long one request may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
