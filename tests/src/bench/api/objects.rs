//! The objects of the benchmark: pods of about 3.3 KB as sent, ConfigMaps of about 1 KiB.
//!
//! Pods have much that managedFields must name (env, ports, probes), so that stored and served ones are about three
//! times as long as sent ones, as is common of real pods.

use bytes::Bytes;
use serde_json::{Value, json};

/// Namespaces that pods are spread over.
pub const NAMESPACES: usize = 20;

/// The namespace of a number's objects.
pub fn namespace(number: usize) -> String {
    format!("bench-{}", number % NAMESPACES)
}

pub fn pods(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods")
}

pub fn config_maps(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps")
}

/// A pod of the given name, as a client sends it.
pub fn pod(name: &str) -> Value {
    let container = |name: &str, port: u16| {
        let env: Vec<Value> = (0..16)
            .map(|index| json!({"name": format!("SETTING_{index}"), "value": format!("value-{index}")}))
            .collect();
        json!({
            "name": name,
            "image": format!("registry.example/team/{name}:v1.2.3"),
            "args": ["--listen=0.0.0.0", "--verbose=2"],
            "env": env,
            "ports": [
                {"name": "http", "containerPort": port, "protocol": "TCP"},
                {"name": "metrics", "containerPort": port + 1, "protocol": "TCP"},
            ],
            "resources": {
                "requests": {"cpu": "100m", "memory": "64Mi"},
                "limits": {"cpu": "1", "memory": "256Mi"},
            },
            "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 5},
            "livenessProbe": {"httpGet": {"path": "/live", "port": "http"}, "initialDelaySeconds": 10},
            "volumeMounts": [
                {"name": "config", "mountPath": "/etc/config", "readOnly": true},
                {"name": "cache", "mountPath": "/var/cache/app"},
            ],
            "securityContext": {"allowPrivilegeEscalation": false, "runAsNonRoot": true, "runAsUser": 1000},
        })
    };
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {
                "app.kubernetes.io/name": "bench",
                "app.kubernetes.io/instance": name,
                "app.kubernetes.io/part-of": "load",
                "tier": "backend",
            },
            "annotations": {"example.com/description": "An object of the load benchmark, of the size real pods have."},
        },
        "spec": {
            "containers": [container("server", 8080), container("sidecar", 9090)],
            "volumes": [
                {"name": "config", "configMap": {"name": "settings"}},
                {"name": "cache", "emptyDir": {"sizeLimit": "1Gi"}},
            ],
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "terminationGracePeriodSeconds": 10,
            "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "bench", "effect": "NoSchedule"}],
        },
    })
}

/// A ConfigMap of about 1 KiB.
pub fn config_map(name: &str) -> Value {
    let data: serde_json::Map<String, Value> = (0..8)
        .map(|index| (format!("key-{index}"), Value::from("x".repeat(100))))
        .collect();
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

pub fn bytes(value: &Value) -> Bytes {
    value.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_as_told() {
        let pod = bytes(&pod("pod-000001")).len();
        assert!((3_200..=3_500).contains(&pod), "{pod}");
        let config_map = bytes(&config_map("cm-000001")).len();
        assert!((950..=1_100).contains(&config_map), "{config_map}");
    }
}
