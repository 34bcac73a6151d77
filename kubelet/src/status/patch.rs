//! The strategic merge patch that turns the status the API server has into the one generated here.
//!
//! Holds only what differs, the pod's uid (so a pod of the same name made later is not touched) and, for lists merged by
//! key, the directives that remove entries. Conditions of others are left alone.

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Map, Value, json};

/// Condition types the kubelet owns.
const OWNED: [&str; 5] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
];

/// Whether the kubelet is the one who writes a condition.
pub fn is_owned(condition: &str) -> bool {
    OWNED.contains(&condition)
}

/// The patch, or nothing when there is no difference.
pub fn render(uid: &str, old: &PodStatus, new: &PodStatus) -> Option<Value> {
    let (old, new) = (object(old), object(new));
    let mut status = Map::new();
    for (field, value) in &new {
        if old.get(field) == Some(value) {
            continue;
        }
        match field.as_str() {
            "conditions" => drop(conditions(old.get(field), value).map(|c| status.insert(field.clone(), c))),
            "podIPs" | "hostIPs" => drop(status.insert(field.clone(), by_ip(old.get(field), value))),
            _ => drop(status.insert(field.clone(), value.clone())),
        }
    }
    // A field that is gone is nulled; those others own (nominatedNodeName, resize, claims) are never taken away.
    for field in [
        "reason",
        "message",
        "podIP",
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ] {
        if old.contains_key(field) && !new.contains_key(field) {
            status.insert(field.into(), Value::Null);
        }
    }
    (!status.is_empty()).then(|| json!({"metadata": {"uid": uid}, "status": status}))
}

fn object(status: &PodStatus) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// The owned conditions that changed, with removed fields nulled, and the order of all.
fn conditions(old: Option<&Value>, new: &Value) -> Option<Value> {
    let empty = vec![];
    let old = old.and_then(Value::as_array).unwrap_or(&empty);
    let mut out = Vec::new();
    for condition in new.as_array()? {
        let type_ = condition["type"].as_str().unwrap_or_default();
        if !OWNED.contains(&type_) {
            continue;
        }
        let before = old.iter().find(|c| c["type"] == condition["type"]);
        if before == Some(condition) {
            continue;
        }
        let mut condition = condition.clone();
        for field in ["reason", "message"] {
            if before.is_some_and(|b| b.get(field).is_some()) && condition.get(field).is_none() {
                condition[field] = Value::Null;
            }
        }
        out.push(condition);
    }
    (!out.is_empty()).then_some(Value::Array(out))
}

fn by_ip(old: Option<&Value>, new: &Value) -> Value {
    let mut list = new.as_array().cloned().unwrap_or_default();
    for entry in old.and_then(Value::as_array).into_iter().flatten() {
        if !list.iter().any(|e| e["ip"] == entry["ip"]) {
            list.push(json!({"$patch": "delete", "ip": entry["ip"]}));
        }
    }
    Value::Array(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_differences_go_out() {
        let status = |v: Value| -> PodStatus { serde_json::from_value(v).unwrap() };
        let old = status(
            json!({"phase": "Pending", "podIPs": [{"ip": "1.1.1.1"}], "message": "x",
            "conditions": [{"type": "Ready", "status": "False", "reason": "R"}, {"type": "Mine", "status": "True"}]}),
        );
        assert_eq!(render("u", &old, &old), None);
        let new = status(json!({"phase": "Running", "podIPs": [{"ip": "2.2.2.2"}],
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "Mine", "status": "False"}]}));
        let patch = render("u", &old, &new).unwrap();
        assert_eq!(patch["metadata"]["uid"], "u");
        assert_eq!(
            patch["status"],
            json!({"phase": "Running", "message": null,
            "podIPs": [{"ip": "2.2.2.2"}, {"$patch": "delete", "ip": "1.1.1.1"}],
            "conditions": [{"type": "Ready", "status": "True", "reason": null}]})
        );
    }
}
