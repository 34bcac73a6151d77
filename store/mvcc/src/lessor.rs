//! When leases expire: known to the leader alone, measured on a clock that is handed in.
//!
//! A lease ends `ttl` after the leader last heard of it. A new leader has heard of none, so it gives each its full time
//! (or what the last checkpoint left of it) from its own start: a lease may live longer than its TTL, never shorter.

use std::collections::{BTreeMap, BTreeSet};

use crate::lease::Leases;

/// When a lease ends, and when it is looked at next: its end, or later when its revocation is under way.
#[derive(Debug, Clone, Copy)]
struct Due {
    deadline: u64,
    queued: u64,
}

/// Expiry of all leases, on the leader. Times are milliseconds of a monotonic clock.
#[derive(Debug, Default)]
pub struct Lessor {
    due: BTreeMap<i64, Due>,
    queue: BTreeSet<(u64, i64)>,
    leading: bool,
}

impl Lessor {
    /// Becomes responsible; `extend_ms` covers the time without a leader.
    pub fn promote(&mut self, leases: &Leases, now_ms: u64, extend_ms: u64) {
        self.demote();
        self.leading = true;
        for (id, lease) in leases.iter() {
            let left_s = if lease.remaining_s > 0 {
                lease.remaining_s
            } else {
                lease.ttl_s
            };
            self.set(id, now_ms + extend_ms + millis(left_s));
        }
    }

    /// Is no longer responsible.
    pub fn demote(&mut self) {
        self.leading = false;
        self.due.clear();
        self.queue.clear();
    }

    /// Whether this member is responsible.
    pub fn is_leading(&self) -> bool {
        self.leading
    }

    /// A lease was granted or kept alive.
    pub fn renew(&mut self, id: i64, ttl_s: i64, now_ms: u64) {
        if self.leading {
            self.set(id, now_ms + millis(ttl_s));
        }
    }

    /// A lease is gone.
    pub fn forget(&mut self, id: i64) {
        if let Some(due) = self.due.remove(&id) {
            self.queue.remove(&(due.queued, id));
        }
    }

    /// Seconds left, rounded up; `None` for an unknown lease, 0 or less once it has expired.
    pub fn remaining_s(&self, id: i64, now_ms: u64) -> Option<i64> {
        let deadline = i64::try_from(self.due.get(&id)?.deadline).unwrap_or(i64::MAX);
        let now = i64::try_from(now_ms).unwrap_or(i64::MAX);
        Some((deadline - now + 999).div_euclid(1000))
    }

    /// Up to `count` expired leases; each is given again `retry_ms` later if it is still there. Its end stays where it
    /// was: what is being revoked must not be kept alive.
    pub fn expired(&mut self, now_ms: u64, count: usize, retry_ms: u64) -> Vec<i64> {
        let due: Vec<(u64, i64)> = self
            .queue
            .range(..=(now_ms, i64::MAX))
            .take(count)
            .copied()
            .collect();
        for (queued, id) in &due {
            self.queue.remove(&(*queued, *id));
            self.queue.insert((now_ms + retry_ms, *id));
            if let Some(due) = self.due.get_mut(id) {
                due.queued = now_ms + retry_ms;
            }
        }
        due.into_iter().map(|(_, id)| id).collect()
    }

    /// When the next lease expires.
    pub fn next_ms(&self) -> Option<u64> {
        self.queue.first().map(|(deadline, _)| *deadline)
    }

    fn set(&mut self, id: i64, deadline: u64) {
        self.forget(id);
        let queued = deadline;
        self.due.insert(id, Due { deadline, queued });
        self.queue.insert((queued, id));
    }
}

fn millis(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_end_when_nobody_renews_them_and_are_offered_until_gone() {
        let mut lessor = Lessor::default();
        lessor.renew(7, 5, 0);
        assert_eq!(lessor.next_ms(), None, "only the leader counts");
        lessor.promote(&Leases::default(), 0, 0);
        lessor.renew(7, 5, 0);
        lessor.renew(8, 9, 0);
        assert_eq!(lessor.remaining_s(7, 1_500), Some(4));
        assert!(lessor.expired(4_999, 10, 500).is_empty());
        lessor.renew(7, 5, 4_999);
        assert!(lessor.expired(5_000, 10, 500).is_empty());
        assert_eq!(lessor.expired(9_999, 10, 500), [8, 7]);
        assert_eq!(lessor.remaining_s(7, 9_999), Some(0), "it is being revoked");
        assert!(lessor.expired(10_000, 10, 500).is_empty());
        lessor.forget(8);
        assert_eq!(lessor.expired(10_600, 10, 500), [7]);
    }
}
