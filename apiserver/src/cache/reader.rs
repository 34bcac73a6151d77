//! The caches as authorizers, admission and verbs read them.

use std::collections::HashMap;
use std::sync::Arc;

use keelson_machinery::{GroupResource, ObjectReader, Value};
use memchr::memmem;

use super::entry::Entry;
use super::resource::{Page, ResourceCache};
use super::selection::Selection;
use crate::storage::keys;

/// Reads the caches of all resources.
#[derive(Debug)]
pub struct CacheReader {
    caches: HashMap<GroupResource, Arc<ResourceCache>>,
}

impl CacheReader {
    pub fn new(caches: HashMap<GroupResource, Arc<ResourceCache>>) -> Self {
        Self { caches }
    }
}

impl ObjectReader for CacheReader {
    fn get(&self, resource: &GroupResource, namespace: Option<&str>, name: &str) -> Option<Arc<Value>> {
        let key = keys::local(namespace.unwrap_or_default(), name);
        self.caches.get(resource)?.get(&key).map(|entry| entry.value())
    }

    fn list(&self, resource: &GroupResource, namespace: Option<&str>) -> Vec<Arc<Value>> {
        let Some(cache) = self.caches.get(resource) else {
            return Vec::new();
        };
        let selection = Selection::all(namespace.map(str::to_owned));
        let listing = cache.list(&selection, &Page::default());
        listing.entries.iter().map(|entry| entry.value()).collect()
    }

    fn pods_on_node(&self, namespace: &str, node: &str, mention: &str) -> Vec<Arc<Value>> {
        let Some(cache) = self.caches.get(&GroupResource::new("", "pods")) else {
            return Vec::new();
        };
        let mentions = |entry: &Arc<Entry>| memmem::find(&entry.json, mention.as_bytes()).is_some();
        let pods = cache.on_node(namespace, node).into_iter().filter(mentions);
        pods.map(|entry| entry.value()).collect()
    }

    fn generation(&self, resource: &GroupResource) -> u64 {
        self.caches.get(resource).map_or(0, |cache| cache.generation())
    }
}
