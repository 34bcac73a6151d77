//! Every bound of the DNS server in one place.

use std::time::Duration;

/// Queries being forwarded at once; more are answered SERVFAIL.
pub const FORWARDED_MAX: usize = 256;
/// TCP connections at once; more wait in the listen queue.
pub const CONNECTIONS_MAX: usize = 128;
/// How long a TCP client may be silent.
pub const IDLE: Duration = Duration::from_secs(10);
/// How long one resolver has to answer.
pub const RESOLVER_TIMEOUT: Duration = Duration::from_secs(2);
/// Resolvers asked about one query.
pub const RESOLVERS_MAX: usize = 3;
/// The largest answer by UDP (what fits every path unfragmented).
pub const UDP_MAX: u16 = 1232;
/// Seconds an answer may be kept.
pub const TTL: u32 = 30;
/// Aliases followed inside the cluster for one query.
pub const ALIASES_MAX: usize = 8;
/// How often a failed write of our Service or EndpointSlice is tried again.
pub const PUBLISH_RETRY: Duration = Duration::from_secs(5);
