//! Delivering changes to watchers.
//!
//! The hub knows the watchers that have seen everything up to its revision. They are grouped by what they watch, so that
//! one list of events is made, and later encoded, for all of a group. A watcher whose stream cannot take more is removed
//! (`Outlet::push` says so); it reads what it missed from history (`Mvcc::missed`) and joins again. So a slow watcher
//! costs writers nothing, and nobody misses or repeats an event.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use keelson_proto::etcd::mvccpb::event::EventType;
use keelson_proto::etcd::mvccpb::{Event, KeyValue};

use crate::backend::ReadError;
use crate::key_index::Version;
use crate::limits::CATCH_UP_RECORDS;
use crate::range::End;
use crate::{ApiError, Mvcc, Revision};

/// One change of a transaction, before it is shaped for watchers.
#[derive(Debug, Clone)]
pub struct Change {
    pub kv: KeyValue,
    /// The version it replaced.
    pub previous: Option<Revision>,
    pub tombstone: bool,
}

/// What a watcher wants to see.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interest {
    pub key: Bytes,
    /// As in requests: empty for one key, one zero byte for all keys from `key` on.
    pub range_end: Bytes,
    pub no_put: bool,
    pub no_delete: bool,
    pub prev_kv: bool,
}

impl Interest {
    fn wants(&self, key: &[u8], tombstone: bool) -> bool {
        let filtered = if tombstone { self.no_delete } else { self.no_put };
        !filtered && End::parse(&self.range_end).contains(&self.key, key)
    }
}

/// The events of one transaction for one interest; shared by all its watchers.
#[derive(Debug)]
pub struct Events {
    pub revision: i64,
    pub list: Vec<Event>,
    /// Bytes they take in a queue, about.
    pub bytes: usize,
    encoded: OnceLock<Bytes>,
}

/// Tag of `WatchResponse.events`.
const EVENTS_TAG: u32 = 11;
/// What an event takes besides keys and values.
const EVENT_OVERHEAD_BYTES: usize = 64;

impl Events {
    fn new(revision: i64, list: Vec<Event>) -> Self {
        let pair = |kv: &Option<KeyValue>| kv.as_ref().map_or(0, |kv| kv.key.len() + kv.value.len());
        let sizes = list
            .iter()
            .map(|event| pair(&event.kv) + pair(&event.prev_kv) + EVENT_OVERHEAD_BYTES);
        Self {
            revision,
            bytes: sizes.sum(),
            list,
            encoded: OnceLock::new(),
        }
    }

    /// The events as fields of a `WatchResponse`, encoded by the first who needs them.
    pub fn encoded(&self) -> &Bytes {
        self.encoded.get_or_init(|| {
            let mut buffer = Vec::with_capacity(self.bytes);
            for event in &self.list {
                prost::encoding::message::encode(EVENTS_TAG, event, &mut buffer);
            }
            buffer.into()
        })
    }
}

/// Where a stream's watchers get their events. Called while the state is locked: it must not wait.
pub trait Outlet: Send + Sync {
    /// Takes events for a watcher; false if there is no room, and then the watcher is lagging from this revision on.
    fn push(&self, watcher: i64, events: &Arc<Events>) -> bool;
    /// The watcher is no longer in the hub and has yet to see what happened from this revision on.
    fn lag(&self, watcher: i64, from: i64);
}

struct Watcher {
    id: i64,
    outlet: Arc<dyn Outlet>,
}

type Group = Vec<Watcher>;

/// The watchers that are up to date.
#[derive(Default)]
pub struct Hub {
    revision: i64,
    /// Interests in one key, by the key.
    single: BTreeMap<Bytes, Vec<Interest>>,
    /// Interests in more than one key.
    ranges: Vec<Interest>,
    groups: BTreeMap<Interest, Group>,
    watchers: usize,
}

impl Hub {
    /// Every watcher in the hub has been given all events up to this revision.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    pub(crate) fn set_revision(&mut self, revision: i64) {
        self.revision = revision;
    }

    /// Watchers in the hub.
    pub fn len(&self) -> usize {
        self.watchers
    }

    /// Whether nobody watches.
    pub fn is_empty(&self) -> bool {
        self.watchers == 0
    }

    /// Adds a watcher that has seen everything up to the hub's revision.
    pub fn join(&mut self, interest: &Interest, id: i64, outlet: Arc<dyn Outlet>) {
        let group = self.groups.entry(interest.clone()).or_insert_with(|| {
            if interest.range_end.is_empty() {
                self.single
                    .entry(interest.key.clone())
                    .or_default()
                    .push(interest.clone());
            } else {
                self.ranges.push(interest.clone());
            }
            Group::new()
        });
        group.push(Watcher { id, outlet });
        self.watchers += 1;
    }

    /// Removes a watcher; one that is not in the hub (lagging) is no error.
    pub fn leave(&mut self, interest: &Interest, id: i64, outlet: &Arc<dyn Outlet>) {
        let Some(group) = self.groups.get_mut(interest) else {
            return;
        };
        let before = group.len();
        group.retain(|watcher| watcher.id != id || !Arc::ptr_eq(&watcher.outlet, outlet));
        self.watchers -= before - group.len();
        self.forget_if_empty(interest);
    }

    /// Removes all watchers of an outlet, one walk for each of their interests.
    pub fn leave_all<'a>(
        &mut self,
        interests: impl IntoIterator<Item = &'a Interest>,
        outlet: &Arc<dyn Outlet>,
    ) {
        for interest in interests {
            let Some(group) = self.groups.get_mut(interest) else {
                continue;
            };
            let before = group.len();
            group.retain(|watcher| !Arc::ptr_eq(&watcher.outlet, outlet));
            self.watchers -= before - group.len();
            self.forget_if_empty(interest);
        }
    }

    /// Makes every watcher lag: the state is being replaced by a newer one, whose history they read.
    pub fn dismiss(&mut self) {
        for watcher in self.groups.values().flatten() {
            watcher.outlet.lag(watcher.id, self.revision + 1);
        }
        *self = Self {
            revision: self.revision,
            ..Self::default()
        };
    }

    /// Gives a transaction's changes to everyone interested. `fetch` reads a replaced version.
    pub(crate) fn publish(
        &mut self,
        revision: i64,
        changes: &[Change],
        mut fetch: impl FnMut(Revision) -> Result<KeyValue, ReadError>,
    ) -> Result<(), ReadError> {
        self.revision = revision;
        if self.watchers == 0 {
            return Ok(());
        }
        let mut interested: BTreeMap<&Interest, Vec<usize>> = BTreeMap::new();
        for (number, change) in changes.iter().enumerate() {
            let single = self.single.get(&change.kv.key).into_iter().flatten();
            for interest in single.chain(&self.ranges) {
                if interest.wants(&change.kv.key, change.tombstone) {
                    interested.entry(interest).or_default().push(number);
                }
            }
        }
        let mut emptied = Vec::new();
        let mut previous: BTreeMap<usize, KeyValue> = BTreeMap::new();
        for (interest, numbers) in interested {
            let mut list = Vec::with_capacity(numbers.len());
            for number in numbers {
                let change = &changes[number];
                let mut prev_kv = None;
                if let Some(replaced) = change.previous.filter(|_| interest.prev_kv) {
                    // A version of the same transaction is not what was there before it.
                    if let std::collections::btree_map::Entry::Vacant(slot) = previous.entry(number) {
                        slot.insert(fetch(replaced)?);
                    }
                    prev_kv = previous.get(&number).cloned();
                }
                list.push(event(change.kv.clone(), change.tombstone, prev_kv));
            }
            let events = Arc::new(Events::new(revision, list));
            if let Some(group) = self.groups.get_mut(interest) {
                let before = group.len();
                group.retain(|watcher| watcher.outlet.push(watcher.id, &events));
                self.watchers -= before - group.len();
                if group.is_empty() {
                    emptied.push(interest.clone());
                }
            }
        }
        for interest in emptied {
            self.forget_if_empty(&interest);
        }
        Ok(())
    }

    fn forget_if_empty(&mut self, interest: &Interest) {
        if self.groups.get(interest).is_none_or(|group| !group.is_empty()) {
            return;
        }
        self.groups.remove(interest);
        if interest.range_end.is_empty() {
            if let Some(interests) = self.single.get_mut(&interest.key) {
                interests.retain(|known| known != interest);
                if interests.is_empty() {
                    self.single.remove(&interest.key);
                }
            }
        } else {
            self.ranges.retain(|known| known != interest);
        }
    }
}

fn event(kv: KeyValue, tombstone: bool, prev_kv: Option<KeyValue>) -> Event {
    let kind = if tombstone {
        EventType::Delete
    } else {
        EventType::Put
    };
    Event {
        r#type: kind as i32,
        kv: Some(kv),
        prev_kv,
    }
}

/// What a lagging watcher gets next.
#[derive(Debug)]
pub struct Missed {
    pub batches: Vec<Arc<Events>>,
    /// Everything up to here is in `batches` or before them.
    pub upto: i64,
}

impl Mvcc {
    /// Events of whole transactions from `first` on, some at a time. When `Missed::upto` is the state's revision, the
    /// watcher may join the hub under the same lock.
    pub fn missed(&self, interest: &Interest, first: i64) -> Result<Result<Missed, ApiError>, ReadError> {
        if first < self.compacted {
            return Ok(Err(ApiError::Compacted));
        }
        let current = self.revision;
        let to = match End::parse(&interest.range_end) {
            End::Open => None,
            End::Before(end) => Some(end),
            End::Single => {
                let mut next = interest.key.to_vec();
                next.push(0);
                return self.missed_between(interest, Some(&next), first, current).map(Ok);
            }
        };
        self.missed_between(interest, to, first, current).map(Ok)
    }

    fn missed_between(
        &self,
        interest: &Interest,
        to: Option<&[u8]>,
        first: i64,
        current: i64,
    ) -> Result<Missed, ReadError> {
        let found = self.index.versions_between(&interest.key, to, first, current);
        let mut versions: Vec<Version> = found
            .filter(|(key, version)| interest.wants(key, version.is_tombstone()))
            .map(|(_, version)| *version)
            .collect();
        versions.sort_unstable_by_key(|version| version.modified);
        let mut upto = current;
        if let Some(last) = versions.get(CATCH_UP_RECORDS) {
            // Whole transactions only; one that alone is longer goes out whole.
            let cut = versions.partition_point(|version| version.modified.main < last.modified.main);
            let cut = if cut == 0 {
                versions.partition_point(|version| version.modified.main <= last.modified.main)
            } else {
                cut
            };
            versions.truncate(cut);
            upto = versions.last().map_or(current, |version| version.modified.main);
        }
        let mut batches: Vec<Arc<Events>> = Vec::new();
        let mut start = 0;
        for end in 1..=versions.len() {
            let main = versions[start].modified.main;
            if versions.get(end).is_some_and(|next| next.modified.main == main) {
                continue;
            }
            let mut list = Vec::with_capacity(end - start);
            for version in &versions[start..end] {
                list.push(self.past_event(interest, version)?);
            }
            batches.push(Arc::new(Events::new(main, list)));
            start = end;
        }
        Ok(Missed { batches, upto })
    }

    fn past_event(&self, interest: &Interest, version: &Version) -> Result<Event, ReadError> {
        let mut kv = self.fetch(version.modified)?;
        let mut prev_kv = None;
        if interest.prev_kv
            && let Some(previous) = self.index.previous(&kv.key, version.modified)
        {
            prev_kv = Some(self.fetch(previous.modified)?);
        }
        if version.is_tombstone() {
            kv.mod_revision = version.modified.main;
        }
        Ok(event(kv, version.is_tombstone(), prev_kv))
    }
}
