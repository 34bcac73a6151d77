//! A pod class: everything about a pod that decides where it may run, interned.
//!
//! Pods made from one template differ in name only, so they share one `Class`; filters and scores that were worked
//! out for one pod of a class hold for the next (see `columns`). Invariant: equal requirements have one live id.

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{self as api, PodSpec};

use super::labels::{Labels, NodeTerm};
use super::resources::{Resources, pod_requests};
use super::terms::{AffinityTerm, HostPort, SpreadConstraint, Toleration};
use super::volume::Volume;

/// Names a class for as long as a pod of it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassId(u64);

/// A preference with its weight.
pub type Weighted<T> = (i32, T);

/// What a pod requires of its node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Requirements {
    pub namespace: Box<str>,
    pub labels: Labels,
    pub scheduler_name: Box<str>,
    pub priority: i32,
    /// `preemptionPolicy: Never` makes this false.
    pub preempts: bool,
    pub request: Resources,
    /// The same, with defaults where containers name nothing; scores use it.
    pub scored_request: Resources,
    pub node_selector: Labels,
    /// Alternatives; `None` when the pod has no required node affinity.
    pub node_terms: Option<Box<[NodeTerm]>>,
    pub preferred_nodes: Box<[Weighted<NodeTerm>]>,
    pub affinity: Box<[AffinityTerm]>,
    pub anti_affinity: Box<[AffinityTerm]>,
    pub preferred_affinity: Box<[Weighted<AffinityTerm>]>,
    pub preferred_anti_affinity: Box<[Weighted<AffinityTerm>]>,
    pub tolerations: Box<[Toleration]>,
    pub host_ports: Box<[HostPort]>,
    pub spread: Box<[SpreadConstraint]>,
    /// Images of all containers, normalised to have a tag.
    pub images: Box<[Box<str>]>,
    pub volumes: Box<[Volume]>,
    /// Kind and name of the controlling owner.
    pub controller: Option<(Box<str>, Box<str>)>,
}

impl Requirements {
    /// From a pod of the API.
    pub fn new(pod: &api::Pod) -> Self {
        let meta = &pod.metadata;
        let default_spec = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&default_spec);
        let (request, scored_request) = pod_requests(spec);
        let owners = meta.owner_references.iter().flatten();
        let controller = owners.into_iter().find(|o| o.controller == Some(true));
        let labels = Labels::new(meta.labels.as_ref());
        let spread = spec.topology_spread_constraints.iter().flatten();
        let name = meta.name.as_deref().unwrap_or_default();
        let mut result = Self {
            namespace: meta.namespace.as_deref().unwrap_or_default().into(),
            scheduler_name: spec
                .scheduler_name
                .as_deref()
                .unwrap_or("default-scheduler")
                .into(),
            priority: spec.priority.unwrap_or(0),
            preempts: spec.preemption_policy.as_deref() != Some("Never"),
            request,
            scored_request,
            node_selector: Labels::new(spec.node_selector.as_ref()),
            tolerations: spec
                .tolerations
                .iter()
                .flatten()
                .filter_map(Toleration::new)
                .collect(),
            host_ports: host_ports(spec),
            spread: spread.map(|c| SpreadConstraint::new(c, &labels)).collect(),
            images: images(spec),
            volumes: spec
                .volumes
                .iter()
                .flatten()
                .filter_map(|v| Volume::new(v, name))
                .collect(),
            controller: controller.map(|o| (o.kind.as_str().into(), o.name.as_str().into())),
            labels,
            ..Self::default()
        };
        if let Some(affinity) = &spec.affinity {
            result.set_affinity(affinity);
        }
        result
    }

    fn set_affinity(&mut self, affinity: &api::Affinity) {
        if let Some(node) = &affinity.node_affinity {
            let required = node.required_during_scheduling_ignored_during_execution.as_ref();
            self.node_terms = required.map(|r| r.node_selector_terms.iter().map(NodeTerm::new).collect());
            let preferred = node
                .preferred_during_scheduling_ignored_during_execution
                .iter()
                .flatten();
            self.preferred_nodes = preferred
                .map(|p| (p.weight, NodeTerm::new(&p.preference)))
                .collect();
        }
        let (namespace, labels) = (self.namespace.clone(), self.labels.clone());
        let term = |t: &api::PodAffinityTerm| AffinityTerm::new(t, &namespace, &labels);
        let weighted = |w: &api::WeightedPodAffinityTerm| (w.weight, term(&w.pod_affinity_term));
        if let Some(pods) = &affinity.pod_affinity {
            let required = pods
                .required_during_scheduling_ignored_during_execution
                .iter()
                .flatten();
            self.affinity = required.map(term).collect();
            let preferred = pods
                .preferred_during_scheduling_ignored_during_execution
                .iter()
                .flatten();
            self.preferred_affinity = preferred.map(weighted).collect();
        }
        if let Some(pods) = &affinity.pod_anti_affinity {
            let required = pods
                .required_during_scheduling_ignored_during_execution
                .iter()
                .flatten();
            self.anti_affinity = required.map(term).collect();
            let preferred = pods
                .preferred_during_scheduling_ignored_during_execution
                .iter()
                .flatten();
            self.preferred_anti_affinity = preferred.map(weighted).collect();
        }
    }

    /// Whether pods of this class say anything about pods near them.
    pub fn has_pod_affinity(&self) -> bool {
        !self.affinity.is_empty()
            || !self.anti_affinity.is_empty()
            || !self.preferred_affinity.is_empty()
            || !self.preferred_anti_affinity.is_empty()
    }
}

fn host_ports(spec: &PodSpec) -> Box<[HostPort]> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let containers = spec.containers.iter().chain(sidecars);
    let ports = containers.flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|p| {
            let port = p.host_port.filter(|port| *port > 0)?;
            let ip = p
                .host_ip
                .as_deref()
                .filter(|ip| !ip.is_empty())
                .unwrap_or("0.0.0.0");
            Some(HostPort {
                ip: ip.into(),
                protocol: p.protocol.as_deref().unwrap_or("TCP").into(),
                port,
            })
        })
        .collect()
}

fn images(spec: &PodSpec) -> Box<[Box<str>]> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    containers
        .filter_map(|c| c.image.as_deref())
        .map(normalized_image)
        .collect()
}

/// An image without a tag means `latest`; a node lists it with one.
fn normalized_image(name: &str) -> Box<str> {
    let last_colon = name.rfind(':');
    let last_slash = name.rfind('/');
    let tagged = last_colon.is_some_and(|c| last_slash.is_none_or(|s| c > s));
    if tagged {
        name.into()
    } else {
        format!("{name}:latest").into()
    }
}

/// Interned requirements; compares and hashes by them.
#[derive(Debug)]
pub struct Class {
    pub id: ClassId,
    pub requirements: Requirements,
}

impl Deref for Class {
    type Target = Requirements;
    fn deref(&self) -> &Requirements {
        &self.requirements
    }
}

/// Hashes a shared class by its requirements.
#[derive(Debug)]
struct ByContent(Arc<Class>);

impl Hash for ByContent {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.requirements.hash(state);
    }
}

impl PartialEq for ByContent {
    fn eq(&self, other: &Self) -> bool {
        self.0.requirements == other.0.requirements
    }
}

impl Eq for ByContent {}

impl std::borrow::Borrow<Requirements> for ByContent {
    fn borrow(&self) -> &Requirements {
        &self.0.requirements
    }
}

/// All live classes.
#[derive(Debug, Default)]
pub struct Classes {
    known: HashSet<ByContent>,
    last_id: u64,
    /// Sweep when `known` has grown to this.
    sweep_at: usize,
}

/// Fewer classes than this are not worth sweeping.
const SWEEP_MIN: usize = 256;

impl Classes {
    /// The class of these requirements; a new one where there was none.
    pub fn intern(&mut self, requirements: Requirements) -> Arc<Class> {
        if let Some(known) = self.known.get(&requirements) {
            return known.0.clone();
        }
        if self.known.len() >= self.sweep_at.max(SWEEP_MIN) {
            self.known.retain(|class| Arc::strong_count(&class.0) > 1);
            self.sweep_at = self.known.len() * 2;
        }
        self.last_id += 1;
        let class = Arc::new(Class {
            id: ClassId(self.last_id),
            requirements,
        });
        self.known.insert(ByContent(class.clone()));
        class
    }
}

/// How many pods of a class are on a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub all: i32,
    /// Without those being deleted.
    pub live: i32,
}

/// A class with the nodes its pods are on.
#[derive(Clone, Debug)]
pub struct Placement {
    pub class: Arc<Class>,
    pub nodes: NodeCounts,
}

/// Counts of the nodes that have any, by node index: sorted, so that reading all of them, which every decision does,
/// is one sweep of memory.
#[derive(Clone, Debug, Default)]
pub struct NodeCounts(Vec<(u32, Count)>);

impl NodeCounts {
    /// Index and count of every node that has pods of the class.
    pub fn iter(&self) -> impl Iterator<Item = (u32, Count)> {
        self.0.iter().copied()
    }

    /// Counts pods in or out of a node.
    pub fn add(&mut self, index: u32, all: i32, live: i32) {
        match self.0.binary_search_by_key(&index, |(i, _)| *i) {
            Ok(at) => {
                let count = &mut self.0[at].1;
                *count = Count {
                    all: count.all + all,
                    live: count.live + live,
                };
                if count.all == 0 {
                    self.0.remove(at);
                }
            }
            Err(at) => self.0.insert(at, (index, Count { all, live })),
        }
    }

    /// Whether no node has any.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(json: &str) -> Requirements {
        Requirements::new(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn equal_requirements_are_one_class_and_unused_ones_go() {
        let mut classes = Classes::default();
        let spec = r#""spec":{"containers":[{"name":"c","image":"nginx"}]}"#;
        let a = classes.intern(pod(&format!(
            r#"{{"metadata":{{"name":"a","namespace":"x"}},{spec}}}"#
        )));
        let b = classes.intern(pod(&format!(
            r#"{{"metadata":{{"name":"b","namespace":"x"}},{spec}}}"#
        )));
        let other = classes.intern(pod(&format!(
            r#"{{"metadata":{{"name":"a","namespace":"y"}},{spec}}}"#
        )));
        assert_eq!(a.id, b.id);
        assert_ne!(a.id, other.id);
        for n in 0..SWEEP_MIN {
            let spec = r#""spec":{"containers":[]}"#;
            classes.intern(pod(&format!(r#"{{"metadata":{{"namespace":"n{n}"}},{spec}}}"#)));
        }
        assert!(classes.known.len() <= 3 + 1, "{}", classes.known.len());
        assert_eq!(classes.intern(a.requirements.clone()).id, a.id);
    }

    #[test]
    fn images_get_their_tag() {
        for (image, expected) in [
            ("nginx", "nginx:latest"),
            ("r:5000/nginx", "r:5000/nginx:latest"),
            ("r:5000/nginx:1", "r:5000/nginx:1"),
        ] {
            assert_eq!(&*normalized_image(image), expected);
        }
    }
}
