//! Waiting until the caches show what was just written.
//!
//! Versions are compared within one resource only (KEP-5504): a cache that has seen an object of the kind at version
//! V has seen every change up to V. A list that began after the write shows it too, which covers a cache that missed
//! the write's own event.

use keelson_client::{Informers, Key, Progress};

use crate::action::Target;
use crate::limits::BARRIER_WAIT;

/// A write that was answered.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) target: Target,
    pub(crate) uid: String,
    pub(crate) sign: Sign,
}

/// How a cache shows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Sign {
    /// It is at this version or later.
    Version(u64),
    /// The object is gone or marked for deletion.
    Deleted,
}

/// Whether a cache at `now` shows a write made when it was at `then`.
fn shown(sign: Sign, holds: bool, then: Progress, now: Progress) -> bool {
    let listed = now.lists_done > then.lists_started;
    listed
        || match sign {
            Sign::Version(version) => now.resource_version >= version,
            Sign::Deleted => !holds,
        }
}

/// Returns when every write shows in its kind's cache, or after `BARRIER_WAIT`.
pub(crate) async fn wait(informers: &Informers, writes: &[Written]) {
    let all = async {
        for write in writes {
            let target = &write.target;
            let Some(cache) = informers.cache(&target.group, &target.kind) else {
                continue;
            };
            let key: Key = target.key();
            let then = cache.progress();
            let mut follow = cache.follow();
            // The cache outlives this wait: the registry holds it.
            let _ = follow
                .wait_for(|now| shown(write.sign, cache.holds(&key, &write.uid), then, *now))
                .await;
        }
    };
    if tokio::time::timeout(BARRIER_WAIT, all).await.is_err() {
        tracing::warn!(
            writes = writes.len(),
            "own writes do not show in the cache; going on without"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(resource_version: u64, started: u64, done: u64) -> Progress {
        Progress {
            synced: true,
            resource_version,
            lists_started: started,
            lists_done: done,
        }
    }

    #[test]
    fn a_write_shows_by_version_deletion_or_list() {
        let then = at(5, 1, 1);
        let table = [
            (Sign::Version(7), false, at(6, 1, 1), false),
            (Sign::Version(7), false, at(7, 1, 1), true),
            (Sign::Version(7), false, at(6, 2, 1), false),
            (Sign::Version(7), false, at(6, 2, 2), true),
            (Sign::Deleted, true, at(9, 1, 1), false),
            (Sign::Deleted, false, at(5, 1, 1), true),
        ];
        for (sign, holds, now, expected) in table {
            assert_eq!(shown(sign, holds, then, now), expected, "{sign:?} {now:?}");
        }
    }
}
