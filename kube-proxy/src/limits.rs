//! Every bound of kube-proxy in one place.

use std::time::Duration;

/// Watch events waiting for the loop; the watches wait beyond that.
pub const EVENTS_MAX: usize = 512;
/// How long a failed transaction waits before the next.
pub const RETRY: Duration = Duration::from_secs(1);
/// Connections an HTTP server has at once.
pub const CONNECTIONS_MAX: usize = 32;
/// Conntrack deletions per transaction; more are replaced by one for the whole service address.
pub const FLOWS_MAX: usize = 256;
