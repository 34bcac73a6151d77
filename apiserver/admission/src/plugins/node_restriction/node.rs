//! The kubelet's own Node: no taints, and no labels that others rely on to place pods.

use keelson_machinery::meta;
use serde_json::Value;

use super::{Request, Verdict, ensure};
use crate::Operation;

/// Labels in Kubernetes' namespaces that a kubelet sets.
const KUBELET_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];

pub(super) fn check(request: &Request<'_>) -> Verdict {
    let (own, node) = (request.own, request.object);
    if request.a.operation == Operation::Create {
        let forbidden = forbidden_labels(&Value::Null, meta::labels(node));
        ensure(forbidden.is_empty(), || {
            format!(
                "node {own:?} is not allowed to set the following labels: {}",
                forbidden.join(", ")
            )
        })?;
    }
    let name = request.name();
    ensure(name == own, || {
        format!("node {own:?} is not allowed to modify node {name:?}")
    })?;
    if request.a.operation != Operation::Update {
        return Ok(());
    }
    let old = request.a.old.unwrap_or(&Value::Null);
    ensure(same_list(&old["spec"]["taints"], &node["spec"]["taints"]), || {
        format!("node {own:?} is not allowed to modify taints")
    })?;
    ensure(
        meta::owner_references(old) == meta::owner_references(node),
        || format!("node {own:?} is not allowed to modify ownerReferences"),
    )?;
    let forbidden = forbidden_labels(meta::labels(old), meta::labels(node));
    ensure(forbidden.is_empty(), || {
        format!("is not allowed to modify labels: {}", forbidden.join(", "))
    })
}

/// An absent list equals an empty one.
fn same_list(one: &Value, other: &Value) -> bool {
    let items = |list: &Value| list.as_array().cloned().unwrap_or_default();
    items(one) == items(other)
}

/// The changed labels a kubelet may not touch, sorted.
fn forbidden_labels(old: &Value, new: &Value) -> Vec<String> {
    let keys = |labels: &Value| -> Vec<String> {
        let labels = labels.as_object().into_iter().flatten();
        labels.map(|(key, _)| key.clone()).collect()
    };
    let mut all = keys(old);
    all.extend(keys(new));
    all.sort_unstable();
    all.dedup();
    all.retain(|key| old.get(key) != new.get(key) && is_forbidden(key));
    all
}

fn is_forbidden(label: &str) -> bool {
    let namespace = label.split_once('/').map_or("", |(namespace, _)| namespace);
    let within = |domain: &str| {
        namespace == domain
            || namespace
                .strip_suffix(domain)
                .is_some_and(|head| head.ends_with('.'))
    };
    if within("node-restriction.kubernetes.io") {
        return true;
    }
    let of_kubernetes = within("kubernetes.io") || within("k8s.io");
    let of_kubelet =
        KUBELET_LABELS.contains(&label) || within("kubelet.kubernetes.io") || within("node.kubernetes.io");
    of_kubernetes && !of_kubelet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_others_are_forbidden() {
        for (label, forbidden) in [
            ("disk", false),
            ("example.com/disk", false),
            ("kubernetes.io/hostname", false),
            ("kubelet.kubernetes.io/x", false),
            ("node.kubernetes.io/x", false),
            ("a.node.kubernetes.io/x", false),
            ("kubernetes.io/x", true),
            ("node-role.kubernetes.io/control-plane", true),
            ("node-restriction.kubernetes.io/x", true),
            ("notkubernetes.io/x", false),
        ] {
            assert_eq!(is_forbidden(label), forbidden, "{label}");
        }
    }
}
