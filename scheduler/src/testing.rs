//! Values for tests: nodes and pods from a few words of JSON.

use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;

use crate::model::class::Classes;
use crate::model::node::Node;
use crate::model::pod::Pod;

/// One interner for all tests, so that equal pods are of one class as they are in the process.
static CLASSES: LazyLock<Mutex<Classes>> = LazyLock::new(Mutex::default);

/// A node of 4 cores, 8 GiB and 110 pods, with these labels and its hostname.
pub fn node(name: &str, labels: &str) -> Node {
    let mut labels: serde_json::Value = serde_json::from_str(labels).unwrap();
    labels["kubernetes.io/hostname"] = name.into();
    node_with(name, serde_json::json!({"metadata": {"labels": labels}}))
}

/// The same, with fields of a Node merged over it.
pub fn node_with(name: &str, over: serde_json::Value) -> Node {
    let mut json = serde_json::json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}},
    });
    merge(&mut json, over);
    Node::new(&serde_json::from_value(json).unwrap())
}

/// A pending pod of namespace `default` with this spec, and labels from `metadata`.
pub fn pod(uid: &str, spec: &str) -> Pod {
    pod_with(uid, spec, serde_json::json!({}))
}

/// The same, with fields of a Pod merged over it.
pub fn pod_with(uid: &str, spec: &str, over: serde_json::Value) -> Pod {
    let mut json = serde_json::json!({
        "metadata": {"name": uid, "namespace": "default", "uid": uid},
        "spec": {"containers": []},
    });
    let spec: serde_json::Value = serde_json::from_str(spec).unwrap();
    merge(&mut json["spec"], spec);
    merge(&mut json, over);
    Pod::new(&serde_json::from_value(json).unwrap(), &mut CLASSES.lock())
}

/// A pod on a node.
pub fn placed(uid: &str, node: &str, spec: &str) -> Arc<Pod> {
    let mut pod = pod(uid, spec);
    pod.node = Some(node.into());
    Arc::new(pod)
}

fn merge(into: &mut serde_json::Value, from: serde_json::Value) {
    match (into, from) {
        (serde_json::Value::Object(into), serde_json::Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(serde_json::Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}
