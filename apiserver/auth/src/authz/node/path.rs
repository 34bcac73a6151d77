//! Is there a path from a node to an object, over the pods bound to the node?

use keelson_machinery::{GroupResource, ObjectReader};
use serde_json::Value;

use crate::pod_references::{Referenced, is_mirror, refers};

/// What the object is, and so how the node can reach it.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// Named by a pod of the node, or by a volume of one of its claims.
    Pod(Referenced),
    /// Bound to a claim of a pod of the node.
    PersistentVolume,
    /// Names the node itself.
    VolumeAttachment,
    ResourceSlice,
    /// A pod bound to the node.
    OwnPod,
}

const PODS: GroupResource = GroupResource::new("", "pods");
const VOLUMES: GroupResource = GroupResource::new("", "persistentvolumes");
const ATTACHMENTS: GroupResource = GroupResource::new("storage.k8s.io", "volumeattachments");
const SLICES: GroupResource = GroupResource::new("resource.k8s.io", "resourceslices");

pub fn exists(reader: &dyn ObjectReader, node: &str, target: Target, namespace: &str, name: &str) -> bool {
    let on_node = |object: Option<std::sync::Arc<Value>>| {
        object.is_some_and(|object| object["spec"]["nodeName"] == node)
    };
    match target {
        Target::Pod(Referenced::Secret) => {
            by_pod(reader, node, Referenced::Secret, namespace, name)
                || by_volume(reader, node, namespace, name)
        }
        Target::Pod(kind) => by_pod(reader, node, kind, namespace, name),
        Target::PersistentVolume => reader
            .get(&VOLUMES, None, name)
            .is_some_and(|volume| claimed_on(reader, node, &volume)),
        Target::VolumeAttachment => on_node(reader.get(&ATTACHMENTS, None, name)),
        Target::ResourceSlice => on_node(reader.get(&SLICES, None, name)),
        Target::OwnPod => on_node(reader.get(&PODS, Some(namespace), name)),
    }
}

/// Mirror pods are made by nodes and give them nothing.
fn by_pod(reader: &dyn ObjectReader, node: &str, kind: Referenced, namespace: &str, name: &str) -> bool {
    reader
        .pods_on_node(namespace, node, mentioned(kind, name))
        .iter()
        .any(|pod| !is_mirror(pod) && refers(pod, kind, name))
}

/// What the text of a pod that refers to the object holds: its name, but for claims, which pods may leave to be made up.
fn mentioned(kind: Referenced, name: &str) -> &str {
    match kind {
        Referenced::PersistentVolumeClaim => "",
        _ => name,
    }
}

fn claimed_on(reader: &dyn ObjectReader, node: &str, volume: &Value) -> bool {
    let claim = &volume["spec"]["claimRef"];
    match (claim["namespace"].as_str(), claim["name"].as_str()) {
        (Some(namespace), Some(name)) => {
            by_pod(reader, node, Referenced::PersistentVolumeClaim, namespace, name)
        }
        _ => false,
    }
}

/// Secrets that volumes name are in a namespace of their own, or in the claim's.
fn by_volume(reader: &dyn ObjectReader, node: &str, namespace: &str, name: &str) -> bool {
    reader
        .list(&VOLUMES, None)
        .iter()
        .any(|volume| volume_names_secret(volume, namespace, name) && claimed_on(reader, node, volume))
}

fn volume_names_secret(volume: &Value, namespace: &str, name: &str) -> bool {
    const REFERENCES: [(&str, &str); 10] = [
        ("cephfs", "secretRef"),
        ("cinder", "secretRef"),
        ("flexVolume", "secretRef"),
        ("rbd", "secretRef"),
        ("scaleIO", "secretRef"),
        ("iscsi", "secretRef"),
        ("storageos", "secretRef"),
        ("csi", "nodePublishSecretRef"),
        ("csi", "nodeStageSecretRef"),
        ("csi", "nodeExpandSecretRef"),
    ];
    let spec = &volume["spec"];
    let claim_namespace = spec["claimRef"]["namespace"].as_str().unwrap_or("");
    let is = |own_name: &Value, own_namespace: &Value| {
        own_name == name
            && own_namespace
                .as_str()
                .filter(|own| !own.is_empty())
                .unwrap_or(claim_namespace)
                == namespace
    };
    let azure = &spec["azureFile"];
    is(&azure["secretName"], &azure["secretNamespace"])
        || REFERENCES.iter().any(|(source, field)| {
            let reference = &spec[source][field];
            is(&reference["name"], &reference["namespace"])
        })
}
