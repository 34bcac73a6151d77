//! Node.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Path, Value, names};

use crate::kind::{Column, Kind, Name, Subresource, resource};
use crate::pod::{resources, tolerations};
use crate::strategy::{self, Status};
use crate::{cells, check, equal, set};

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE: &str = "kubernetes.io/role";

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text("Status", "The status of the node"),
    cells::text("Roles", "The roles of the node"),
    cells::AGE,
    cells::text("Version", "Kubelet Version reported by the node."),
    cells::wide("Internal-IP", "List of addresses reachable to the node."),
    cells::wide("External-IP", "List of addresses reachable to the node."),
    cells::wide("OS-Image", "OS Image reported by the node from /etc/os-release."),
    cells::wide("Kernel-Version", "Kernel Version reported by the node."),
    cells::wide(
        "Container-Runtime",
        "ContainerRuntime Version reported by the node.",
    ),
];

const FIELDS: &[Name] = &[Name::Borrowed("spec.unschedulable")];

pub struct Node;

impl Kind for Node {
    resource!("", "v1", "nodes");

    fn set_defaults(&self, obj: &mut Value) {
        sync_pod_cidrs(set::object(obj, "spec"));
        let status = set::object(obj, "status");
        if let Some(capacity) = status.get("capacity").cloned() {
            set::absent(status, "allocatable", capacity);
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        set::copy(new, old, "status");
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let node = Cursor::root(new);
        taints(&mut e, &node.child("spec").child("taints"));
        amounts(&mut e, &node);
        match old {
            None => pod_cidrs(&mut e, &node.child("spec").child("podCIDRs")),
            Some(old) => unchanged(&mut e, &node, old),
        }
        e
    }

    fn subresource(&self, name: &str) -> Option<&dyn Subresource> {
        (name == "status").then_some(&STATUS)
    }

    fn selectable_field_names(&self) -> &[Name] {
        FIELDS
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(Name, String)> {
        let mut fields = strategy::metadata_fields(obj, false);
        let unschedulable = obj["spec"]["unschedulable"] == true;
        fields.push((FIELDS[0].clone(), unschedulable.to_string()));
        fields
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        let info = &obj["status"]["nodeInfo"];
        let known = |key: &str| match info[key].as_str() {
            Some(text) if !text.is_empty() => text.to_owned(),
            _ => "<unknown>".to_owned(),
        };
        vec![
            cells::name(obj),
            status_text(obj).into(),
            roles(obj).into(),
            cells::age(obj, now),
            info["kubeletVersion"].as_str().unwrap_or("").into(),
            address(obj, "InternalIP").into(),
            address(obj, "ExternalIP").into(),
            known("osImage").into(),
            known("kernelVersion").into(),
            known("containerRuntimeVersion").into(),
        ]
    }
}

/// `podCIDR` is the first of `podCIDRs`.
fn sync_pod_cidrs(spec: &mut Value) {
    if let Some(one) = spec.get("podCIDR").filter(|one| !set::is_zero(one)).cloned() {
        set::zero(spec, "podCIDRs", vec![one]);
    }
    if let Some(first) = spec["podCIDRs"].get(0).cloned() {
        set::put(spec, "podCIDR", first);
    }
}

fn status_text(node: &Value) -> String {
    let ready = cells::list(&node["status"]["conditions"])
        .iter()
        .find(|c| c["type"] == "Ready");
    let mut text = match ready {
        Some(condition) if condition["status"] == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if node["spec"]["unschedulable"] == true {
        text.push_str(",SchedulingDisabled");
    }
    text
}

fn roles(node: &Value) -> String {
    let labels = node["metadata"]["labels"].as_object().into_iter().flatten();
    let mut roles: Vec<&str> = labels
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) => Some(role),
            None if key == ROLE => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    cells::or_none(&roles.join(","))
}

fn address(node: &Value, kind: &str) -> String {
    let address = cells::list(&node["status"]["addresses"])
        .iter()
        .find(|address| address["type"] == kind);
    cells::or_none(address.and_then(|a| a["address"].as_str()).unwrap_or(""))
}

/// Upstream reports taints under `metadata.taints`.
fn taints(e: &mut FieldErrors, list: &Cursor) {
    let list = Cursor::at(list.value(), Path::new("metadata").child("taints"));
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for taint in list.items() {
        check::label_name(e, &taint.child("key"));
        let value = taint.child("value");
        let messages = names::is_valid_label_value(value.str());
        if !messages.is_empty() {
            check::invalid_str(e, &value, messages.join(";"));
        }
        tolerations::taint_effect(e, &taint.child("effect"));
        let pair = (taint.child("key").str(), taint.child("effect").str());
        if seen.contains(&pair) {
            e.push(
                keelson_machinery::field::ErrorType::Duplicate,
                taint.path(),
                Some(taint.value().clone()),
                "taints must be unique by key and effect pair",
            );
        }
        seen.push(pair);
    }
}

fn amounts(e: &mut FieldErrors, node: &Cursor) {
    for list in ["capacity", "allocatable"] {
        let amounts = node.child("status").child(list);
        for (name, amount) in amounts.entries() {
            let at = Cursor::at(amount.value(), amounts.path().child(name));
            resources::amount(e, &at, name);
        }
    }
}

fn pod_cidrs(e: &mut FieldErrors, list: &Cursor) {
    let mut families: Vec<bool> = Vec::new();
    for cidr in list.items() {
        match cidr.str().parse::<ipnet::IpNet>() {
            Ok(net) => families.push(matches!(net, ipnet::IpNet::V6(_))),
            Err(_) => check::invalid_str(e, &cidr, check::NOT_CIDR),
        }
    }
    if list.len() > 1 && (list.len() > 2 || families.len() != 2 || families[0] == families[1]) {
        check::invalid(e, list, "may specify no more than one CIDR for each IP family");
    }
}

fn unchanged(e: &mut FieldErrors, node: &Cursor, old: &Value) {
    let spec = node.child("spec");
    let addresses = node.child("status").child("addresses");
    for (index, address) in addresses.items().enumerate() {
        if addresses
            .items()
            .take(index)
            .any(|before| before.value() == address.value())
        {
            e.duplicate(address.path(), address.value().clone());
        }
    }
    let had = |key: &str| !set::is_zero(&old["spec"][key]);
    if had("podCIDRs") && !equal::same(spec.child("podCIDRs").value(), &old["spec"]["podCIDRs"]) {
        e.forbidden(
            spec.child("podCIDRs").path(),
            "node updates may not change podCIDR except from \"\" to valid",
        );
    }
    if had("providerID") && spec.child("providerID").value() != &old["spec"]["providerID"] {
        e.forbidden(
            spec.child("providerID").path(),
            "node updates may not change providerID except from \"\" to valid",
        );
    }
}

const STATUS: Status = Status {
    kept: &["spec"],
    kept_metadata: &[],
    validate: |new, old, e| {
        let node = Cursor::root(new);
        amounts(e, &node);
        unchanged(e, &node, old);
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::create;
    use serde_json::json;

    #[test]
    fn rows() {
        let node = json!({
            "metadata": {"name": "n1", "labels": {"node-role.kubernetes.io/control-plane": ""},
                "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                "nodeInfo": {"kubeletVersion": "v1.36.0"}},
        });
        let now: Timestamp = "2026-01-04T00:00:00Z".parse().unwrap();
        let row: Vec<String> = Node
            .cells(&node, now)
            .iter()
            .map(|c| c.as_str().unwrap().to_owned())
            .collect();
        assert_eq!(
            row.join(" "),
            "n1 Ready,SchedulingDisabled control-plane 3d v1.36.0 10.0.0.1 <none> <unknown> <unknown> <unknown>"
        );
    }

    #[test]
    fn taints_have_an_effect() {
        assert_eq!(
            create(
                &Node,
                json!({"metadata": {"name": "n"}, "spec": {"taints": [{"key": "a", "effect": "Never"}]}})
            ),
            [
                "metadata.taints[0].effect: Unsupported value: \"Never\": supported values: \"NoSchedule\", \
                 \"PreferNoSchedule\", \"NoExecute\"",
            ]
        );
    }
}
