//! What a pod names in its namespace: the objects its node must be able to read.

use serde_json::Value;

/// One kind of object a pod refers to by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Referenced {
    Secret,
    ConfigMap,
    ServiceAccount,
    PersistentVolumeClaim,
    ResourceClaim,
}

/// The annotation of pods that mirror a node's static pods.
pub const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

pub fn is_mirror(pod: &Value) -> bool {
    pod["metadata"]["annotations"][MIRROR_ANNOTATION].is_string()
}

/// All containers: init, regular and ephemeral, in that order.
pub fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|field| items(&spec[field]))
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// Calls `visit` with every reference of the pod; the same may come more than once.
pub fn visit<'a>(pod: &'a Value, visit: &mut dyn FnMut(Referenced, &str)) {
    let spec = &pod["spec"];
    let mut name = |kind: Referenced, value: &'a Value| {
        if let Some(name) = value.as_str().filter(|name| !name.is_empty()) {
            visit(kind, name);
        }
    };
    name(Referenced::ServiceAccount, &spec["serviceAccountName"]);
    for secret in items(&spec["imagePullSecrets"]) {
        name(Referenced::Secret, &secret["name"]);
    }
    for container in containers(spec) {
        for from in items(&container["envFrom"]) {
            name(Referenced::Secret, &from["secretRef"]["name"]);
            name(Referenced::ConfigMap, &from["configMapRef"]["name"]);
        }
        for variable in items(&container["env"]) {
            name(Referenced::Secret, &variable["valueFrom"]["secretKeyRef"]["name"]);
            name(
                Referenced::ConfigMap,
                &variable["valueFrom"]["configMapKeyRef"]["name"],
            );
        }
    }
    for volume in items(&spec["volumes"]) {
        for (source, field) in SECRET_SOURCES {
            name(Referenced::Secret, &volume[source][field]["name"]);
        }
        name(Referenced::Secret, &volume["secret"]["secretName"]);
        name(Referenced::Secret, &volume["azureFile"]["secretName"]);
        name(Referenced::ConfigMap, &volume["configMap"]["name"]);
        name(
            Referenced::PersistentVolumeClaim,
            &volume["persistentVolumeClaim"]["claimName"],
        );
        for source in items(&volume["projected"]["sources"]) {
            name(Referenced::Secret, &source["secret"]["name"]);
            name(Referenced::ConfigMap, &source["configMap"]["name"]);
        }
    }
    for claim in items(&spec["resourceClaims"]) {
        name(Referenced::ResourceClaim, &claim["resourceClaimName"]);
    }
    for claim in items(&pod["status"]["resourceClaimStatuses"]) {
        name(Referenced::ResourceClaim, &claim["resourceClaimName"]);
    }
    name(
        Referenced::ResourceClaim,
        &pod["status"]["extendedResourceClaimStatus"]["resourceClaimName"],
    );
    visit_ephemeral_claims(pod, visit);
}

/// An ephemeral volume's claim is named after the pod and the volume.
fn visit_ephemeral_claims(pod: &Value, visit: &mut dyn FnMut(Referenced, &str)) {
    let pod_name = pod["metadata"]["name"].as_str().unwrap_or("");
    for volume in items(&pod["spec"]["volumes"]) {
        if volume["ephemeral"].is_object() {
            let claim = format!("{pod_name}-{}", volume["name"].as_str().unwrap_or(""));
            visit(Referenced::PersistentVolumeClaim, &claim);
        }
    }
}

/// Volume sources with a reference to a Secret, and its field.
const SECRET_SOURCES: [(&str, &str); 8] = [
    ("cephfs", "secretRef"),
    ("cinder", "secretRef"),
    ("flexVolume", "secretRef"),
    ("rbd", "secretRef"),
    ("scaleIO", "secretRef"),
    ("iscsi", "secretRef"),
    ("storageos", "secretRef"),
    ("csi", "nodePublishSecretRef"),
];

/// Whether the pod names this object.
pub fn refers(pod: &Value, kind: Referenced, name: &str) -> bool {
    let mut found = false;
    visit(pod, &mut |own, other| found |= own == kind && other == name);
    found
}

/// Whether the pod names any object of this kind.
pub fn refers_any(pod: &Value, kind: Referenced) -> bool {
    let mut found = false;
    visit(pod, &mut |own, _| found |= own == kind);
    found
}
