//! Simulated watch clients, and what they were owed.
//!
//! `Stream` is the server's part of a watch with a small queue: it lags, catches up from history and joins again as the
//! store's own stream does. `Watcher` is the client: it resumes at another member after what it has seen. `Truth` is the
//! history itself, read from members' state as it grows, and decides whether a watcher's deliveries keep etcd's promises:
//! ordered, unique, reliable, atomic, resumable, bookmarkable.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use keelson_proto::etcd::mvccpb::{Event, KeyValue};
use keelson_store_mvcc::range::End;
use keelson_store_mvcc::watch::{Events, Interest, Outlet};
use keelson_store_mvcc::{ApiError, Mvcc};
use kube_store::member::Shared;
use parking_lot::Mutex;

use crate::chance::Chance;
use crate::world::Mutation;

/// The type of an event that deletes.
const DELETE: i32 = 1;
/// Transactions a stream holds before its watcher lags.
const QUEUE_MAX: usize = 4;

enum Item {
    Events(Arc<Events>),
    Progress(i64),
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    lagging: Option<i64>,
}

/// The server's part of one watch.
pub struct Stream {
    /// Guards the queue; taken under the state's lock or alone.
    queue: Mutex<Queue>,
}

impl Outlet for Stream {
    fn push(&self, _watcher: i64, events: &Arc<Events>) -> bool {
        let mut queue = self.queue.lock();
        if queue.items.len() >= QUEUE_MAX {
            queue.lagging = Some(events.revision);
            return false;
        }
        queue.items.push_back(Item::Events(events.clone()));
        true
    }

    fn lag(&self, _watcher: i64, from: i64) {
        self.queue.lock().lagging = Some(from);
    }
}

/// What a client got.
#[derive(Debug, Clone)]
pub enum Delivery {
    Events(i64, Vec<Event>),
    /// It has been given everything up to here.
    Progress(i64),
    /// History before this is gone; it goes on from here.
    Compacted(i64),
}

struct Attached {
    host: usize,
    incarnation: u64,
    shared: Arc<Shared>,
    stream: Arc<Stream>,
}

/// A client that watches.
pub struct Watcher {
    pub interest: Interest,
    /// The next revision it has not seen; 0 before it has begun.
    next: i64,
    from: i64,
    attached: Option<Attached>,
    pub deliveries: Vec<Delivery>,
}

impl Watcher {
    /// One that starts at a revision; 0: at the present.
    pub fn new(interest: Interest, from: i64) -> Self {
        Self {
            interest,
            next: from,
            from,
            attached: None,
            deliveries: Vec::new(),
        }
    }

    /// Where it is attached.
    pub fn host(&self) -> Option<(usize, u64)> {
        self.attached
            .as_ref()
            .map(|attached| (attached.host, attached.incarnation))
    }

    /// Whether it has seen everything up to a revision.
    pub fn has_seen(&self, revision: i64) -> bool {
        self.next > revision
    }

    /// Leaves its member; what was queued is lost.
    pub fn detach(&mut self) {
        if let Some(attached) = self.attached.take() {
            let outlet: Arc<dyn Outlet> = attached.stream;
            attached
                .shared
                .state
                .write()
                .hub
                .leave(&self.interest, 0, &outlet);
        }
    }

    /// Continues at a member; `mutation` may break that.
    pub fn attach(
        &mut self,
        host: usize,
        incarnation: u64,
        shared: &Arc<Shared>,
        mutation: Option<Mutation>,
    ) {
        let stream = Arc::new(Stream {
            queue: Mutex::default(),
        });
        let mut state = shared.state.write();
        let current = state.revision();
        if self.next == 0 {
            self.next = current + 1;
            self.from = current + 1;
        } else if mutation == Some(Mutation::LateResume) {
            self.next += 1;
        }
        if self.next > current {
            state.hub.join(&self.interest, 0, stream.clone());
        } else {
            stream.lag(0, self.next);
        }
        drop(state);
        self.attached = Some(Attached {
            host,
            incarnation,
            shared: shared.clone(),
            stream,
        });
    }

    /// Takes what is there; `mutation` breaks a promise now and then.
    pub fn poll(&mut self, ask_progress: bool, mutation: Option<Mutation>, chance: &mut Chance) {
        let Some(attached) = &self.attached else { return };
        let (shared, stream) = (attached.shared.clone(), attached.stream.clone());
        if ask_progress {
            let state = shared.state.read();
            let mut queue = stream.queue.lock();
            if queue.lagging.is_none() {
                queue.items.push_back(Item::Progress(state.hub.revision()));
            }
        }
        let mut items: Vec<Item> = stream.queue.lock().items.drain(..).collect();
        let broken = chance.per_mille(100);
        match mutation.filter(|_| broken && !items.is_empty()) {
            Some(Mutation::DroppedEvent) => {
                items.pop();
            }
            Some(Mutation::ReorderedEvents) => items.reverse(),
            _ => {}
        }
        for item in items {
            match item {
                Item::Events(events) => self.deliver(&events, mutation.filter(|_| broken)),
                Item::Progress(revision) => {
                    let high = i64::from(mutation == Some(Mutation::HighBookmark)) * 2;
                    self.next = self.next.max(revision + high + 1);
                    self.deliveries.push(Delivery::Progress(revision + high));
                }
            }
        }
        self.catch_up(&shared, &stream);
    }

    fn deliver(&mut self, events: &Events, mutation: Option<Mutation>) {
        // A member that is behind joins a client that is ahead; the store's stream skips these too.
        if events.revision < self.next && !matches!(mutation, Some(Mutation::ReorderedEvents)) {
            return;
        }
        self.next = events.revision + 1;
        let mut list = events.list.clone();
        if mutation == Some(Mutation::MissingPrevious) {
            list.iter_mut().for_each(|event| event.prev_kv = None);
        }
        match mutation {
            Some(Mutation::SplitTransaction) if list.len() > 1 => {
                for event in list {
                    self.deliveries
                        .push(Delivery::Events(events.revision, vec![event]));
                }
            }
            Some(Mutation::DuplicatedEvent) => {
                self.deliveries
                    .push(Delivery::Events(events.revision, list.clone()));
                self.deliveries.push(Delivery::Events(events.revision, list));
            }
            _ => self.deliveries.push(Delivery::Events(events.revision, list)),
        }
    }

    fn catch_up(&mut self, shared: &Arc<Shared>, stream: &Arc<Stream>) {
        let Some(from) = stream.queue.lock().lagging else {
            return;
        };
        // A client that is ahead of its member is not owed what it has seen elsewhere.
        let from = from.max(self.next);
        let mut state = shared.state.write();
        match state
            .missed(&self.interest, from)
            .expect("engines in memory do not fail")
        {
            Ok(missed) => {
                for events in &missed.batches {
                    self.deliver(events, None);
                }
                let mut queue = stream.queue.lock();
                if missed.upto == state.revision() {
                    queue.lagging = None;
                    drop(queue);
                    state.hub.join(&self.interest, 0, stream.clone());
                } else {
                    queue.lagging = Some(missed.upto + 1);
                }
            }
            Err(ApiError::Compacted) => {
                let compacted = state.compacted();
                stream.queue.lock().lagging = Some(compacted);
                self.next = compacted;
                self.deliveries.push(Delivery::Compacted(compacted));
            }
            Err(error) => panic!("history answers a watcher with {error}"),
        }
    }
}

/// All transactions, as members' states have them.
pub struct Truth {
    /// With the pair before each change.
    transactions: BTreeMap<i64, Vec<Event>>,
    pub revision: i64,
    /// Pairs after the last transaction.
    pairs: BTreeMap<Bytes, KeyValue>,
    /// The newest compaction: what a change up to here replaced may be gone.
    compacted: i64,
}

impl Default for Truth {
    fn default() -> Self {
        Self::new()
    }
}

impl Truth {
    /// Before the first transaction, when the revision is 1.
    pub fn new() -> Self {
        Self {
            transactions: BTreeMap::new(),
            revision: 1,
            pairs: BTreeMap::new(),
            compacted: 0,
        }
    }

    /// Reads what a state has beyond what is known; the new transactions' events.
    pub fn extend(&mut self, state: &Mvcc) -> Result<Vec<Event>, String> {
        let everything = Interest {
            key: Bytes::from_static(&[0]),
            range_end: Bytes::from_static(&[0]),
            no_put: false,
            no_delete: false,
            prev_kv: false,
        };
        let mut new = Vec::new();
        self.compacted = self.compacted.max(state.compacted());
        while self.revision < state.revision() {
            let missed = state.missed(&everything, self.revision + 1);
            let missed = missed.map_err(|error| error.to_string())?;
            let missed = missed.map_err(|error| format!("history after {}: {error}", self.revision))?;
            for events in missed.batches {
                new.extend(events.list.iter().cloned());
                let list = events.list.iter().map(|event| self.follow(event.clone()));
                let list = list.collect();
                self.transactions.insert(events.revision, list);
            }
            self.revision = missed.upto;
        }
        Ok(new)
    }

    /// Completes a change by what was there before it.
    fn follow(&mut self, mut event: Event) -> Event {
        let kv = event.kv.clone().unwrap_or_default();
        event.prev_kv = if event.r#type == DELETE {
            self.pairs.remove(&kv.key)
        } else {
            self.pairs.insert(kv.key.clone(), kv)
        };
        event
    }

    /// Whether some transaction wrote this value.
    pub fn wrote(&self, value: &[u8]) -> bool {
        self.transactions
            .values()
            .flatten()
            .any(|event| event.kv.as_ref().is_some_and(|kv| kv.value == value))
    }

    fn owed(&self, interest: &Interest, after: i64, upto: i64) -> Option<(i64, Vec<&Event>)> {
        if after >= upto {
            return None;
        }
        self.transactions
            .range(after + 1..=upto)
            .find_map(|(revision, events)| {
                let wanted: Vec<&Event> = events.iter().filter(|event| wants(interest, event)).collect();
                (!wanted.is_empty()).then_some((*revision, wanted))
            })
    }

    /// Checks everything a watcher was given, and at the end that nothing is missing.
    pub fn check(&self, watcher: &Watcher) -> Result<(), String> {
        let mut known = watcher.from - 1;
        for delivery in &watcher.deliveries {
            match delivery {
                Delivery::Events(revision, list) => {
                    if *revision <= known {
                        return Err(format!("revision {revision} came after {known} was known"));
                    }
                    match self.owed(&watcher.interest, known, *revision) {
                        Some((owed, events)) if owed == *revision => {
                            let compacted = owed <= self.compacted;
                            if !same(&events, list, watcher.interest.prev_kv, compacted) {
                                return Err(format!("{revision} was {events:?}, delivered as {list:?}"));
                            }
                        }
                        owed => return Err(format!("{revision} came when {owed:?} was owed")),
                    }
                    known = *revision;
                }
                Delivery::Progress(revision) => {
                    if let Some(owed) = self.owed(&watcher.interest, known, *revision) {
                        return Err(format!("bookmark {revision} came before {owed:?}"));
                    }
                    known = known.max(*revision);
                }
                Delivery::Compacted(revision) => known = known.max(*revision - 1),
            }
        }
        match self.owed(&watcher.interest, known, self.revision) {
            Some(owed) => Err(format!("never delivered: {owed:?}")),
            None => Ok(()),
        }
    }
}

fn wants(interest: &Interest, event: &Event) -> bool {
    let deleted = event.r#type == DELETE;
    let filtered = if deleted {
        interest.no_delete
    } else {
        interest.no_put
    };
    let key = event.kv.as_ref().map_or(&[][..], |kv| &kv.key[..]);
    !filtered && End::parse(&interest.range_end).contains(&interest.key, key)
}

/// Whether events are those owed, with the pairs before them if those were asked for and are not `compacted`.
fn same(owed: &[&Event], list: &[Event], prev_kv: bool, compacted: bool) -> bool {
    owed.len() == list.len()
        && owed.iter().zip(list).all(|(owed, event)| {
            let previous = if prev_kv {
                event.prev_kv == owed.prev_kv || (compacted && event.prev_kv.is_none())
            } else {
                event.prev_kv.is_none()
            };
            owed.r#type == event.r#type && owed.kv == event.kv && previous
        })
}
