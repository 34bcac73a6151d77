//! Pods that wait to be scheduled: ready now (by priority, then age), backing off, refused until something changes,
//! or gated.
//!
//! Pure: the time is given, in milliseconds of a clock that never goes back. Invariant: a pod is in exactly one place,
//! which `places` names.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::hint::Change;
use crate::model::pod::{Pod, Uid};
use crate::plugins::{PLUGINS, PluginSet};

/// Milliseconds of the process's clock.
pub type Millis = u64;

/// Backoff of pods that failed, doubling from the first to the second.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    pub initial: Duration,
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(10),
        }
    }
}

impl Backoff {
    fn after(&self, attempts: u32) -> Millis {
        let initial = self.initial.as_millis() as u64;
        let doubled = initial.saturating_mul(1 << attempts.saturating_sub(1).min(32));
        doubled.min(self.max.as_millis() as u64)
    }
}

/// Why a pod is put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// These plugins refused it.
    Refused(PluginSet),
    /// Something failed that may work the next time.
    Error,
}

/// A waiting pod.
#[derive(Clone, Debug)]
struct Entry {
    pod: Arc<Pod>,
    attempts: u32,
    queued_at: Millis,
    first_seen: Millis,
    /// When its last attempt failed.
    failed_at: Millis,
    refused_by: PluginSet,
    place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Active(ActiveKey),
    Backoff(BackoffKey),
    Unschedulable,
    Gated,
}

type ActiveKey = (Reverse<i32>, Millis, u64);
/// Expiry; whether the pod may not go before that even when nothing else is to do.
type BackoffKey = (Millis, bool, u64);

/// A pod taken from the queue.
#[derive(Clone, Debug)]
pub struct Popped {
    pub pod: Arc<Pod>,
    pub attempts: u32,
    pub first_seen: Millis,
}

/// The queue.
#[derive(Debug, Default)]
pub struct Queue {
    backoff: Backoff,
    entries: HashMap<Uid, Entry>,
    active: BTreeSet<(ActiveKey, Uid)>,
    backing_off: BTreeSet<(BackoffKey, Uid)>,
    unschedulable: BTreeSet<Uid>,
    sequence: u64,
}

/// Pods per place, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depths {
    pub active: usize,
    pub backoff: usize,
    pub unschedulable: usize,
    pub gated: usize,
}

impl Queue {
    /// A queue with this backoff.
    pub fn new(backoff: Backoff) -> Self {
        Self {
            backoff,
            ..Self::default()
        }
    }

    /// A pending pod appeared or changed.
    pub fn upsert(&mut self, pod: Arc<Pod>, gated: bool, now: Millis) {
        let uid = pod.uid.clone();
        let Some(mut entry) = self.take(&uid) else {
            let entry = Entry {
                pod,
                attempts: 0,
                queued_at: now,
                first_seen: now,
                failed_at: 0,
                refused_by: PluginSet::default(),
                place: Place::Gated,
            };
            self.place(uid, entry, if gated { None } else { Some(now) });
            return;
        };
        let was = entry.place.clone();
        let changed = entry.pod.class.id != pod.class.id;
        entry.pod = pod;
        match was {
            _ if gated => self.place(uid, entry, None),
            Place::Gated => self.place(uid, entry, Some(now)),
            // A change of the pod itself may be what it lacked.
            Place::Unschedulable if changed => self.wake(uid, entry, now),
            place => self.put(uid, entry, place),
        }
    }

    /// Forgets a pod.
    pub fn remove(&mut self, uid: &Uid) -> bool {
        self.take(uid).is_some()
    }

    /// The pod to schedule next.
    ///
    /// When none is active, one that backs off after a refusal (not after an error) goes early: there is nothing
    /// better to do.
    pub fn pop(&mut self, now: Millis) -> Option<Popped> {
        self.flush(now);
        let early = || {
            self.backing_off
                .iter()
                .find(|((_, strict, _), _)| !strict)
                .map(|(_, uid)| uid)
        };
        let uid = self.active.first().map(|(_, uid)| uid).or_else(early)?.clone();
        let entry = self.take(&uid)?;
        Some(Popped {
            pod: entry.pod,
            attempts: entry.attempts + 1,
            first_seen: entry.first_seen,
        })
    }

    /// Puts a popped pod back after a failure.
    pub fn requeue(&mut self, popped: Popped, failure: Failure, now: Millis) {
        let Popped {
            pod,
            attempts,
            first_seen,
        } = popped;
        let uid = pod.uid.clone();
        let refused_by = if let Failure::Refused(set) = failure {
            set
        } else {
            PluginSet::ALL
        };
        let place = Place::Unschedulable;
        let entry = Entry {
            pod,
            attempts,
            queued_at: now,
            first_seen,
            failed_at: now,
            refused_by,
            place: place.clone(),
        };
        match failure {
            Failure::Refused(_) => self.put(uid, entry, place),
            Failure::Error => self.back_off(uid, entry, true),
        }
    }

    /// Wakes the refused pods that a change may help.
    pub fn notice(&mut self, change: Change, now: Millis) {
        let helps = |entry: &Entry| {
            entry.refused_by == PluginSet::ALL
                || PLUGINS
                    .iter()
                    .enumerate()
                    .any(|(at, row)| entry.refused_by.contains(at) && (row.hint)(&change, &entry.pod.class))
        };
        let woken: Vec<Uid> = self
            .unschedulable
            .iter()
            .filter(|uid| self.entries.get(uid).is_some_and(helps))
            .cloned()
            .collect();
        for uid in woken {
            if let Some(entry) = self.take(&uid) {
                self.wake(uid, entry, now);
            }
        }
    }

    /// Wakes one refused pod.
    pub fn activate(&mut self, uid: &Uid, now: Millis) {
        if self.unschedulable.contains(uid)
            && let Some(entry) = self.take(uid)
        {
            self.wake(uid.clone(), entry, now);
        }
    }

    /// When `pop` may next give a pod that it does not give now; `None` when only a change can bring one.
    pub fn next_due(&self) -> Option<Millis> {
        let backoff = self.backing_off.first().map(|((at, ..), _)| *at);
        let max = crate::limits::UNSCHEDULABLE_MAX.as_millis() as u64;
        let waiting = self.unschedulable.iter().filter_map(|uid| self.entries.get(uid));
        let stale = waiting.map(|e| e.failed_at + max).min();
        backoff.into_iter().chain(stale).min()
    }

    /// A waiting pod.
    pub fn get(&self, uid: &Uid) -> Option<&Arc<Pod>> {
        self.entries.get(uid).map(|e| &e.pod)
    }

    /// All waiting pods.
    pub fn pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.entries.values().map(|e| &e.pod)
    }

    /// Pods per place.
    pub fn depths(&self) -> Depths {
        let (active, backoff) = (self.active.len(), self.backing_off.len());
        let unschedulable = self.unschedulable.len();
        Depths {
            active,
            backoff,
            unschedulable,
            gated: self.entries.len() - active - backoff - unschedulable,
        }
    }

    /// Moves pods whose backoff ended, and those refused long ago, to the active ones.
    fn flush(&mut self, now: Millis) {
        while let Some(((at, ..), uid)) = self.backing_off.first()
            && *at <= now
        {
            let uid = uid.clone();
            if let Some(entry) = self.take(&uid) {
                self.place(uid, entry, Some(now));
            }
        }
        let max = crate::limits::UNSCHEDULABLE_MAX.as_millis() as u64;
        let stale = |uid: &&Uid| self.entries.get(*uid).is_some_and(|e| e.failed_at + max <= now);
        let stale: Vec<Uid> = self.unschedulable.iter().filter(stale).cloned().collect();
        for uid in stale {
            if let Some(entry) = self.take(&uid) {
                self.wake(uid, entry, now);
            }
        }
    }

    /// Active, or backing off where its backoff has not ended.
    fn wake(&mut self, uid: Uid, entry: Entry, now: Millis) {
        if entry.failed_at + self.backoff.after(entry.attempts) > now {
            self.back_off(uid, entry, false);
        } else {
            self.place(uid, entry, Some(now));
        }
    }

    fn back_off(&mut self, uid: Uid, entry: Entry, strict: bool) {
        self.sequence += 1;
        let at = entry.failed_at + self.backoff.after(entry.attempts);
        self.put(uid, entry, Place::Backoff((at, strict, self.sequence)));
    }

    /// Active since `now`, or gated.
    fn place(&mut self, uid: Uid, entry: Entry, now: Option<Millis>) {
        let place = match now {
            None => Place::Gated,
            Some(now) => {
                self.sequence += 1;
                let queued_at = if entry.attempts == 0 { entry.queued_at } else { now };
                Place::Active((Reverse(entry.pod.class.priority), queued_at, self.sequence))
            }
        };
        self.put(uid, entry, place);
    }

    fn put(&mut self, uid: Uid, mut entry: Entry, place: Place) {
        match &place {
            Place::Active(key) => _ = self.active.insert((*key, uid.clone())),
            Place::Backoff(key) => _ = self.backing_off.insert((*key, uid.clone())),
            Place::Unschedulable => _ = self.unschedulable.insert(uid.clone()),
            Place::Gated => {}
        }
        entry.place = place;
        self.entries.insert(uid, entry);
    }

    fn take(&mut self, uid: &Uid) -> Option<Entry> {
        let entry = self.entries.remove(uid)?;
        match &entry.place {
            Place::Active(key) => _ = self.active.remove(&(*key, uid.clone())),
            Place::Backoff(key) => _ = self.backing_off.remove(&(*key, uid.clone())),
            Place::Unschedulable => _ = self.unschedulable.remove(uid),
            Place::Gated => {}
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod};

    fn fit() -> Failure {
        let mut set = PluginSet::default();
        set.insert(PLUGINS.iter().position(|r| r.name == "NodeResourcesFit").unwrap());
        Failure::Refused(set)
    }

    fn add(queue: &mut Queue, uid: &str, priority: i32, now: Millis) {
        queue.upsert(
            Arc::new(pod(uid, &format!(r#"{{"priority":{priority}}}"#))),
            false,
            now,
        );
    }

    fn pop(queue: &mut Queue, now: Millis) -> Option<String> {
        queue.pop(now).map(|p| p.pod.name.to_string())
    }

    #[test]
    fn priority_then_age_decides() {
        let mut queue = Queue::default();
        add(&mut queue, "old", 0, 1);
        add(&mut queue, "new", 0, 2);
        add(&mut queue, "important", 9, 3);
        let order: Vec<_> = std::iter::from_fn(|| pop(&mut queue, 5)).collect();
        assert_eq!(order, ["important", "old", "new"]);
    }

    #[test]
    fn a_refused_pod_waits_for_a_change_that_may_help() {
        let mut queue = Queue::default();
        add(&mut queue, "a", 0, 0);
        let popped = queue.pop(0).unwrap();
        queue.requeue(popped, fit(), 10);
        assert_eq!(pop(&mut queue, 20), None);
        queue.notice(Change::NodeRemoved, 30);
        assert_eq!(queue.depths().unschedulable, 1);
        queue.notice(Change::NodeAdded(&node("n", "{}")), 40);
        assert_eq!(queue.depths().backoff, 1, "its backoff has not ended");
        add(&mut queue, "b", 0, 50);
        assert_eq!(pop(&mut queue, 50).as_deref(), Some("b"));
        assert_eq!(pop(&mut queue, 50).as_deref(), Some("a"), "nothing else to do");
    }

    #[test]
    fn errors_back_off_longer_each_time() {
        let mut queue = Queue::default();
        add(&mut queue, "a", 0, 0);
        let mut now = 0;
        for wait in [1000, 2000, 4000, 8000, 10000, 10000] {
            let popped = queue.pop(now).unwrap();
            queue.requeue(popped, Failure::Error, now);
            assert_eq!(queue.next_due(), Some(now + wait));
            assert_eq!(pop(&mut queue, now + wait - 1), None);
            now += wait;
        }
    }

    #[test]
    fn a_refused_pod_is_tried_again_after_five_minutes_anyway() {
        let mut queue = Queue::default();
        add(&mut queue, "a", 0, 0);
        let popped = queue.pop(0).unwrap();
        queue.requeue(popped, fit(), 0);
        assert_eq!(queue.next_due(), Some(300_000));
        assert_eq!(pop(&mut queue, 300_000).as_deref(), Some("a"));
    }

    #[test]
    fn gated_pods_wait_for_their_gates() {
        let mut queue = Queue::default();
        let pod = Arc::new(pod("a", "{}"));
        queue.upsert(pod.clone(), true, 0);
        assert_eq!((pop(&mut queue, 0), queue.depths().gated), (None, 1));
        queue.upsert(pod.clone(), false, 1);
        assert_eq!(pop(&mut queue, 1).as_deref(), Some("a"));
        queue.upsert(pod.clone(), false, 2);
        assert!(queue.remove(&pod.uid));
        assert_eq!(pop(&mut queue, 3), None);
    }
}
