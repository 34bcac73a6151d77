//! The contents of one informer: objects by key, with named indexes. Pure: no clock, no I/O.
//!
//! Example: with an index `"node"` that maps a Pod to `spec.nodeName`, `by_index("node", "n1")` is the pods of n1,
//! kept current by `apply` and `delete` without scanning.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use kube::Resource;

/// Namespace (empty for cluster-scoped kinds) and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Empty when the kind has no namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

impl Key {
    /// A key from its parts.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// The key of an object.
    pub fn of<K: Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// A change of one object, as seen by handlers and subscriptions.
#[derive(Debug)]
pub enum Event<K> {
    /// Was not there before.
    Added(Arc<K>),
    /// Changed. After a reconnect `old` and `new` may be different objects (uid) of the same name.
    Modified {
        /// Before.
        old: Arc<K>,
        /// After.
        new: Arc<K>,
    },
    /// Gone; the last known state.
    Deleted(Arc<K>),
}

impl<K> Clone for Event<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Added(new) => Self::Added(new.clone()),
            Self::Modified { old, new } => Self::Modified {
                old: old.clone(),
                new: new.clone(),
            },
            Self::Deleted(old) => Self::Deleted(old.clone()),
        }
    }
}

impl<K> Event<K> {
    /// The object after the change, or its last state when it is gone.
    pub fn object(&self) -> &Arc<K> {
        match self {
            Self::Added(object) | Self::Deleted(object) => object,
            Self::Modified { new, .. } => new,
        }
    }
}

/// Which index values an object has.
pub type IndexFn<K> = fn(&K) -> Vec<String>;

struct Index<K> {
    values: IndexFn<K>,
    keys: HashMap<String, BTreeSet<Key>>,
}

/// Objects of one kind.
pub(crate) struct Store<K> {
    objects: BTreeMap<Key, Arc<K>>,
    indexes: HashMap<&'static str, Index<K>>,
    /// Collects a running list; swapped in by `list_done`.
    listing: Option<BTreeMap<Key, Arc<K>>>,
}

impl<K> Default for Store<K> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            indexes: HashMap::new(),
            listing: None,
        }
    }
}

impl<K: Resource> Store<K> {
    pub(crate) fn add_index(&mut self, name: &'static str, values: IndexFn<K>) {
        if self.indexes.contains_key(name) {
            return;
        }
        let mut index = Index {
            values,
            keys: HashMap::new(),
        };
        for (key, object) in &self.objects {
            index.insert(key, object);
        }
        self.indexes.insert(name, index);
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.objects.get(key).cloned()
    }

    pub(crate) fn list(&self) -> Vec<Arc<K>> {
        self.objects.values().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.objects.len()
    }

    pub(crate) fn list_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.objects
            .range(Key::new(namespace, "")..)
            .take_while(|(key, _)| key.namespace == namespace)
            .map(|(_, object)| object.clone())
            .collect()
    }

    pub(crate) fn by_index(&self, index: &str, value: &str) -> Vec<Arc<K>> {
        let Some(keys) = self.indexes.get(index).and_then(|i| i.keys.get(value)) else {
            return Vec::new();
        };
        keys.iter()
            .filter_map(|key| self.objects.get(key).cloned())
            .collect()
    }

    /// Adds or replaces; `None` when nothing changed (same uid and resourceVersion).
    pub(crate) fn apply(&mut self, object: Arc<K>) -> Option<Event<K>> {
        let key = Key::of(object.as_ref());
        let before = self.objects.insert(key.clone(), object.clone());
        for index in self.indexes.values_mut() {
            if let Some(old) = &before {
                index.remove(&key, old);
            }
            index.insert(&key, &object);
        }
        match before {
            None => Some(Event::Added(object)),
            Some(old) if same(old.as_ref(), object.as_ref()) => None,
            Some(old) => Some(Event::Modified { old, new: object }),
        }
    }

    /// Removes; the event carries the state given by the server.
    pub(crate) fn delete(&mut self, object: Arc<K>) -> Option<Event<K>> {
        let key = Key::of(object.as_ref());
        let old = self.objects.remove(&key)?;
        for index in self.indexes.values_mut() {
            index.remove(&key, &old);
        }
        Some(Event::Deleted(object))
    }

    pub(crate) fn list_start(&mut self) {
        self.listing = Some(BTreeMap::new());
    }

    pub(crate) fn list_item(&mut self, object: Arc<K>) {
        self.listing
            .get_or_insert_default()
            .insert(Key::of(object.as_ref()), object);
    }

    /// Ends a list: what differs from before, deletions first.
    pub(crate) fn list_done(&mut self) -> Vec<Event<K>> {
        let fresh = self.listing.take().unwrap_or_default();
        let gone: Vec<Arc<K>> = self
            .objects
            .iter()
            .filter(|(key, _)| !fresh.contains_key(*key))
            .map(|(_, object)| object.clone())
            .collect();
        let mut events: Vec<Event<K>> = gone.into_iter().filter_map(|o| self.delete(o)).collect();
        events.extend(fresh.into_values().filter_map(|object| self.apply(object)));
        events
    }
}

impl<K> Index<K> {
    fn insert(&mut self, key: &Key, object: &K) {
        for value in (self.values)(object) {
            self.keys.entry(value).or_default().insert(key.clone());
        }
    }

    fn remove(&mut self, key: &Key, object: &K) {
        for value in (self.values)(object) {
            if let Some(keys) = self.keys.get_mut(&value) {
                keys.remove(key);
                if keys.is_empty() {
                    self.keys.remove(&value);
                }
            }
        }
    }
}

fn same<K: Resource>(a: &K, b: &K) -> bool {
    a.meta().uid == b.meta().uid && a.meta().resource_version == b.meta().resource_version
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;

    fn pod(name: &str, version: &str, node: &str) -> Arc<Pod> {
        let mut pod = Pod::default();
        pod.metadata.namespace = Some("ns".into());
        pod.metadata.name = Some(name.into());
        pod.metadata.resource_version = Some(version.into());
        pod.spec.get_or_insert_default().node_name = Some(node.into());
        Arc::new(pod)
    }

    fn by_node(pod: &Pod) -> Vec<String> {
        pod.spec.iter().filter_map(|s| s.node_name.clone()).collect()
    }

    #[test]
    fn indexes_follow_changes() {
        let mut store = Store::default();
        store.apply(pod("a", "1", "n1"));
        store.add_index("node", by_node);
        store.apply(pod("b", "2", "n1"));
        assert_eq!(store.by_index("node", "n1").len(), 2);
        store.apply(pod("a", "3", "n2"));
        assert_eq!(store.by_index("node", "n1").len(), 1);
        assert_eq!(store.by_index("node", "n2").len(), 1);
        store.delete(pod("b", "4", "n1"));
        assert!(store.by_index("node", "n1").is_empty());
        assert_eq!(store.list_namespace("ns").len(), 1);
        assert!(store.list_namespace("n").is_empty());
    }

    #[test]
    fn a_list_yields_only_differences() {
        let mut store = Store::default();
        for name in ["gone", "kept", "changed"] {
            store.apply(pod(name, "1", "n"));
        }
        store.list_start();
        for (name, version) in [("kept", "1"), ("changed", "2"), ("new", "3")] {
            store.list_item(pod(name, version, "n"));
        }
        let seen: Vec<String> = store
            .list_done()
            .iter()
            .map(|event| {
                let name = event.object().metadata.name.clone().unwrap();
                match event {
                    Event::Added(_) => format!("+{name}"),
                    Event::Modified { .. } => format!("~{name}"),
                    Event::Deleted(_) => format!("-{name}"),
                }
            })
            .collect();
        assert_eq!(seen, ["-gone", "~changed", "+new"]);
    }

    #[test]
    fn a_repeated_object_is_no_event() {
        let mut store = Store::default();
        assert!(store.apply(pod("a", "1", "n")).is_some());
        assert!(store.apply(pod("a", "1", "n")).is_none());
    }
}
