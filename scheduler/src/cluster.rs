//! The cluster as scheduling sees it, kept up to date event by event and never copied.
//!
//! Nodes live in slots with stable indexes, so that whatever is worked out per node can be a plain array beside them
//! (`columns`, topology domains). Every change of a node, or of the pods on it, gives it a new generation; a reader
//! that remembers the last generation it saw redoes only the nodes that changed since.
//!
//! Invariants: a placement counts exactly the pods in `Node::pods`; a slot without a node object and without pods is
//! free; pods may be on a node that is not known (its object comes later, or is gone), which is then not live.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::model::class::{ClassId, NodeCounts, Placement};
use crate::model::node::Node;
use crate::model::pod::{Pod, Uid};
use crate::objects::Objects;

/// A node's slot.
pub type NodeIndex = u32;

/// The domain of a node that lacks a topology's label.
pub const NO_DOMAIN: u32 = u32::MAX;

/// One topology key: nodes' values as small numbers.
#[derive(Debug, Default)]
pub struct Topology {
    /// By node index; `NO_DOMAIN` where the label is missing.
    pub domain: Vec<u32>,
    ids: HashMap<Box<str>, u32>,
}

impl Topology {
    /// Domains are below this.
    pub fn domains(&self) -> usize {
        self.ids.len()
    }

    fn set(&mut self, index: NodeIndex, value: Option<&str>) {
        let next = self.ids.len() as u32;
        let domain = value.map_or(NO_DOMAIN, |v| match self.ids.get(v) {
            Some(id) => *id,
            None => *self.ids.entry(v.into()).or_insert(next),
        });
        if self.domain.len() <= index as usize {
            self.domain.resize(index as usize + 1, NO_DOMAIN);
        }
        self.domain[index as usize] = domain;
    }
}

/// Nodes, pods on them, and the objects filters and scores look at.
#[derive(Debug, Default)]
pub struct Cluster {
    nodes: Vec<Node>,
    /// By node index: has a node object.
    live: Vec<bool>,
    /// By node index: generation of the last change.
    changed: Vec<u64>,
    generation: u64,
    /// Changes when something every node's verdicts depend on does.
    epoch: u64,
    live_count: usize,
    by_name: HashMap<Box<str>, NodeIndex>,
    free: Vec<NodeIndex>,
    placements: HashMap<ClassId, Placement>,
    by_namespace: HashMap<Box<str>, BTreeSet<ClassId>>,
    with_affinity: BTreeSet<ClassId>,
    topologies: HashMap<Box<str>, Topology>,
    image_nodes: HashMap<Box<str>, u32>,
    pub objects: Objects,
}

impl Cluster {
    /// The node in a slot.
    pub fn node(&self, index: NodeIndex) -> &Node {
        &self.nodes[index as usize]
    }

    /// A live node by name.
    pub fn find(&self, name: &str) -> Option<NodeIndex> {
        self.by_name.get(name).copied().filter(|i| self.live[*i as usize])
    }

    /// Slots there are; the arrays beside the nodes have this length.
    pub fn slots(&self) -> usize {
        self.nodes.len()
    }

    /// Nodes with a node object.
    pub fn live_count(&self) -> usize {
        self.live_count
    }

    /// The slots of live nodes.
    pub fn live(&self) -> impl Iterator<Item = NodeIndex> + '_ {
        (0u32..)
            .zip(&self.live)
            .filter(|(_, live)| **live)
            .map(|(i, _)| i)
    }

    /// Whether a slot has a node object.
    pub fn is_live(&self, index: NodeIndex) -> bool {
        self.live[index as usize]
    }

    /// The generation of a slot's last change.
    pub fn changed(&self, index: NodeIndex) -> u64 {
        self.changed[index as usize]
    }

    /// The generation of the last change of any node.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Changes when every node must be looked at anew.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Classes of a namespace that have pods on nodes.
    pub fn placements_in(&self, namespace: &str) -> impl Iterator<Item = &Placement> {
        let ids = self.by_namespace.get(namespace).into_iter().flatten();
        ids.filter_map(|id| self.placements.get(id))
    }

    /// All classes that have pods on nodes.
    pub fn placements(&self) -> impl Iterator<Item = &Placement> {
        self.placements.values()
    }

    /// Classes with pods on nodes that say something about pods near them.
    pub fn placements_with_affinity(&self) -> impl Iterator<Item = &Placement> {
        self.with_affinity.iter().filter_map(|id| self.placements.get(id))
    }

    /// The domains of a topology key, once `want_topology` asked for it.
    pub fn topology(&self, key: &str) -> Option<&Topology> {
        self.topologies.get(key)
    }

    /// How many live nodes have an image.
    pub fn nodes_with_image(&self, image: &str) -> u32 {
        self.image_nodes.get(image).copied().unwrap_or(0)
    }

    /// Keeps the domains of a topology key from now on.
    pub fn want_topology(&mut self, key: &str) {
        if self.topologies.contains_key(key) {
            return;
        }
        let mut topology = Topology::default();
        for (index, node) in (0..).zip(&self.nodes) {
            let value = if self.live[index as usize] {
                node.labels.get(key)
            } else {
                None
            };
            topology.set(index, value);
        }
        self.topologies.insert(key.into(), topology);
    }

    /// A node object appeared or changed. Returns what it offered before, when it was live.
    pub fn set_node(&mut self, fresh: Node) -> Option<Node> {
        let index = self.slot(&fresh.name);
        let was_live = std::mem::replace(&mut self.live[index as usize], true);
        let node = &mut self.nodes[index as usize];
        if was_live && node.offers_same(&fresh) {
            return None;
        }
        let before = was_live.then(|| Node {
            pods: Vec::new(),
            ..node.clone()
        });
        let images_changed = !was_live || node.images != fresh.images;
        if images_changed {
            count_images(&mut self.image_nodes, node, -1);
        }
        node.set_offer(fresh);
        if images_changed {
            count_images(&mut self.image_nodes, node, 1);
            self.epoch += 1;
        }
        if !was_live {
            self.live_count += 1;
        }
        self.retopologize(index);
        self.touch(index);
        before
    }

    /// A node object is gone; its pods stay until their own events come.
    pub fn remove_node(&mut self, name: &str) -> bool {
        let Some(index) = self.find(name) else {
            return false;
        };
        let node = &mut self.nodes[index as usize];
        count_images(&mut self.image_nodes, node, -1);
        node.set_offer(Node::default());
        self.live[index as usize] = false;
        self.live_count -= 1;
        self.epoch += 1;
        self.retopologize(index);
        self.touch(index);
        self.release(index);
        true
    }

    /// Puts a pod on the node it names.
    ///
    /// # Panics
    /// When the pod names no node.
    pub fn add_pod(&mut self, pod: Arc<Pod>) {
        let name = pod.node.clone().expect("only placed pods are added");
        let index = self.slot(&name);
        self.count(&pod, index, 1);
        self.nodes[index as usize].add_pod(pod);
        self.touch(index);
    }

    /// Takes a pod off its node.
    pub fn remove_pod(&mut self, node: &str, uid: &Uid) -> Option<Arc<Pod>> {
        let index = *self.by_name.get(node)?;
        let pod = self.nodes[index as usize].remove_pod(uid)?;
        self.count(&pod, index, -1);
        self.touch(index);
        self.release(index);
        Some(pod)
    }

    fn slot(&mut self, name: &str) -> NodeIndex {
        if let Some(index) = self.by_name.get(name) {
            return *index;
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(Node::default());
            self.live.push(false);
            self.changed.push(0);
            (self.nodes.len() - 1) as NodeIndex
        });
        self.nodes[index as usize].name = name.into();
        self.by_name.insert(name.into(), index);
        self.retopologize(index);
        index
    }

    fn release(&mut self, index: NodeIndex) {
        let node = &self.nodes[index as usize];
        if self.live[index as usize] || !node.pods.is_empty() {
            return;
        }
        self.by_name.remove(&node.name);
        self.nodes[index as usize] = Node::default();
        self.free.push(index);
    }

    fn touch(&mut self, index: NodeIndex) {
        self.generation += 1;
        self.changed[index as usize] = self.generation;
    }

    fn retopologize(&mut self, index: NodeIndex) {
        let node = &self.nodes[index as usize];
        let live = self.live[index as usize];
        for (key, topology) in &mut self.topologies {
            topology.set(index, if live { node.labels.get(key) } else { None });
        }
        // Values that no node has any more are forgotten once they outnumber the nodes.
        let slots = self.nodes.len();
        let bloated = |t: &Topology| t.ids.len() > 2 * slots + 16;
        let keys: Vec<_> = self
            .topologies
            .iter()
            .filter(|(_, t)| bloated(t))
            .map(|(k, _)| k.clone())
            .collect();
        for key in keys {
            self.topologies.remove(&key);
            self.want_topology(&key);
        }
    }

    fn count(&mut self, pod: &Pod, index: NodeIndex, by: i32) {
        let class = &pod.class;
        let placement = self.placements.entry(class.id).or_insert_with(|| {
            self.by_namespace
                .entry(class.namespace.clone())
                .or_default()
                .insert(class.id);
            if class.has_pod_affinity() {
                self.with_affinity.insert(class.id);
            }
            Placement {
                class: class.clone(),
                nodes: NodeCounts::default(),
            }
        });
        placement.nodes.add(index, by, if pod.deleting { 0 } else { by });
        if placement.nodes.is_empty() {
            self.placements.remove(&class.id);
            self.with_affinity.remove(&class.id);
            if let Some(ids) = self.by_namespace.get_mut(&class.namespace) {
                ids.remove(&class.id);
                if ids.is_empty() {
                    self.by_namespace.remove(&class.namespace);
                }
            }
        }
    }
}

fn count_images(counts: &mut HashMap<Box<str>, u32>, node: &Node, by: i32) {
    for image in node.images.keys() {
        let count = counts.entry(image.clone()).or_default();
        *count = count.saturating_add_signed(by);
        if *count == 0 {
            counts.remove(image);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, placed};

    #[test]
    fn pods_and_nodes_come_and_go_in_any_order() {
        let mut cluster = Cluster::default();
        cluster.want_topology("zone");
        cluster.add_pod(placed("a", "n1", "{}"));
        assert_eq!((cluster.live_count(), cluster.find("n1")), (0, None));
        cluster.set_node(node("n1", r#"{"zone":"x"}"#));
        let index = cluster.find("n1").unwrap();
        assert_eq!(cluster.node(index).pods.len(), 1);
        assert_eq!(cluster.topology("zone").unwrap().domain[index as usize], 0);
        assert!(cluster.remove_node("n1"));
        assert_eq!(
            cluster.topology("zone").unwrap().domain[index as usize],
            NO_DOMAIN
        );
        assert_eq!(cluster.placements().count(), 1);
        assert!(cluster.remove_pod("n1", &Uid("a".into())).is_some());
        assert_eq!((cluster.placements().count(), cluster.by_namespace.len()), (0, 0));
        cluster.set_node(node("n2", "{}"));
        assert_eq!(cluster.slots(), 1, "the slot is used again");
    }

    #[test]
    fn generations_name_the_nodes_that_changed() {
        let mut cluster = Cluster::default();
        cluster.set_node(node("n1", "{}"));
        cluster.set_node(node("n2", "{}"));
        let seen = cluster.generation();
        cluster.set_node(node("n1", "{}"));
        assert_eq!(cluster.generation(), seen, "the same again changes nothing");
        cluster.add_pod(placed("a", "n2", "{}"));
        let changed: Vec<_> = cluster.live().filter(|i| cluster.changed(*i) > seen).collect();
        assert_eq!(changed, [cluster.find("n2").unwrap()]);
    }
}
