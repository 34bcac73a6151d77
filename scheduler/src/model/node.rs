//! A node as the scheduler keeps it: what it offers, and the sums over the pods on it.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as api;

use super::labels::Labels;
use super::pod::{Pod, Uid};
use super::resources::{Resources, pods_allowed};
use super::terms::{HostPort, Taint};

/// A node and its pods.
#[derive(Clone, Debug, Default)]
pub struct Node {
    pub name: Box<str>,
    pub labels: Labels,
    pub taints: Box<[Taint]>,
    pub unschedulable: bool,
    pub allocatable: Resources,
    pub pods_allowed: i64,
    /// Bytes of each image by every name it has.
    pub images: HashMap<Box<str>, i64>,
    /// The sums below cover exactly these pods.
    pub pods: Vec<Arc<Pod>>,
    pub requested: Resources,
    pub scored_requested: Resources,
    pub ports: Vec<HostPort>,
}

impl Node {
    /// From the API's form, without pods.
    pub fn new(node: &api::Node) -> Self {
        let (spec, status) = (node.spec.as_ref(), node.status.as_ref());
        let allocatable = status.and_then(|s| s.allocatable.as_ref());
        let images = status.and_then(|s| s.images.as_ref()).into_iter().flatten();
        let images = images.flat_map(|image| {
            let size = image.size_bytes.unwrap_or(0);
            image
                .names
                .iter()
                .flatten()
                .map(move |name| (name.as_str().into(), size))
        });
        let taints = spec.and_then(|s| s.taints.as_ref()).into_iter().flatten();
        Self {
            name: node.metadata.name.as_deref().unwrap_or_default().into(),
            labels: Labels::new(node.metadata.labels.as_ref()),
            taints: taints.filter_map(Taint::new).collect(),
            unschedulable: spec.and_then(|s| s.unschedulable).unwrap_or(false),
            allocatable: Resources::new(allocatable),
            pods_allowed: pods_allowed(allocatable),
            images: images.collect(),
            ..Self::default()
        }
    }

    /// Whether both offer the same; pods are not looked at.
    pub fn offers_same(&self, other: &Self) -> bool {
        self.labels == other.labels
            && self.taints == other.taints
            && self.unschedulable == other.unschedulable
            && self.allocatable == other.allocatable
            && self.pods_allowed == other.pods_allowed
            && self.images == other.images
    }

    /// Takes over what `fresh` offers; the pods stay.
    pub fn set_offer(&mut self, fresh: Self) {
        let Self {
            labels,
            taints,
            unschedulable,
            allocatable,
            pods_allowed,
            images,
            ..
        } = fresh;
        (self.labels, self.taints, self.unschedulable) = (labels, taints, unschedulable);
        (self.allocatable, self.pods_allowed, self.images) = (allocatable, pods_allowed, images);
    }

    /// Puts a pod on the node.
    pub fn add_pod(&mut self, pod: Arc<Pod>) {
        self.requested.add(&pod.class.request, 1);
        self.scored_requested.add(&pod.class.scored_request, 1);
        self.ports.extend(pod.class.host_ports.iter().cloned());
        self.pods.push(pod);
    }

    /// Takes a pod off the node.
    pub fn remove_pod(&mut self, uid: &Uid) -> Option<Arc<Pod>> {
        let at = self.pods.iter().position(|p| p.uid == *uid)?;
        let pod = self.pods.swap_remove(at);
        self.requested.add(&pod.class.request, -1);
        self.scored_requested.add(&pod.class.scored_request, -1);
        for port in &pod.class.host_ports {
            if let Some(at) = self.ports.iter().position(|p| p == port) {
                self.ports.swap_remove(at);
            }
        }
        Some(pod)
    }
}

#[cfg(test)]
mod tests {
    use super::super::class::Classes;
    use super::*;

    #[test]
    fn sums_follow_the_pods() {
        let mut classes = Classes::default();
        let mut pod = |uid: &str| {
            let json = format!(
                r#"{{"metadata":{{"uid":"{uid}"}},"spec":{{"containers":[{{"name":"c",
                "ports":[{{"containerPort":80,"hostPort":80}}],
                "resources":{{"requests":{{"cpu":"1","example.com/gpu":"1"}}}}}}]}}}}"#
            );
            Arc::new(Pod::new(&serde_json::from_str(&json).unwrap(), &mut classes))
        };
        let mut node = Node::default();
        node.add_pod(pod("a"));
        node.add_pod(pod("b"));
        assert_eq!((node.requested.milli_cpu, node.ports.len()), (2000, 2));
        assert!(node.remove_pod(&Uid("a".into())).is_some());
        assert!(node.remove_pod(&Uid("a".into())).is_none());
        assert_eq!((node.requested.milli_cpu, node.ports.len()), (1000, 1));
        assert_eq!(node.requested.get("example.com/gpu"), 1);
    }
}
