//! Makes a pod's volumes, brings their contents up to date, and takes them away again.

use super::atomic_writer::{self, Owner};
use super::payload::{self, File, Payload, Select};
use super::tokens::Tokens;
use super::{host_path, mount, plugin, pod_dir};
use crate::objects::{Missing, Objects};
use crate::{pod, quantity};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ConfigMap, EmptyDirVolumeSource, HostPathVolumeSource, Pod, Secret, Volume, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a volume is not there: the text of the FailedMount event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume \"{volume}\" : {why}")]
pub struct MountError {
    pub volume: String,
    pub why: String,
}

/// What contents depend on beside the API's objects.
#[derive(Clone, Debug, Default)]
pub struct Context {
    pub host_ips: Vec<String>,
    pub pod_ips: Vec<String>,
    pub allocatable: BTreeMap<String, Quantity>,
}

/// The volumes of all pods on the node.
pub struct Volumes {
    root: PathBuf,
    objects: Arc<Objects>,
    tokens: Tokens,
}

impl Volumes {
    pub fn new(root: PathBuf, objects: Arc<Objects>, tokens: Tokens) -> Self {
        Volumes {
            root,
            objects,
            tokens,
        }
    }

    /// Makes or refreshes every volume; answers when contents must be refreshed at the latest.
    pub async fn ensure(&self, pod: &Pod, context: &Context) -> Result<Option<Timestamp>, Vec<MountError>> {
        let volumes = pod::spec(pod).volumes.as_deref().unwrap_or_default();
        let results =
            futures::future::join_all(volumes.iter().map(|v| self.ensure_one(pod, v, context))).await;
        let mut refresh: Option<Timestamp> = None;
        let mut errors = Vec::new();
        for (volume, result) in volumes.iter().zip(results) {
            match result {
                Ok(Some(at)) => refresh = Some(refresh.map_or(at, |old| old.min(at))),
                Ok(None) => {}
                Err(why) => errors.push(MountError {
                    volume: volume.name.clone(),
                    why,
                }),
            }
        }
        if errors.is_empty() {
            Ok(refresh)
        } else {
            Err(errors)
        }
    }

    /// Unmounts and removes everything of a pod.
    pub fn remove(&self, pod_uid: &str) -> std::io::Result<()> {
        let dir = pod_dir(&self.root, pod_uid);
        self.objects.release(pod_uid);
        self.tokens.forget(pod_uid);
        if !dir.exists() {
            return Ok(());
        }
        mount::unmount_below(&dir)?;
        // Never follows links and never crosses into a mount: a hostPath is not below this directory.
        fs::remove_dir_all(&dir)
    }

    /// Uids of the pods that have a directory here.
    pub fn pods(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root.join("pods"))
            .into_iter()
            .flatten()
            .flatten();
        entries.filter_map(|e| e.file_name().into_string().ok()).collect()
    }

    async fn ensure_one(
        &self,
        pod: &Pod,
        volume: &Volume,
        context: &Context,
    ) -> Result<Option<Timestamp>, String> {
        if let Some(source) = &volume.host_path {
            return check_host_path(source).map(|()| None);
        }
        if plugin(volume).is_none() {
            return Err(unsupported(volume));
        }
        let dir = host_path(&self.root, pod, volume).ok_or_else(|| unsupported(volume))?;
        let group = pod::spec(pod)
            .security_context
            .as_ref()
            .and_then(|s| s.fs_group)
            .and_then(|g| u32::try_from(g).ok());
        let (payload, refresh) = match self.contents(pod, volume, context).await? {
            Some(found) => found,
            None => {
                let source = volume.empty_dir.clone().unwrap_or_default();
                return empty_dir(&dir, &source, group)
                    .map(|()| None)
                    .map_err(|e| e.to_string());
            }
        };
        let owner = Owner {
            uid: None,
            gid: group,
        };
        let write = || -> std::io::Result<()> {
            if !dir.exists() {
                fs::create_dir_all(&dir)?;
            }
            let mut mode = if group.is_some() { 0o2777 } else { 0o777 };
            if volume.config_map.is_none() {
                // Secrets, tokens and pod data never reach a disk.
                mount::tmpfs(&dir, None)?;
                mode |= 0o1000;
            }
            fs::set_permissions(&dir, fs::Permissions::from_mode(mode))?;
            chown(&dir, None, group)?;
            atomic_writer::write(&dir, &payload, owner, Timestamp::now()).map(drop)
        };
        write().map_err(|e| format!("{}: {e}", dir.display()))?;
        Ok(refresh)
    }

    /// The files of a volume made of API objects; none for an emptyDir.
    async fn contents(
        &self,
        pod: &Pod,
        volume: &Volume,
        context: &Context,
    ) -> Result<Option<(Payload, Option<Timestamp>)>, String> {
        if let Some(source) = &volume.config_map {
            let select = select(source.items.as_deref(), source.default_mode, source.optional);
            return self
                .config_map(pod, &source.name, select)
                .await
                .map(|p| Some((p, None)));
        }
        if let Some(source) = &volume.secret {
            let select = select(source.items.as_deref(), source.default_mode, source.optional);
            let name = source.secret_name.as_deref().unwrap_or_default();
            return self.secret(pod, name, select).await.map(|p| Some((p, None)));
        }
        let addresses = (context.host_ips.as_slice(), context.pod_ips.as_slice());
        if let Some(source) = &volume.downward_api {
            let items = source.items.as_deref().unwrap_or_default();
            let payload = payload::downward(
                pod,
                items,
                mode(source.default_mode),
                addresses,
                &context.allocatable,
            )?;
            return Ok(Some((payload, None)));
        }
        let Some(source) = &volume.projected else {
            return Ok(None);
        };
        let default_mode = mode(source.default_mode);
        let mut all = Payload::new();
        let mut refresh: Option<Timestamp> = None;
        for projection in source.sources.iter().flatten() {
            let (part, at) = self.projection(pod, projection, default_mode, context).await?;
            all.extend(part);
            refresh = [refresh, at].into_iter().flatten().min();
        }
        Ok(Some((all, refresh)))
    }

    async fn projection(
        &self,
        pod: &Pod,
        projection: &VolumeProjection,
        default_mode: u32,
        context: &Context,
    ) -> Result<(Payload, Option<Timestamp>), String> {
        let with = |items, optional: Option<bool>| Select {
            items,
            default_mode,
            optional: optional.unwrap_or(false),
        };
        if let Some(source) = &projection.config_map {
            let select = with(source.items.as_deref(), source.optional);
            return self
                .config_map(pod, &source.name, select)
                .await
                .map(|p| (p, None));
        }
        if let Some(source) = &projection.secret {
            let select = with(source.items.as_deref(), source.optional);
            return self.secret(pod, &source.name, select).await.map(|p| (p, None));
        }
        if let Some(source) = &projection.downward_api {
            let addresses = (context.host_ips.as_slice(), context.pod_ips.as_slice());
            let items = source.items.as_deref().unwrap_or_default();
            let payload = payload::downward(pod, items, default_mode, addresses, &context.allocatable)?;
            return Ok((payload, None));
        }
        if let Some(source) = &projection.service_account_token {
            let audience = source.audience.as_deref().unwrap_or_default();
            let ttl = source.expiration_seconds.unwrap_or(3600);
            let (token, renew_at) = self.tokens.get(pod, audience, ttl).await?;
            let file = File {
                data: token.into_bytes(),
                mode: default_mode,
            };
            return Ok((
                Payload::from([(payload::clean(&source.path)?, file)]),
                Some(renew_at),
            ));
        }
        Err(
            "projected volume source is not supported by this kubelet (clusterTrustBundle, podCertificate)"
                .into(),
        )
    }

    async fn config_map(&self, pod: &Pod, name: &str, select: Select<'_>) -> Result<Payload, String> {
        let namespace = pod::namespace(pod);
        let found: Result<Arc<ConfigMap>, _> =
            self.objects.config_maps.get(pod::uid(pod), namespace, name).await;
        match found {
            Ok(map) => payload::config_map(&map, select).map_err(|why| format!("configmap {why}")),
            Err(Missing::NotFound) if select.optional => Ok(Payload::new()),
            Err(Missing::NotFound) => Err(format!("configmap \"{name}\" not found")),
            Err(Missing::Failed(why)) => Err(why),
        }
    }

    async fn secret(&self, pod: &Pod, name: &str, select: Select<'_>) -> Result<Payload, String> {
        let namespace = pod::namespace(pod);
        let found: Result<Arc<Secret>, _> = self.objects.secrets.get(pod::uid(pod), namespace, name).await;
        match found {
            Ok(secret) => payload::secret(&secret, select),
            Err(Missing::NotFound) if select.optional => Ok(Payload::new()),
            Err(Missing::NotFound) => Err(format!("secret \"{name}\" not found")),
            Err(Missing::Failed(why)) => Err(why),
        }
    }
}

fn select(
    items: Option<&[k8s_openapi::api::core::v1::KeyToPath]>,
    default_mode: Option<i32>,
    optional: Option<bool>,
) -> Select<'_> {
    Select {
        items,
        default_mode: mode(default_mode),
        optional: optional.unwrap_or(false),
    }
}

fn mode(mode: Option<i32>) -> u32 {
    mode.unwrap_or(0o644).cast_unsigned()
}

fn unsupported(volume: &Volume) -> String {
    let what = if volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some() {
        "persistent volume claims"
    } else if volume.csi.is_some() {
        "CSI volumes"
    } else if volume.image.is_some() {
        "image volumes"
    } else {
        "this kind of volume"
    };
    format!("{what} are not supported by this kubelet yet")
}

fn empty_dir(dir: &Path, source: &EmptyDirVolumeSource, group: Option<u32>) -> std::io::Result<()> {
    let medium = source.medium.as_deref().unwrap_or_default();
    if dir.exists() && (medium != "Memory" || mount::is_mount_point(dir)) {
        return Ok(());
    }
    fs::create_dir_all(dir)?;
    if medium == "Memory" {
        mount::tmpfs(dir, source.size_limit.as_ref().map(quantity::value))?;
    }
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    chown(dir, None, group)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(mode))
}

/// The type check of a hostPath, with upstream's messages.
fn check_host_path(source: &HostPathVolumeSource) -> Result<(), String> {
    let path = Path::new(&source.path);
    let kind = source.type_.as_deref().unwrap_or_default();
    let meta = fs::metadata(path).ok();
    let fail = |what: &str| {
        Err(format!(
            "hostPath type check failed: {} is not {what}",
            source.path
        ))
    };
    match kind {
        "DirectoryOrCreate" if meta.is_none() => fs::create_dir_all(path).map_err(|e| e.to_string()),
        "FileOrCreate" if meta.is_none() => fs::File::create(path).map(drop).map_err(|e| e.to_string()),
        "Directory" | "DirectoryOrCreate" if !meta.as_ref().is_some_and(|m| m.is_dir()) => {
            fail("a directory")
        }
        "File" | "FileOrCreate" if !meta.as_ref().is_some_and(|m| m.is_file()) => fail("a file"),
        "Socket" if !meta.as_ref().is_some_and(|m| m.file_type().is_socket()) => fail("a socket file"),
        "CharDevice" if !meta.as_ref().is_some_and(|m| m.file_type().is_char_device()) => {
            fail("a character device")
        }
        "BlockDevice" if !meta.as_ref().is_some_and(|m| m.file_type().is_block_device()) => {
            fail("a block device")
        }
        _ => Ok(()),
    }
}
