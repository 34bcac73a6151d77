//! A set of objects that reads like the server's cache.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use keelson_machinery::{GroupResource, ObjectReader};
use serde_json::Value;

/// Objects by resource. Every write moves every generation: simpler than the server's cache, and as correct.
#[derive(Debug, Default)]
pub struct Objects {
    /// Guards the objects.
    objects: Mutex<Vec<(GroupResource, Arc<Value>)>>,
    generation: AtomicU64,
}

impl Objects {
    /// Objects with the group and resource each is kept under.
    pub fn new(objects: impl IntoIterator<Item = (&'static str, &'static str, Value)>) -> Self {
        let all = Self::default();
        for (group, resource, object) in objects {
            all.put(&GroupResource::new(group, resource), object);
        }
        all
    }

    /// Adds the object, or replaces the one of its name.
    pub fn put(&self, resource: &GroupResource, object: Value) {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        objects.retain(|(own, old)| own != resource || key(old) != key(&object));
        objects.push((resource.clone(), Arc::new(object)));
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Takes the object away, if there is one.
    pub fn remove(&self, resource: &GroupResource, namespace: Option<&str>, name: &str) {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        objects.retain(|(own, old)| own != resource || key(old) != (namespace, Some(name)));
        self.generation.fetch_add(1, Ordering::SeqCst);
    }
}

fn key(object: &Value) -> (Option<&str>, Option<&str>) {
    let metadata = &object["metadata"];
    (metadata["namespace"].as_str(), metadata["name"].as_str())
}

impl ObjectReader for Objects {
    fn get(&self, resource: &GroupResource, namespace: Option<&str>, name: &str) -> Option<Arc<Value>> {
        let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let found = objects
            .iter()
            .find(|(own, object)| own == resource && key(object) == (namespace, Some(name)));
        found.map(|(_, object)| object.clone())
    }

    fn list(&self, resource: &GroupResource, namespace: Option<&str>) -> Vec<Arc<Value>> {
        let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = objects
            .iter()
            .filter(|(own, object)| own == resource && (namespace.is_none() || key(object).0 == namespace));
        wanted.map(|(_, object)| object.clone()).collect()
    }

    fn generation(&self, _resource: &GroupResource) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }
}
