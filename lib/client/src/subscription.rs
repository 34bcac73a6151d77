//! A subscriber's queue of changes, merged per object.
//!
//! A slow subscriber never blocks the watch and never misses the last state: changes of an object that wait are
//! merged into one, so that the queue holds at most one change per object that exists or existed when last read.
//! What is left out: every intermediate state, and an object that came and went unseen.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use kube::Resource;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::store::{Event, Key};

/// Changes not yet taken, in order of each object's first one.
pub(crate) struct Pending<K> {
    order: VecDeque<Key>,
    changes: HashMap<Key, Event<K>>,
}

impl<K> Default for Pending<K> {
    fn default() -> Self {
        Self {
            order: VecDeque::new(),
            changes: HashMap::new(),
        }
    }
}

impl<K: Resource> Pending<K> {
    pub(crate) fn push(&mut self, event: Event<K>) {
        let key = Key::of(event.object().as_ref());
        match self.changes.remove(&key) {
            None => {
                self.order.push_back(key.clone());
                self.changes.insert(key, event);
            }
            Some(waiting) => match merge(waiting, event) {
                Some(merged) => {
                    self.changes.insert(key, merged);
                }
                None => self.order.retain(|k| *k != key),
            },
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Event<K>> {
        let key = self.order.pop_front()?;
        self.changes.remove(&key)
    }
}

/// Two changes of one object as one; `None` when they cancel.
fn merge<K>(first: Event<K>, second: Event<K>) -> Option<Event<K>> {
    match (first, second) {
        (Event::Added(_), Event::Added(new) | Event::Modified { new, .. }) => Some(Event::Added(new)),
        (Event::Added(_), Event::Deleted(_)) => None,
        (
            Event::Modified { old, .. } | Event::Deleted(old),
            Event::Added(new) | Event::Modified { new, .. },
        ) => Some(Event::Modified { old, new }),
        (Event::Modified { .. } | Event::Deleted(_), Event::Deleted(gone)) => Some(Event::Deleted(gone)),
    }
}

pub(crate) struct Shared<K> {
    /// Guards the queue; held for a push or a pop.
    pub(crate) pending: Mutex<Pending<K>>,
    pub(crate) ready: Notify,
}

/// Receives the changes of one informer; starts with `Added` for everything there is.
pub struct Subscription<K> {
    pub(crate) shared: Arc<Shared<K>>,
}

impl<K: Resource> Subscription<K> {
    /// The next change; waits for one. Informers live as long as their process, so it never ends.
    pub async fn recv(&mut self) -> Event<K> {
        loop {
            if let Some(event) = self.try_recv() {
                return event;
            }
            self.shared.ready.notified().await;
        }
    }

    /// The next change if one waits.
    pub fn try_recv(&mut self) -> Option<Event<K>> {
        self.shared.pending.lock().pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    fn object(version: &str) -> Arc<ConfigMap> {
        let mut object = ConfigMap::default();
        object.metadata.name = Some("x".into());
        object.metadata.resource_version = Some(version.into());
        Arc::new(object)
    }

    fn modified(old: &str, new: &str) -> Event<ConfigMap> {
        Event::Modified {
            old: object(old),
            new: object(new),
        }
    }

    fn shown(event: &Event<ConfigMap>) -> String {
        let version = |o: &ConfigMap| o.metadata.resource_version.clone().unwrap();
        match event {
            Event::Added(new) => format!("+{}", version(new)),
            Event::Modified { old, new } => format!("{}>{}", version(old), version(new)),
            Event::Deleted(old) => format!("-{}", version(old)),
        }
    }

    #[test]
    fn waiting_changes_merge() {
        let table: Vec<(Vec<Event<ConfigMap>>, &[&str])> = vec![
            (vec![Event::Added(object("1")), modified("1", "2")], &["+2"]),
            (vec![Event::Added(object("1")), Event::Deleted(object("2"))], &[]),
            (vec![modified("1", "2"), modified("2", "3")], &["1>3"]),
            (vec![modified("1", "2"), Event::Deleted(object("3"))], &["-3"]),
            (
                vec![Event::Deleted(object("3")), Event::Added(object("4"))],
                &["3>4"],
            ),
        ];
        for (events, expected) in table {
            let mut pending = Pending::default();
            events.into_iter().for_each(|event| pending.push(event));
            let seen: Vec<String> = std::iter::from_fn(|| pending.pop()).map(|e| shown(&e)).collect();
            assert_eq!(seen, expected);
        }
    }
}
