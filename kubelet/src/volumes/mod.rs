//! Volumes of pods: made before the containers, refreshed while they run, removed after.
//!
//! Kinds: emptyDir, hostPath, configMap, secret, downwardAPI, projected. Claims, CSI and the in-tree network volumes are
//! refused with an event. `payload` is pure; `atomic_writer` puts files in place so that readers never see a mixture.

pub mod atomic_writer;
pub mod container_mounts;
pub mod mount;
pub mod payload;
pub mod setup;
pub mod tokens;

pub use setup::{MountError, Volumes};

use crate::pod;
use k8s_openapi::api::core::v1::{Pod, Volume};
use std::path::{Path, PathBuf};

/// Directory of a pod's own files: `<root>/pods/<uid>`.
pub fn pod_dir(root: &Path, pod_uid: &str) -> PathBuf {
    root.join("pods").join(pod_uid)
}

/// The plugin directory name of a volume, upstream's escaped plugin names.
pub fn plugin(volume: &Volume) -> Option<&'static str> {
    Some(match volume {
        v if v.empty_dir.is_some() => "kubernetes.io~empty-dir",
        v if v.config_map.is_some() => "kubernetes.io~configmap",
        v if v.secret.is_some() => "kubernetes.io~secret",
        v if v.downward_api.is_some() => "kubernetes.io~downward-api",
        v if v.projected.is_some() => "kubernetes.io~projected",
        v if v.host_path.is_some() => "kubernetes.io~host-path",
        // A volume without a source is an emptyDir.
        Volume {
            persistent_volume_claim: None,
            csi: None,
            ephemeral: None,
            nfs: None,
            iscsi: None,
            fc: None,
            image: None,
            git_repo: None,
            ..
        } => "kubernetes.io~empty-dir",
        _ => return None,
    })
}

/// Where a volume's files are on the host.
pub fn host_path(root: &Path, pod: &Pod, volume: &Volume) -> Option<PathBuf> {
    if let Some(source) = &volume.host_path {
        return Some(PathBuf::from(&source.path));
    }
    Some(
        pod_dir(root, pod::uid(pod))
            .join("volumes")
            .join(plugin(volume)?)
            .join(&volume.name),
    )
}
