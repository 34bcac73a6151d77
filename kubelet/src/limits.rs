//! Every bound of the kubelet in one place.

use std::time::Duration;

/// Pods whose sandboxes or containers are being created at once; the runtime gains nothing from more.
pub const POD_STARTS_MAX: usize = 8;
/// Status patches in flight at once.
pub const STATUS_PATCHES_MAX: usize = 16;
/// Image pulls at once (`serializeImagePulls: false`).
pub const IMAGE_PULLS_MAX: usize = 5;
/// Removals of dead sandboxes and containers at once.
pub const REMOVALS_MAX: usize = 2;
/// Longest answer of CRI: lists of all containers of a full node.
pub const CRI_MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Deadline of ordinary CRI calls (`runtimeRequestTimeout`).
pub const CRI_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest termination message kept of one container, and of the tail of a log used instead.
pub const TERMINATION_MESSAGE_BYTES_MAX: usize = 4096;
/// Fallback to logs: bytes and lines.
pub const TERMINATION_LOG_BYTES_MAX: usize = 2048;
pub const TERMINATION_LOG_LINES_MAX: usize = 80;
/// Bytes of a probe's answer that are read, and that are put into an event.
pub const PROBE_BODY_BYTES_MAX: usize = 10 * 1024;
/// Requests to the kubelet's server served at once.
pub const SERVER_CONNECTIONS_MAX: usize = 512;
/// Verdicts of the authorization webhook remembered.
pub const AUTHORIZATION_CACHE_MAX: usize = 1024;
/// Config maps and secrets watched at once.
pub const WATCHED_OBJECTS_MAX: usize = 2048;
/// Sizes of emptyDirs and static manifests.
pub const MANIFEST_BYTES_MAX: u64 = 10 << 20;
/// Images named in the node's status.
pub const NODE_STATUS_IMAGES_MAX: usize = 50;
/// How often everything is compared with the runtime, where the runtime sends events, and where it does not.
pub const RELIST_WITH_EVENTS: Duration = Duration::from_secs(60);
pub const RELIST_WITHOUT_EVENTS: Duration = Duration::from_secs(1);
/// How often garbage is looked for.
pub const GC_PERIOD: Duration = Duration::from_secs(60);
