//! Every bound of this component, by name. Queues are bounded by the number of objects (see lib/controller).

use std::time::Duration;

/// Endpoints per EndpointSlice (--max-endpoints-per-slice's default).
pub const ENDPOINTS_PER_SLICE_MAX: usize = 100;
/// Addresses in a (legacy) Endpoints object; more are cut off and the object annotated.
pub const ENDPOINTS_ADDRESSES_MAX: usize = 1000;
/// Addresses of one subset that are mirrored (--mirroring-max-endpoints-per-subset's default).
pub const MIRRORED_ADDRESSES_MAX: usize = 1000;
/// Content kinds of one namespace deleted at once.
pub const NAMESPACE_DELETIONS_MAX: usize = 8;
/// Events waiting for the garbage collector's graph.
pub const GC_EVENTS_MAX: usize = 4096;
/// Owners known to be gone, remembered to spare questions to the server (upstream: 500).
pub const GC_ABSENT_OWNERS_MAX: usize = 500;
/// How long discovery is trusted before it is read again.
pub const DISCOVERY_PERIOD: Duration = Duration::from_secs(30);
/// Lifetime asked for the tokens controllers use.
pub const TOKEN_LIFETIME_S: i64 = 3600;
/// How long writes under way at shutdown may take before the lease is released over them.
pub const END_WAIT: Duration = Duration::from_secs(1);
