//! A deduplicating work queue with delays and per-key retry pauses.
//!
//! A key waits at most once; a key added while it is worked on waits until that work is done, and is then worked on
//! again. The queue is bounded by the number of distinct keys, which is that of the objects they name.
//!
//! Example: `add(a)`, `next() = a`, `add(a)`, `add(a)`: nothing is ready until `done(a)`, then `next() = a` once.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::limits;

struct State<K> {
    ready: VecDeque<K>,
    /// Keys that have to be worked on: ready, or added again while in work.
    dirty: HashSet<K>,
    in_work: HashSet<K>,
    delayed: BinaryHeap<Reverse<(Instant, u64)>>,
    /// What each entry of `delayed` stands for, and the earliest entry per key.
    delayed_keys: HashMap<u64, K>,
    delayed_until: HashMap<K, (Instant, u64)>,
    serial: u64,
    failures: HashMap<K, u32>,
    adds: u64,
}

impl<K: Clone + Eq + Hash> State<K> {
    fn new() -> Self {
        Self {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            in_work: HashSet::new(),
            delayed: BinaryHeap::new(),
            delayed_keys: HashMap::new(),
            delayed_until: HashMap::new(),
            serial: 0,
            failures: HashMap::new(),
            adds: 0,
        }
    }

    fn add(&mut self, key: K) -> bool {
        if !self.dirty.insert(key.clone()) {
            return false;
        }
        self.adds += 1;
        if self.in_work.contains(&key) {
            return false;
        }
        self.ready.push_back(key);
        true
    }

    fn add_at(&mut self, key: K, at: Instant) {
        if let Some((earlier, serial)) = self.delayed_until.get(&key) {
            if *earlier <= at {
                return;
            }
            self.delayed_keys.remove(serial);
        }
        self.serial += 1;
        self.delayed.push(Reverse((at, self.serial)));
        self.delayed_keys.insert(self.serial, key.clone());
        self.delayed_until.insert(key, (at, self.serial));
    }

    /// Moves what is due to ready; when the next one is due.
    fn due(&mut self, now: Instant) -> Option<Instant> {
        while let Some(Reverse((at, serial))) = self.delayed.peek().copied() {
            if at > now {
                if self.delayed_keys.contains_key(&serial) {
                    return Some(at);
                }
            } else if let Some(key) = self.delayed_keys.remove(&serial) {
                self.delayed_until.remove(&key);
                self.add(key);
            }
            self.delayed.pop();
        }
        None
    }

    fn take(&mut self) -> Option<K> {
        let key = self.ready.pop_front()?;
        self.dirty.remove(&key);
        self.in_work.insert(key.clone());
        Some(key)
    }

    fn done(&mut self, key: &K) -> bool {
        self.in_work.remove(key);
        let again = self.dirty.contains(key);
        if again {
            self.ready.push_back(key.clone());
        }
        again
    }

    fn pause_after_failure(&mut self, key: &K) -> Duration {
        let failures = self.failures.entry(key.clone()).or_insert(0);
        let factor = 2_u32.saturating_pow((*failures).min(30));
        *failures = failures.saturating_add(1);
        limits::RETRY_MIN.saturating_mul(factor).min(limits::RETRY_MAX)
    }
}

/// A queue of keys; clones share it.
pub struct Queue<K> {
    /// Guards everything; held for one operation, never across an await.
    state: Arc<Mutex<State<K>>>,
    changed: Arc<Notify>,
}

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self {
            state: self.state.clone(),
            changed: self.changed.clone(),
        }
    }
}

impl<K: Clone + Eq + Hash> Default for Queue<K> {
    fn default() -> Self {
        Self {
            state: Arc::new(Mutex::new(State::new())),
            changed: Arc::default(),
        }
    }
}

impl<K: Clone + Eq + Hash> Queue<K> {
    /// Has `key` worked on as soon as possible.
    pub fn add(&self, key: K) {
        if self.state.lock().add(key) {
            self.changed.notify_one();
        }
    }

    /// Has `key` worked on after a pause; an earlier time already set is kept.
    pub fn add_after(&self, key: K, pause: Duration) {
        if pause.is_zero() {
            return self.add(key);
        }
        self.state.lock().add_at(key, Instant::now() + pause);
        self.changed.notify_one();
    }

    /// Has `key` worked on again after a failure, later each time.
    pub fn retry(&self, key: K) {
        let mut state = self.state.lock();
        let pause = state.pause_after_failure(&key);
        state.add_at(key, Instant::now() + pause);
        drop(state);
        self.changed.notify_one();
    }

    /// How often `key` failed since it last succeeded.
    pub fn failures(&self, key: &K) -> u32 {
        self.state.lock().failures.get(key).copied().unwrap_or(0)
    }

    /// Ends the growing of pauses: the key succeeded.
    pub fn forget(&self, key: &K) {
        self.state.lock().failures.remove(key);
    }

    /// The next key; it must be given back with `done`.
    pub async fn next(&self) -> K {
        loop {
            let due = {
                let mut state = self.state.lock();
                let due = state.due(Instant::now());
                if let Some(key) = state.take() {
                    if !state.ready.is_empty() {
                        self.changed.notify_one();
                    }
                    return key;
                }
                due
            };
            match due {
                None => self.changed.notified().await,
                Some(at) => tokio::select! {
                    () = self.changed.notified() => {}
                    () = tokio::time::sleep_until(at) => {}
                },
            }
        }
    }

    /// Ends the work on a key.
    pub fn done(&self, key: &K) {
        if self.state.lock().done(key) {
            self.changed.notify_one();
        }
    }

    /// Keys ready to be worked on.
    pub fn depth(&self) -> usize {
        self.state.lock().ready.len()
    }

    /// Keys accepted since the start.
    pub fn adds(&self) -> u64 {
        self.state.lock().adds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_work_waits_for_its_end() {
        let mut state = State::new();
        assert!(state.add('a'));
        assert!(!state.add('a'), "already waiting");
        assert_eq!(state.take(), Some('a'));
        assert!(!state.add('a'));
        assert_eq!(state.take(), None);
        assert!(state.done(&'a'));
        assert_eq!(state.take(), Some('a'));
        assert!(!state.done(&'a'));
        assert_eq!(state.take(), None);
    }

    #[test]
    fn the_earliest_delay_wins() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut state = State::new();
        state.add_at('a', at(5));
        state.add_at('a', at(3));
        state.add_at('a', at(9));
        state.add_at('b', at(7));
        assert_eq!(state.due(at(0)), Some(at(3)));
        assert_eq!(state.due(at(3)), Some(at(7)));
        assert_eq!(state.take(), Some('a'));
        assert_eq!(state.due(at(7)), None);
        assert_eq!(state.take(), Some('b'));
        assert!(state.delayed.is_empty() && state.delayed_keys.is_empty());
    }

    #[test]
    fn pauses_double_up_to_a_bound() {
        let mut state = State::new();
        let pauses: Vec<u128> = (0..3)
            .map(|_| state.pause_after_failure(&'a').as_millis())
            .collect();
        assert_eq!(pauses, [5, 10, 20]);
        (0..40).for_each(|_| {
            state.pause_after_failure(&'a');
        });
        assert_eq!(state.pause_after_failure(&'a'), limits::RETRY_MAX);
        assert_eq!(state.pause_after_failure(&'b'), limits::RETRY_MIN);
    }
}
