//! Defaults of pod specs, in pods and in templates (`SetDefaults_PodSpec`, `_Container`, `_Probe`, ...).

use serde_json::{Map, Value, json};

use super::image;
use crate::set;

/// What the API fills into any pod spec.
pub fn spec(spec: &mut Value) {
    set::zero(spec, "dnsPolicy", "ClusterFirst");
    set::zero(spec, "restartPolicy", "Always");
    set::absent(spec, "securityContext", Map::new());
    set::absent(spec, "terminationGracePeriodSeconds", 30);
    set::zero(spec, "schedulerName", "default-scheduler");
    sync_service_account(spec);
    for volume in set::items(spec, "volumes") {
        self::volume(volume);
    }
    for key in ["initContainers", "containers", "ephemeralContainers"] {
        for container in set::items(spec, key) {
            self::container(container);
        }
    }
}

/// What only pods get, not templates.
pub fn pod_only(spec: &mut Value) {
    let host_network = spec["hostNetwork"] == true;
    for key in ["initContainers", "containers"] {
        for container in set::items(spec, key) {
            requests_from_limits(container);
            if host_network {
                for port in set::items(container, "ports") {
                    let number = port["containerPort"].clone();
                    set::zero(port, "hostPort", number);
                }
            }
        }
    }
    set::absent(spec, "enableServiceLinks", true);
}

/// `serviceAccount` is the deprecated alias of `serviceAccountName`; both carry the same value.
pub fn sync_service_account(spec: &mut Value) {
    if let Some(alias) = spec.get("serviceAccount").filter(|v| !set::is_zero(v)).cloned() {
        set::zero(spec, "serviceAccountName", alias);
    }
    if let Some(name) = spec
        .get("serviceAccountName")
        .filter(|v| !set::is_zero(v))
        .cloned()
    {
        set::put(spec, "serviceAccount", name);
    }
}

/// Requests not given are the limits.
fn requests_from_limits(container: &mut Value) {
    let limits = match container["resources"]["limits"].as_object() {
        Some(limits) if !limits.is_empty() => limits.clone(),
        _ => return,
    };
    let requests = set::object(set::object(container, "resources"), "requests");
    for (name, amount) in limits {
        set::absent(requests, &name, amount);
    }
}

fn container(container: &mut Value) {
    let policy = image::default_pull_policy(container["image"].as_str().unwrap_or(""));
    set::zero(container, "imagePullPolicy", policy);
    set::zero(container, "terminationMessagePath", "/dev/termination-log");
    set::zero(container, "terminationMessagePolicy", "File");
    set::absent(container, "resources", Map::new());
    for port in set::items(container, "ports") {
        set::zero(port, "protocol", "TCP");
    }
    for variable in set::items(container, "env") {
        if let Some(from) = set::some(variable, "valueFrom") {
            downward_source(from);
            if let Some(file) = set::some(from, "fileKeyRef") {
                set::absent(file, "optional", false);
            }
        }
    }
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = set::some(container, key) {
            self::probe(probe);
        }
    }
    if let Some(lifecycle) = set::some(container, "lifecycle") {
        for key in ["postStart", "preStop"] {
            if let Some(hook) = set::some(lifecycle, key) {
                http_get(hook);
            }
        }
    }
}

fn probe(probe: &mut Value) {
    set::zero(probe, "timeoutSeconds", 1);
    set::zero(probe, "periodSeconds", 10);
    set::zero(probe, "successThreshold", 1);
    set::zero(probe, "failureThreshold", 3);
    http_get(probe);
    if let Some(grpc) = set::some(probe, "grpc") {
        set::absent(grpc, "service", "");
    }
}

fn http_get(handler: &mut Value) {
    if let Some(http) = set::some(handler, "httpGet") {
        set::zero(http, "path", "/");
        set::zero(http, "scheme", "HTTP");
    }
}

/// `fieldRef` and `resourceFieldRef` of environment variables and downward API volumes.
fn downward_source(source: &mut Value) {
    if let Some(field) = set::some(source, "fieldRef") {
        set::zero(field, "apiVersion", "v1");
    }
    if let Some(resource) = set::some(source, "resourceFieldRef") {
        set::absent(resource, "divisor", "0");
    }
}

fn volume(volume: &mut Value) {
    let sources = volume.as_object().is_some_and(|fields| {
        fields
            .iter()
            .any(|(key, value)| key != "name" && !value.is_null())
    });
    if !sources {
        set::put(volume, "emptyDir", Map::new());
    }
    for key in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = set::some(volume, key) {
            set::absent(source, "defaultMode", 0o644);
        }
    }
    if let Some(source) = set::some(volume, "downwardAPI") {
        set::items(source, "items").for_each(downward_source);
    }
    if let Some(source) = set::some(volume, "projected") {
        for projection in set::items(source, "sources") {
            if let Some(token) = set::some(projection, "serviceAccountToken") {
                set::absent(token, "expirationSeconds", 3600);
            }
            if let Some(downward) = set::some(projection, "downwardAPI") {
                set::items(downward, "items").for_each(downward_source);
            }
        }
    }
    if let Some(image) = set::some(volume, "image") {
        let policy = image::default_pull_policy(image["reference"].as_str().unwrap_or(""));
        set::zero(image, "pullPolicy", policy);
    }
    if let Some(spec) = set::some(volume, "ephemeral")
        .and_then(|e| set::some(e, "volumeClaimTemplate"))
        .and_then(|t| set::some(t, "spec"))
    {
        set::absent(spec, "volumeMode", "Filesystem");
        set::absent(spec, "resources", Map::new());
    }
    source_constants(volume);
}

/// Sources of volumes and of persistent volumes whose defaults are constants.
pub fn source_constants(volume: &mut Value) {
    for (source, key, value) in [
        ("hostPath", "type", json!("")),
        ("iscsi", "iscsiInterface", json!("default")),
        ("rbd", "pool", json!("rbd")),
        ("rbd", "user", json!("admin")),
        ("rbd", "keyring", json!("/etc/ceph/keyring")),
        ("azureDisk", "cachingMode", json!("ReadWrite")),
        ("azureDisk", "kind", json!("Shared")),
        ("azureDisk", "fsType", json!("ext4")),
        ("azureDisk", "readOnly", json!(false)),
        ("scaleIO", "storageMode", json!("ThinProvisioned")),
        ("scaleIO", "fsType", json!("xfs")),
    ] {
        if let Some(fields) = set::some(volume, source) {
            set::absent(fields, key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_pod() {
        let mut pod = json!({
            "containers": [{
                "name": "a", "image": "nginx",
                "ports": [{"containerPort": 80}],
                "resources": {"limits": {"cpu": "1"}},
                "livenessProbe": {"httpGet": {"port": 80}},
                "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            }],
            "volumes": [{"name": "v"}, {"name": "s", "secret": {"secretName": "x"}}],
            "serviceAccountName": "robot",
        });
        spec(&mut pod);
        pod_only(&mut pod);
        assert_eq!(
            pod,
            json!({
                "containers": [{
                    "name": "a", "image": "nginx", "imagePullPolicy": "Always",
                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
                    "livenessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
                        "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
                    "env": [{"name": "IP",
                        "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}}],
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                }],
                "volumes": [{"name": "v", "emptyDir": {}},
                    {"name": "s", "secret": {"secretName": "x", "defaultMode": 420}}],
                "serviceAccountName": "robot", "serviceAccount": "robot",
                "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "securityContext": {},
                "terminationGracePeriodSeconds": 30, "schedulerName": "default-scheduler",
                "enableServiceLinks": true,
            })
        );
    }
}
