//! Pods that wait for a node on which preemption is making room.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::pod::{Pod, Uid};

/// Pending pods with a nominated node.
#[derive(Debug, Default)]
pub struct Nominations {
    by_node: HashMap<Box<str>, Vec<Arc<Pod>>>,
    node_of: HashMap<Uid, Box<str>>,
}

impl Nominations {
    /// Notes where a pod is nominated to, or that it no longer is.
    pub fn set(&mut self, pod: &Arc<Pod>, node: Option<&str>) {
        self.remove(&pod.uid);
        if let Some(node) = node {
            self.node_of.insert(pod.uid.clone(), node.into());
            self.by_node.entry(node.into()).or_default().push(pod.clone());
        }
    }

    /// Forgets a pod.
    pub fn remove(&mut self, uid: &Uid) {
        let Some(node) = self.node_of.remove(uid) else {
            return;
        };
        if let Some(pods) = self.by_node.get_mut(&node) {
            pods.retain(|p| p.uid != *uid);
            if pods.is_empty() {
                self.by_node.remove(&node);
            }
        }
    }

    /// Where a pod is nominated to.
    pub fn node_of(&self, uid: &Uid) -> Option<&str> {
        self.node_of.get(uid).map(|n| &**n)
    }

    /// Whether no pod is nominated anywhere.
    pub fn is_empty(&self) -> bool {
        self.node_of.is_empty()
    }

    /// Other pods nominated to a node whose priority is not below the pod's.
    pub fn ahead_of(&self, pod: &Pod, node: &str) -> Vec<Arc<Pod>> {
        let Some(pods) = self.by_node.get(node) else {
            return Vec::new();
        };
        let ahead = pods
            .iter()
            .filter(|p| p.uid != pod.uid && p.class.priority >= pod.class.priority);
        ahead.cloned().collect()
    }

    /// Pods nominated to a node whose priority is below this: they must look for another place.
    pub fn below(&self, priority: i32, node: &str) -> Vec<Arc<Pod>> {
        let pods = self.by_node.get(node).into_iter().flatten();
        pods.filter(|p| p.class.priority < priority).cloned().collect()
    }
}
