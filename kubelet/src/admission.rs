//! Whether the node takes a pod the scheduler (or a user) bound to it: host ports, resources, labels, number of pods.
//!
//! Pure; reasons and messages are upstream's.

use crate::pod;
use crate::runtime::resources;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// Why a pod is refused: `status.reason` and `status.message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: String,
    pub message: String,
}

/// What the node has.
pub struct NodeView<'a> {
    pub labels: &'a BTreeMap<String, String>,
    pub allocatable: &'a BTreeMap<String, Quantity>,
    pub max_pods: usize,
}

/// Checks `pod` against the pods already here.
pub fn check(pod: &Pod, others: &[&Pod], node: &NodeView<'_>) -> Result<(), Refusal> {
    if others.len() >= node.max_pods {
        return Err(out_of("pods", 1, others.len() as i64, node.max_pods as i64));
    }
    for resource in ["cpu", "memory", "ephemeral-storage"] {
        // In thousandths.
        let wanted = resources::pod_request_milli(pod, resource);
        let Some(capacity) = node
            .allocatable
            .get(resource)
            .map(crate::quantity::milli)
            .filter(|_| wanted > 0)
        else {
            continue;
        };
        let used: i64 = others
            .iter()
            .map(|p| resources::pod_request_milli(p, resource))
            .sum();
        if wanted > capacity - used {
            let unit = if resource == "cpu" { 1 } else { 1000 };
            return Err(out_of(resource, wanted / unit, used / unit, capacity / unit));
        }
    }
    let selector = pod::spec(pod).node_selector.iter().flatten();
    if selector.into_iter().any(|(k, v)| node.labels.get(k) != Some(v)) {
        return Err(predicate(
            "NodeAffinity",
            "node(s) didn't match Pod's node affinity/selector",
        ));
    }
    let taken: Vec<_> = others.iter().flat_map(|p| host_ports(p)).collect();
    if host_ports(pod)
        .iter()
        .any(|p| taken.iter().any(|t| conflict(p, t)))
    {
        return Err(predicate(
            "NodePorts",
            "node(s) didn't have free ports for the requested pod ports",
        ));
    }
    Ok(())
}

fn out_of(resource: &str, requested: i64, used: i64, capacity: i64) -> Refusal {
    Refusal {
        reason: format!("OutOf{resource}"),
        message: format!(
            "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
        ),
    }
}

fn predicate(name: &str, why: &str) -> Refusal {
    Refusal {
        reason: name.into(),
        message: format!("Predicate {name} failed: {why}"),
    }
}

/// Address, protocol, port.
type HostPort = (String, String, i32);

fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let sidecars = pod::init_containers(pod).iter().filter(|c| pod::is_sidecar(c));
    let ports = pod::containers(pod)
        .iter()
        .chain(sidecars)
        .flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|p| {
            let port = p.host_port.filter(|port| *port > 0)?;
            let ip = p
                .host_ip
                .clone()
                .filter(|ip| !ip.is_empty())
                .unwrap_or_else(|| "0.0.0.0".into());
            Some((ip, p.protocol.clone().unwrap_or_else(|| "TCP".into()), port))
        })
        .collect()
}

fn conflict(a: &HostPort, b: &HostPort) -> bool {
    let any = |ip: &str| matches!(ip, "0.0.0.0" | "::");
    a.1 == b.1 && a.2 == b.2 && (a.0 == b.0 || any(&a.0) || any(&b.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(port: i32, ip: &str, cpu: &str) -> Pod {
        serde_json::from_value(
            json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}},
            "ports": [{"containerPort": 80, "hostPort": port, "hostIP": ip}]}]}}),
        )
        .unwrap()
    }

    #[test]
    fn refusals() {
        let allocatable = BTreeMap::from([("cpu".to_owned(), Quantity("2".into()))]);
        let labels = BTreeMap::new();
        let node = NodeView {
            labels: &labels,
            allocatable: &allocatable,
            max_pods: 2,
        };
        let first = pod(80, "", "1");
        assert_eq!(check(&first, &[], &node), Ok(()));
        assert_eq!(check(&pod(81, "", "1"), &[&first], &node), Ok(()));
        let clash = check(&pod(80, "10.0.0.1", "1"), &[&first], &node).unwrap_err();
        assert_eq!(clash.reason, "NodePorts");
        assert_eq!(
            check(&pod(81, "", "1500m"), &[&first], &node).unwrap_err(),
            Refusal {
                reason: "OutOfcpu".into(),
                message: "Node didn't have enough resource: cpu, requested: 1500, used: 1000, capacity: 2000"
                    .into(),
            }
        );
        assert_eq!(
            check(&first, &[&first, &first], &node).unwrap_err().reason,
            "OutOfpods"
        );
    }
}
