//! The `scale` subresource: one shape (autoscaling/v1 Scale) for everything that has replicas.

use keelson_machinery::labels::Selector;
use keelson_machinery::{Cursor, FieldErrors, Value};
use serde_json::json;

use crate::{check, set};

/// The Scale of a Deployment, ReplicaSet, StatefulSet or ReplicationController.
///
/// The status carries the selector as text; a ReplicationController's selector is a plain map.
pub fn scale_of(obj: &Value) -> Value {
    let meta = &obj["metadata"];
    let mut metadata = json!({});
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        set::copy(&mut metadata, meta, key);
    }
    let mut spec = json!({});
    match obj["spec"]["replicas"].as_i64() {
        Some(0) | None => {}
        Some(replicas) => set::put(&mut spec, "replicas", replicas),
    }
    let mut status = json!({"replicas": obj["status"]["replicas"].as_i64().unwrap_or(0)});
    let selector = selector_text(&obj["spec"]["selector"]);
    if !selector.is_empty() {
        set::put(&mut status, "selector", selector);
    }
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status})
}

fn selector_text(selector: &Value) -> String {
    let is_plain = selector.get("matchLabels").is_none() && selector.get("matchExpressions").is_none();
    let parsed = match is_plain {
        true => Ok(Selector::from_map(selector)),
        false => Selector::from_label_selector(selector),
    };
    parsed.map_or_else(|_| String::new(), |parsed| parsed.to_string())
}

/// Errors of a Scale that is to be written.
pub fn validate(scale: &Value) -> FieldErrors {
    let mut e = FieldErrors::default();
    let c = Cursor::root(scale);
    check::non_negative(&mut e, &c.child("spec").child("replicas"));
    e
}

/// The object with the Scale's replicas; where the Scale carries a resourceVersion the update is bound to it.
pub fn apply_scale(obj: &Value, scale: &Value) -> Value {
    let mut obj = obj.clone();
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    set::put(set::object(&mut obj, "spec"), "replicas", replicas);
    let version = scale["metadata"]["resourceVersion"].clone();
    if !set::is_zero(&version) {
        set::put(set::object(&mut obj, "metadata"), "resourceVersion", version);
    }
    obj
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let obj = json!({"metadata": {"name": "web", "namespace": "d", "uid": "u", "resourceVersion": "7"},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}}, "status": {"replicas": 2}});
        let mut scale = scale_of(&obj);
        assert_eq!(
            scale,
            json!({"kind": "Scale", "apiVersion": "autoscaling/v1",
                "metadata": {"name": "web", "namespace": "d", "uid": "u", "resourceVersion": "7"},
                "spec": {"replicas": 3}, "status": {"replicas": 2, "selector": "app=web"}})
        );
        scale["spec"]["replicas"] = 5.into();
        assert_eq!(apply_scale(&obj, &scale)["spec"]["replicas"], 5);
        scale["spec"]["replicas"] = (-1).into();
        assert_eq!(
            validate(&scale).to_string(),
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0"
        );
    }
}
