//! The `binding` subresource: a scheduler's decision written into a pod.

use keelson_machinery::{Cursor, FieldErrors, GroupKind, GroupResource, Status, Value, meta};
use serde_json::json;

use crate::set;

/// What upstream names in the conflicts of a binding.
const PODS: GroupResource = GroupResource::new("", "pods/binding");

/// Errors of the Binding itself.
pub fn validate(binding: &Value) -> FieldErrors {
    let mut e = FieldErrors::default();
    let target = Cursor::root(binding).child("target");
    if !["", "Node"].contains(&target.child("kind").str()) {
        e.not_supported(
            target.child("kind").path(),
            target.child("kind").str(),
            &["Node", "<empty>"],
        );
    }
    if target.child("name").str().is_empty() {
        e.required(target.child("name").path(), "");
    }
    e
}

/// The pod bound to the Binding's node; annotations and labels of the Binding are merged in. `now` is RFC 3339.
///
/// Refused where the pod is another one, being deleted, gated or already bound.
pub fn bind(pod: &Value, binding: &Value, now: &str) -> Result<Value, Status> {
    let errors = validate(binding);
    let name = meta::name(pod);
    if !errors.is_empty() {
        return Err(Status::invalid(&GroupKind::new("", "Binding"), name, &errors));
    }
    let conflict = |why: String| Err(Status::conflict(&PODS, name, &why));
    let node = binding["target"]["name"].as_str().unwrap_or("");
    let wanted = meta::uid(binding);
    if !wanted.is_empty() && wanted != meta::uid(pod) {
        return conflict(format!(
            "Precondition failed: UID in precondition: {wanted}, UID in object meta: {}",
            meta::uid(pod)
        ));
    }
    if meta::deletion_timestamp(pod).is_some() {
        return conflict(format!(
            "pod {name} is being deleted, cannot be assigned to a host"
        ));
    }
    if let Some(current) = pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()) {
        return conflict(format!("pod {name} is already assigned to node {current:?}"));
    }
    if pod["spec"]["schedulingGates"]
        .as_array()
        .is_some_and(|gates| !gates.is_empty())
    {
        return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    Ok(bound(pod, binding, node, now))
}

fn bound(pod: &Value, binding: &Value, node: &str, now: &str) -> Value {
    let mut pod = pod.clone();
    set::put(set::object(&mut pod, "spec"), "nodeName", node);
    for list in ["annotations", "labels"] {
        let added = binding["metadata"][list].as_object().cloned().unwrap_or_default();
        for (key, value) in added {
            set::put(set::object(set::object(&mut pod, "metadata"), list), &key, value);
        }
    }
    let status = set::object(&mut pod, "status");
    set::remove(status, "nominatedNodeName");
    set::absent(status, "conditions", json!([]));
    let scheduled = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null,
        "lastTransitionTime": now});
    if let Some(conditions) = status["conditions"].as_array_mut() {
        match conditions.iter_mut().find(|c| c["type"] == "PodScheduled") {
            Some(condition) => *condition = scheduled,
            None => conditions.push(scheduled),
        }
    }
    pod
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_bound_once() {
        let pod = json!({"metadata": {"name": "p", "uid": "u"}, "spec": {}});
        let binding = json!({"metadata": {"name": "p", "uid": "u", "annotations": {"a": "b"}},
            "target": {"kind": "Node", "name": "n1"}});
        let bound = bind(&pod, &binding, "2026-01-01T00:00:00Z").unwrap();
        assert_eq!(bound["spec"]["nodeName"], "n1");
        assert_eq!(bound["metadata"]["annotations"]["a"], "b");
        assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
        assert_eq!(
            bind(&bound, &binding, "2026-01-01T00:00:00Z")
                .unwrap_err()
                .message,
            "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n1\""
        );
    }

    #[test]
    fn bad_bindings() {
        assert_eq!(
            validate(&json!({"target": {"kind": "Pod"}})).to_string(),
            "[target.kind: Unsupported value: \"Pod\": supported values: \"Node\", \"<empty>\", \
             target.name: Required value]"
        );
    }
}
