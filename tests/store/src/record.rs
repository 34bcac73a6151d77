//! What clients of real processes did and saw, and whether it keeps the store's promises.
//!
//! The checks are pure and the simulation's own; this file only says what a history is. Times of operations are steps of
//! one counter, taken before a request is sent and after its answer has come, so their order is sound. Times of leases
//! are the clock's.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use keelson_store_sim::linear::{self, Op};
use keelson_store_sim::watching::{Delivery, Truth, Watcher};
use parking_lot::Mutex;

/// One lease of a client.
#[derive(Debug, Clone)]
pub struct LeaseRecord {
    pub id: i64,
    pub ttl: Duration,
    /// When the last request was sent that was answered with the lease alive.
    pub alive_at: Instant,
    /// When its key was first seen to be gone.
    pub gone_at: Option<Instant>,
    /// A client asked to end it before its time.
    pub revoked: bool,
}

/// Everything that was recorded.
#[derive(Default)]
pub struct History {
    pub ops: Vec<Op>,
    pub leases: Vec<LeaseRecord>,
    pub watchers: Vec<Watcher>,
    /// Answers that no fault explains.
    pub unexpected: Vec<String>,
}

/// Counts of a history that held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Operations that were answered.
    pub answered: usize,
    /// Writes whose outcome nobody knows.
    pub unknown: usize,
    pub leases: usize,
    /// Watch responses with events.
    pub delivered: usize,
}

impl History {
    /// Judges the history against what a member's disk has.
    pub fn check(&self, truth: &Truth) -> Result<Counts, String> {
        if let Some(first) = self.unexpected.first() {
            return Err(format!("{} answers like: {first}", self.unexpected.len()));
        }
        linear::check(&self.ops)?;
        for (place, watcher) in self.watchers.iter().enumerate() {
            truth
                .check(watcher)
                .map_err(|error| format!("watcher {place}: {error}"))?;
        }
        for lease in &self.leases {
            check_lease(lease)?;
        }
        let delivered = self.watchers.iter().flat_map(|watcher| &watcher.deliveries);
        Ok(Counts {
            answered: self.ops.iter().filter(|op| op.answer.is_some()).count(),
            unknown: self.ops.iter().filter(|op| op.answer.is_none()).count(),
            leases: self.leases.len(),
            delivered: delivered
                .filter(|delivery| matches!(delivery, Delivery::Events(..)))
                .count(),
        })
    }
}

fn check_lease(lease: &LeaseRecord) -> Result<(), String> {
    let Some(gone) = lease.gone_at else {
        return Err(format!("lease {:x} has never ended", lease.id));
    };
    let due = lease.alive_at + lease.ttl;
    if gone < due && !lease.revoked {
        return Err(format!(
            "lease {:x} ended {:?} before its time",
            lease.id,
            due - gone
        ));
    }
    Ok(())
}

/// Takes records of clients that run at once.
#[derive(Default)]
pub struct Recorder {
    step: AtomicU64,
    value: AtomicU64,
    /// Groups of keys are not used beyond one fault: what nobody knows of an operation is searched for in few others.
    pub epoch: AtomicUsize,
    /// Guards what was recorded; held for a push.
    history: Mutex<History>,
}

impl Recorder {
    /// The next step of the counter.
    pub fn step(&self) -> u64 {
        self.step.fetch_add(1, Ordering::SeqCst)
    }

    /// A value nobody has written.
    pub fn value(&self) -> u64 {
        self.value.fetch_add(1, Ordering::Relaxed)
    }

    /// Records an operation.
    pub fn op(&self, op: Op) {
        self.history.lock().ops.push(op);
    }

    /// Records a lease when its client is done with it.
    pub fn lease(&self, lease: LeaseRecord) {
        self.history.lock().leases.push(lease);
    }

    /// Records a watcher.
    pub fn watcher(&self, watcher: Watcher) {
        self.history.lock().watchers.push(watcher);
    }

    /// Records an answer no fault explains.
    pub fn unexpected(&self, what: String) {
        self.history.lock().unexpected.push(what);
    }

    /// Operations answered so far.
    pub fn answered(&self) -> usize {
        let history = self.history.lock();
        history.ops.iter().filter(|op| op.answer.is_some()).count()
    }

    /// Takes the history out, with the moments at which leases' keys were first seen to be gone.
    pub fn take(&self, gone: &std::collections::BTreeMap<i64, Instant>) -> History {
        let mut history = std::mem::take(&mut *self.history.lock());
        for lease in &mut history.leases {
            lease.gone_at = gone.get(&lease.id).copied();
        }
        history
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_ends_early_or_never_is_noticed() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let lease = |gone_at, revoked| LeaseRecord {
            id: 1,
            ttl: 2 * second,
            alive_at: now,
            gone_at,
            revoked,
        };
        assert!(check_lease(&lease(Some(now + 2 * second), false)).is_ok());
        assert!(check_lease(&lease(Some(now + second), false)).is_err());
        assert!(check_lease(&lease(Some(now + second), true)).is_ok());
        assert!(check_lease(&lease(None, true)).is_err());
    }
}
