//! A node's conditions: silence, and the taints and labels that follow. Pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::taints;

/// How long a node may say nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Silence {
    pub grace_s: i64,
    pub startup_grace_s: i64,
}

impl Silence {
    /// Seconds until the node is silent for too long; zero or less when it is.
    pub(super) fn left_s(&self, node: &Node, since: Timestamp, heard: Timestamp, now: Timestamp) -> i64 {
        // A node that never posted its status is starting.
        if condition(node, "Ready").is_none() {
            return self.startup_grace_s - (now.as_second() - since.as_second());
        }
        self.grace_s - (now.as_second() - heard.as_second())
    }
}

fn condition<'a>(node: &'a Node, type_: &str) -> Option<&'a NodeCondition> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == type_)
}

/// Status of the Ready condition; "Unknown" when there is none.
pub(super) fn ready(node: &Node) -> &str {
    condition(node, "Ready").map_or("Unknown", |c| c.status.as_str())
}

/// Whether the node itself posted its status between two versions.
pub(super) fn posted(old: &Node, new: &Node) -> bool {
    let heartbeat = |node: &Node| condition(node, "Ready").and_then(|c| c.last_heartbeat_time.clone());
    heartbeat(old) != heartbeat(new)
        || old.status.as_ref().map(|s| &s.node_info) != new.status.as_ref().map(|s| &s.node_info)
}

/// The node with all conditions Unknown; `None` when they are already.
pub(super) fn silenced(node: &Node, now: Timestamp) -> Option<Node> {
    let mut updated = node.clone();
    let conditions = updated
        .status
        .get_or_insert_default()
        .conditions
        .get_or_insert_default();
    let mut changed = false;
    for type_ in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        match conditions.iter_mut().find(|c| c.type_ == type_) {
            None => conditions.push(NodeCondition {
                type_: type_.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some("NodeStatusNeverUpdated".to_owned()),
                message: Some("Kubelet never posted node status.".to_owned()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: Some(Time(now)),
            }),
            Some(standing) if standing.status != "Unknown" => {
                standing.status = "Unknown".to_owned();
                standing.reason = Some("NodeStatusUnknown".to_owned());
                standing.message = Some("Kubelet stopped posting node status.".to_owned());
                standing.last_transition_time = Some(Time(now));
            }
            Some(_) => continue,
        }
        changed = true;
    }
    changed.then_some(updated)
}

/// Keys of the NoSchedule taints the node's conditions ask for.
pub(super) fn no_schedule(node: &Node) -> Vec<&'static str> {
    let mut keys = Vec::new();
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        keys.push(taints::UNSCHEDULABLE);
    }
    keys.extend(no_execute(node));
    let pressures = [
        ("MemoryPressure", taints::MEMORY_PRESSURE),
        ("DiskPressure", taints::DISK_PRESSURE),
        ("PIDPressure", taints::PID_PRESSURE),
        ("NetworkUnavailable", taints::NETWORK_UNAVAILABLE),
    ];
    let on = |type_: &str| condition(node, type_).is_some_and(|c| c.status == "True");
    keys.extend(
        pressures
            .into_iter()
            .filter(|(type_, _)| on(type_))
            .map(|(_, key)| key),
    );
    keys
}

/// Key of the NoExecute taint the Ready condition asks for.
pub(super) fn no_execute(node: &Node) -> Option<&'static str> {
    match condition(node, "Ready")?.status.as_str() {
        "False" => Some(taints::NOT_READY),
        "Unknown" => Some(taints::UNREACHABLE),
        _ => None,
    }
}

/// Whether NoSchedule taints of this key are this controller's to add and take away.
pub(super) fn is_managed(key: &str) -> bool {
    matches!(
        key,
        taints::NOT_READY
            | taints::UNREACHABLE
            | taints::UNSCHEDULABLE
            | taints::MEMORY_PRESSURE
            | taints::DISK_PRESSURE
            | taints::PID_PRESSURE
            | taints::NETWORK_UNAVAILABLE
    )
}

/// The node with its beta labels of operating system and architecture like the stable ones; `None` when they are.
pub(super) fn labelled(node: &Node) -> Option<Node> {
    let mut labels = node.metadata.labels.clone()?;
    let pairs = [
        ("kubernetes.io/os", "beta.kubernetes.io/os"),
        ("kubernetes.io/arch", "beta.kubernetes.io/arch"),
    ];
    for (stable, beta) in pairs {
        if let Some(value) = labels.get(stable).cloned() {
            labels.insert(beta.to_owned(), value);
        }
    }
    if Some(&labels) == node.metadata.labels.as_ref() {
        return None;
    }
    let mut updated = node.clone();
    updated.metadata.labels = Some(labels);
    Some(updated)
}
