//! What authorizers and admission may read: the server's own watch cache, never the store.

use std::sync::Arc;

use serde_json::Value;

use crate::gvk::GroupResource;

/// Read access to the current objects of the server's cache.
///
/// Answers may trail the store by the cache's lag; a caller that must not decide on stale state compares
/// versions in its own write.
pub trait ObjectReader: Send + Sync {
    /// The object, or `None` where the cache has none; `namespace` is `None` for cluster-scoped kinds.
    fn get(&self, resource: &GroupResource, namespace: Option<&str>, name: &str) -> Option<Arc<Value>>;

    /// All objects of a resource, of one namespace or of all.
    fn list(&self, resource: &GroupResource, namespace: Option<&str>) -> Vec<Arc<Value>>;

    /// The pods of a namespace that are bound to a node; those that hold `mention` nowhere may be left out.
    fn pods_on_node(&self, namespace: &str, node: &str, mention: &str) -> Vec<Arc<Value>> {
        let _ = mention;
        let mut pods = self.list(&GroupResource::new("", "pods"), Some(namespace));
        pods.retain(|pod| pod["spec"]["nodeName"] == node);
        pods
    }

    /// Grows with every change of the resource: equal numbers mean equal contents, so what was computed from
    /// a list can be kept until the number moves.
    fn generation(&self, resource: &GroupResource) -> u64;
}
