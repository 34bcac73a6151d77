//! Every bound of the scheduler in one place.

use std::time::Duration;

/// Pod classes whose columns are kept; each costs about 60 bytes per node.
pub const COLUMNS_MAX: usize = 32;
/// Watch events waiting for the scheduling loop; the watches wait beyond that.
pub const EVENTS_MAX: usize = 1024;
/// Watch events taken in before the next pod is scheduled.
pub const EVENTS_PER_TURN: usize = 1024;
/// API writes under way at once; decisions wait beyond that.
pub const WRITES_MAX: usize = 64;
/// Events waiting to be written; the newest are dropped beyond that.
pub const RECORDED_MAX: usize = 4096;
/// Event series remembered for counting.
pub const SERIES_MAX: usize = 1024;
/// How long a repeated event counts as one series.
pub const SERIES_AGE: Duration = Duration::from_secs(6 * 60);
/// How long a claim may take to be bound once its node is chosen.
pub const CLAIM_BIND_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a refused pod waits at most before it is tried without a hint.
pub const UNSCHEDULABLE_MAX: Duration = Duration::from_secs(5 * 60);
