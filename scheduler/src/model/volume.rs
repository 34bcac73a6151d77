//! What scheduling needs of volumes: which claim or disk a pod uses, and what claims and volumes allow.

use k8s_openapi::api::core::v1::{self as api, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;

use super::labels::NodeTerm;

/// A volume that can decide where a pod runs; all others are left out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Volume {
    /// A PersistentVolumeClaim of the pod's namespace. `ephemeral` ones are created with the pod.
    Claim { name: Box<str>, ephemeral: bool },
    /// A disk that only one node may write: kind and identity, and whether this use is read-only.
    Disk { id: Box<str>, read_only: bool },
}

impl Volume {
    /// From the API's form, for a pod of this name.
    pub fn new(volume: &api::Volume, pod_name: &str) -> Option<Self> {
        if let Some(claim) = &volume.persistent_volume_claim {
            return Some(Self::Claim {
                name: claim.claim_name.as_str().into(),
                ephemeral: false,
            });
        }
        if volume.ephemeral.is_some() {
            return Some(Self::Claim {
                name: format!("{pod_name}-{}", volume.name).into(),
                ephemeral: true,
            });
        }
        if let Some(disk) = &volume.gce_persistent_disk {
            let id = format!("gce/{}", disk.pd_name).into();
            return Some(Self::Disk {
                id,
                read_only: disk.read_only.unwrap_or(false),
            });
        }
        if let Some(disk) = &volume.aws_elastic_block_store {
            // EBS cannot be attached twice, even for reading.
            return Some(Self::Disk {
                id: format!("aws/{}", disk.volume_id).into(),
                read_only: false,
            });
        }
        if let Some(iscsi) = &volume.iscsi {
            let id = format!("iscsi/{}", iscsi.iqn).into();
            return Some(Self::Disk {
                id,
                read_only: iscsi.read_only.unwrap_or(false),
            });
        }
        let rbd = volume.rbd.as_ref()?;
        let pool = rbd.pool.as_deref().unwrap_or("rbd");
        let id = format!("rbd/{}/{pool}/{}", rbd.monitors.join(","), rbd.image).into();
        Some(Self::Disk {
            id,
            read_only: rbd.read_only.unwrap_or(false),
        })
    }
}

/// A PersistentVolumeClaim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Only one pod at a time may use it (`ReadWriteOncePod`).
    pub exclusive: bool,
    pub volume_name: Option<Box<str>>,
    /// Bound by the volume controller, so that the volume may be relied on.
    pub bound: bool,
    pub storage_class: Option<Box<str>>,
    pub deleting: bool,
    pub lost: bool,
}

impl Claim {
    /// From the API's form.
    pub fn new(claim: &PersistentVolumeClaim) -> Self {
        let spec = claim.spec.as_ref();
        let modes = spec.and_then(|s| s.access_modes.as_deref()).unwrap_or_default();
        let volume = spec
            .and_then(|s| s.volume_name.as_deref())
            .filter(|v| !v.is_empty());
        let bound_by_controller = claim
            .metadata
            .annotations
            .as_ref()
            .is_some_and(|a| a.contains_key("pv.kubernetes.io/bind-completed"));
        Self {
            exclusive: modes.iter().any(|m| m == "ReadWriteOncePod"),
            volume_name: volume.map(Into::into),
            bound: volume.is_some() && bound_by_controller,
            storage_class: spec.and_then(|s| s.storage_class_name.as_deref()).map(Into::into),
            deleting: claim.metadata.deletion_timestamp.is_some(),
            lost: claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Lost"),
        }
    }
}

/// A PersistentVolume: the nodes that can reach it; `None` is all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundVolume {
    pub node_terms: Option<Box<[NodeTerm]>>,
}

impl BoundVolume {
    /// From the API's form.
    pub fn new(volume: &PersistentVolume) -> Self {
        let affinity = volume.spec.as_ref().and_then(|s| s.node_affinity.as_ref());
        let required = affinity.and_then(|a| a.required.as_ref());
        Self {
            node_terms: required.map(|r| r.node_selector_terms.iter().map(NodeTerm::new).collect()),
        }
    }
}

/// A StorageClass: whether its volumes wait for a pod's node to be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    pub wait_for_consumer: bool,
    /// A provisioner makes volumes (anything but `kubernetes.io/no-provisioner`).
    pub provisions: bool,
}

impl Class {
    /// From the API's form.
    pub fn new(class: &StorageClass) -> Self {
        Self {
            wait_for_consumer: class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"),
            provisions: class.provisioner != "kubernetes.io/no-provisioner",
        }
    }
}
