//! The mounts of one container: its volume mounts, `/etc/hosts`, the termination log.

use super::{host_path, mount, pod_dir};
use crate::pod;
use crate::runtime::expansion::expand;
use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};
use keelson_proto::cri::v1::{Mount, MountPropagation};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

/// What a container's mounts are made from.
pub struct MountInputs<'a> {
    pub root: &'a Path,
    pub env: &'a [(String, String)],
    /// Text of `/etc/hosts`; none when the container mounts its own.
    pub hosts: Option<String>,
    pub restart_count: u32,
}

/// All mounts, with the files and directories they need made. Errors are `CreateContainerConfigError`s.
pub fn prepare(pod: &Pod, container: &Container, inputs: &MountInputs<'_>) -> Result<Vec<Mount>, String> {
    let mut mounts = Vec::new();
    let list = container.volume_mounts.as_deref().unwrap_or_default();
    for (index, m) in list.iter().enumerate() {
        mounts.push(volume_mount(pod, container, m, index, inputs)?);
    }
    if let Some(text) = &inputs.hosts
        && !list.iter().any(|m| m.mount_path == "/etc/hosts")
    {
        let path = pod_dir(inputs.root, pod::uid(pod)).join("etc-hosts");
        write_hosts(&path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
        mounts.push(plain("/etc/hosts", &path, false));
    }
    let target = container
        .termination_message_path
        .as_deref()
        .unwrap_or("/dev/termination-log");
    if !target.is_empty() {
        let path = termination_log(inputs.root, pod, container, inputs.restart_count)
            .map_err(|e| format!("cannot make the termination log: {e}"))?;
        mounts.push(plain(target, &path, false));
    }
    Ok(mounts)
}

fn volume_mount(
    pod: &Pod,
    container: &Container,
    m: &VolumeMount,
    index: usize,
    inputs: &MountInputs<'_>,
) -> Result<Mount, String> {
    let volumes = pod::spec(pod).volumes.as_deref().unwrap_or_default();
    let volume = volumes.iter().find(|v| v.name == m.name).ok_or_else(|| {
        format!(
            "cannot find volume \"{}\" to mount into container \"{}\"",
            m.name, container.name
        )
    })?;
    let base = host_path(inputs.root, pod, volume).ok_or_else(|| {
        format!(
            "cannot find volume \"{}\" to mount into container \"{}\"",
            m.name, container.name
        )
    })?;
    let sub = match (&m.sub_path_expr, &m.sub_path) {
        (Some(expr), _) if !expr.is_empty() => {
            let lookup = |n: &str| inputs.env.iter().find(|(k, _)| k == n).map(|(_, v)| v.clone());
            Some(expand(expr, lookup))
        }
        (_, Some(path)) if !path.is_empty() => Some(path.clone()),
        _ => None,
    };
    let source = match sub {
        Some(sub) => sub_path(pod, container, &base, &sub, (&m.name, index), inputs.root)?,
        None => base,
    };
    let target = if m.mount_path.starts_with('/') {
        m.mount_path.clone()
    } else {
        format!("/{}", m.mount_path)
    };
    Ok(Mount {
        propagation: match m.mount_propagation.as_deref() {
            Some("HostToContainer") => MountPropagation::PropagationHostToContainer as i32,
            Some("Bidirectional") => MountPropagation::PropagationBidirectional as i32,
            _ => MountPropagation::PropagationPrivate as i32,
        },
        recursive_read_only: m.recursive_read_only.as_deref() == Some("Enabled"),
        ..plain(&target, &source, m.read_only.unwrap_or(false))
    })
}

fn plain(target: &str, source: &Path, readonly: bool) -> Mount {
    Mount {
        container_path: target.into(),
        host_path: source.to_string_lossy().into_owned(),
        readonly,
        ..Mount::default()
    }
}

/// A subPath is bind-mounted to a place of the kubelet's, so that a link swapped later leads nowhere new.
fn sub_path(
    pod: &Pod,
    container: &Container,
    base: &Path,
    sub: &str,
    volume: (&str, usize),
    root: &Path,
) -> Result<PathBuf, String> {
    let relative = Path::new(sub);
    if relative.is_absolute() || relative.components().any(|c| matches!(c, Component::ParentDir)) {
        return Err(format!("subPath \"{sub}\" must be a relative path without '..'"));
    }
    let prepare = || -> io::Result<PathBuf> {
        let base = base.canonicalize()?;
        let wanted = base.join(relative);
        if !wanted.exists() {
            let mode = fs::metadata(&base)?.permissions().mode() & 0o7777;
            fs::create_dir_all(&wanted)?;
            fs::set_permissions(&wanted, fs::Permissions::from_mode(mode))?;
        }
        let real = wanted.canonicalize()?;
        if !real.starts_with(&base) {
            return Err(io::Error::other(format!(
                "subPath \"{sub}\" leads outside of its volume"
            )));
        }
        let target = pod_dir(root, pod::uid(pod))
            .join("volume-subpaths")
            .join(volume.0)
            .join(&container.name)
            .join(volume.1.to_string());
        mount::unmount_below(&target)?;
        if real.is_dir() {
            fs::create_dir_all(&target)?;
        } else {
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent)?;
            }
            OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o640)
                .open(&target)?;
        }
        mount::bind(&real, &target)?;
        Ok(target)
    };
    prepare().map_err(|e| {
        format!(
            "failed to prepare subPath for volumeMount \"{}\" of container \"{}\": {e}",
            volume.0, container.name
        )
    })
}

fn write_hosts(path: &Path, text: &str) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

/// A file per attempt: an old message is never taken for a new one.
fn termination_log(root: &Path, pod: &Pod, container: &Container, restart_count: u32) -> io::Result<PathBuf> {
    let dir = pod_dir(root, pod::uid(pod))
        .join("containers")
        .join(&container.name);
    fs::create_dir_all(&dir)?;
    let path = dir.join(format!("{restart_count:08x}"));
    fs::File::create(&path)?;
    // World-writable, because the container's user is not known here.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
    Ok(path)
}
