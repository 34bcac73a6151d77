//! Which nodes a daemon pod belongs on, and how it is tied to one. Pure.

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec};
use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Toleration,
};

use crate::history::HASH_LABEL;
use crate::taints::{self, NO_EXECUTE, NO_SCHEDULE};
use crate::{node_affinity, owner, pods};

/// Whether a daemon pod should start on a node, and whether one that runs there may stay.
pub(super) fn fits(spec: &PodSpec, node: &Node) -> (bool, bool) {
    let named = spec.node_name.as_ref().filter(|name| !name.is_empty());
    if named.is_some_and(|name| Some(name) != node.metadata.name.as_ref())
        || !node_affinity::matches(spec, node)
    {
        return (false, false);
    }
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let repelled_by = |effect: &str| {
        taints::of_node(node)
            .iter()
            .any(|t| t.effect == effect && !taints::tolerated(tolerations, t))
    };
    if repelled_by(NO_EXECUTE) {
        (false, false)
    } else {
        (!repelled_by(NO_SCHEDULE), true)
    }
}

/// Whether a change of a node leaves every placement as it was.
pub(super) fn same(old: &Node, new: &Node) -> bool {
    old.metadata.labels == new.metadata.labels && taints::of_node(old) == taints::of_node(new)
}

/// The template's spec with the tolerations daemon pods get.
pub(super) fn spec_with_tolerations(spec: &DaemonSetSpec) -> PodSpec {
    let mut pod = spec.template.spec.clone().unwrap_or_default();
    let mut wanted = vec![
        (taints::NOT_READY, NO_EXECUTE),
        (taints::UNREACHABLE, NO_EXECUTE),
        (taints::DISK_PRESSURE, NO_SCHEDULE),
        (taints::MEMORY_PRESSURE, NO_SCHEDULE),
        (taints::PID_PRESSURE, NO_SCHEDULE),
        (taints::UNSCHEDULABLE, NO_SCHEDULE),
    ];
    if pod.host_network == Some(true) {
        wanted.push((taints::NETWORK_UNAVAILABLE, NO_SCHEDULE));
    }
    let tolerations = pod.tolerations.get_or_insert_default();
    for (key, effect) in wanted {
        let toleration = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            value: None,
            toleration_seconds: None,
        };
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
    pod
}

/// A daemon pod for a node.
pub(super) fn pod_for(set: &DaemonSet, spec: &DaemonSetSpec, node: &str, hash: &str) -> Pod {
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let mut pod = pods::from_template(&spec.template, namespace, owner::reference(set));
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.to_owned());
    let generation = set
        .metadata
        .annotations
        .as_ref()
        .and_then(|a| a.get("deprecated.daemonset.template.generation"));
    if let Some(generation) = generation {
        labels.insert("pod-template-generation".to_owned(), generation.clone());
    }
    let mut pod_spec = spec_with_tolerations(spec);
    tie_to(&mut pod_spec, node);
    pod.spec = Some(pod_spec);
    pod
}

fn tie_to(spec: &mut PodSpec, node: &str) {
    let only = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let affinity = spec
        .affinity
        .get_or_insert_default()
        .node_affinity
        .get_or_insert_default();
    let required = affinity
        .required_during_scheduling_ignored_during_execution
        .get_or_insert_with(|| NodeSelector {
            node_selector_terms: vec![NodeSelectorTerm::default()],
        });
    for term in &mut required.node_selector_terms {
        term.match_fields = Some(vec![only.clone()]);
    }
}

/// The node a daemon pod runs on or is tied to; empty when neither.
pub(super) fn target(pod: &Pod) -> String {
    let bound = pods::node_name(pod);
    if !bound.is_empty() {
        return bound.to_owned();
    }
    let tied = || {
        let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
        let required = affinity
            .required_during_scheduling_ignored_during_execution
            .as_ref()?;
        let fields = required.node_selector_terms.first()?.match_fields.as_ref()?;
        fields
            .iter()
            .find(|f| f.key == "metadata.name")?
            .values
            .as_ref()?
            .first()
            .cloned()
    };
    tied().unwrap_or_default()
}
