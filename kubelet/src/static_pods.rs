//! Static pods: manifests in a directory (or one file), run without the API server and mirrored to it.
//!
//! The directory is followed by inotify. A static pod's uid is a hash of its manifest and the node, so that a changed
//! manifest is another pod. Its mirror is created, and created anew when someone deletes it.

use crate::host::Host;
use crate::limits;
use crate::pod;
use crate::pods::Pods;
use k8s_openapi::api::core::v1::{Pod, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use keelson_base::error::chain;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::unix::pipe::Receiver;

const RETRY: std::time::Duration = std::time::Duration::from_secs(2);

/// Follows the manifests for ever.
pub async fn follow(path: PathBuf, host: Arc<Host>, pods: Arc<Pods>) {
    let mut known: BTreeMap<String, Arc<Pod>> = BTreeMap::new();
    loop {
        let watch = watch(&path);
        let mut mirrored = true;
        let found = read(&path, &host.settings.node_name);
        for (uid, gone) in known.iter().filter(|(uid, _)| !found.contains_key(*uid)) {
            tracing::info!(uid, pod = %pod::full_name(gone), "static pod removed");
            pods.gone(gone);
            delete_mirror(&host, gone).await;
        }
        for (uid, new) in &found {
            if !known.contains_key(uid) {
                pods.put(new);
            }
            match ensure_mirror(&host, new).await {
                // One that was there before has no event to come.
                Some(mirror) if pod::is_mirror(&mirror) => pods.put(&Arc::new(mirror)),
                other => mirrored &= other.is_some(),
            }
        }
        known = found;
        if mirrored {
            changed(watch).await;
        } else {
            // Before the node is registered the API server takes no mirror.
            let _ = tokio::time::timeout(RETRY, changed(watch)).await;
        }
    }
}

/// Makes the mirror of a static pod that has none; replaces one of another manifest. None when it has
/// to be tried again.
pub async fn ensure_mirror(host: &Host, pod: &Pod) -> Option<Pod> {
    let api: Api<Pod> = Api::namespaced(host.client.clone(), pod::namespace(pod));
    let mirror = mirror(
        pod,
        host.node
            .get("", &host.settings.node_name)
            .and_then(|n| n.metadata.uid.clone()),
    );
    match api.create(&PostParams::default(), &mirror).await {
        Ok(made) => Some(made),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let hash = |p: &Pod| pod::annotation(p, pod::CONFIG_HASH).map(str::to_owned);
            let old = api.get_opt(pod::name(pod)).await.ok()??;
            if pod::is_mirror(&old) && hash(&old) != hash(&mirror) {
                delete_mirror(host, &old).await;
                return api.create(&PostParams::default(), &mirror).await.ok();
            }
            Some(old)
        }
        Err(error) => {
            tracing::warn!(pod = %pod::full_name(pod), error = %chain(&error), "mirror pod not made; retrying");
            None
        }
    }
}

pub async fn delete_mirror(host: &Host, pod: &Pod) {
    let api: Api<Pod> = Api::namespaced(host.client.clone(), pod::namespace(pod));
    let Ok(Some(mirror)) = api.get_opt(pod::name(pod)).await else {
        return;
    };
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions {
            uid: mirror.metadata.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    if pod::is_mirror(&mirror)
        && let Err(error) = api.delete(pod::name(pod), &params).await
    {
        tracing::warn!(pod = %pod::full_name(pod), error = %chain(&error), "mirror pod not deleted");
    }
}

/// The API object that stands for a static pod.
fn mirror(pod: &Pod, node_uid: Option<String>) -> Pod {
    let mut mirror = pod.clone();
    let hash = pod::annotation(pod, pod::CONFIG_HASH)
        .unwrap_or_default()
        .to_owned();
    mirror.metadata.uid = None;
    mirror.status = None;
    mirror
        .metadata
        .annotations
        .get_or_insert_default()
        .insert(pod::CONFIG_MIRROR.into(), hash);
    mirror.metadata.owner_references = node_uid.map(|uid| {
        vec![OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: pod::spec(pod).node_name.clone().unwrap_or_default(),
            uid,
            controller: Some(true),
            ..OwnerReference::default()
        }]
    });
    mirror
}

/// All manifests that can be read, by uid.
fn read(path: &Path, node: &str) -> BTreeMap<String, Arc<Pod>> {
    let files: Vec<PathBuf> = if path.is_dir() {
        std::fs::read_dir(path)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path())
            .collect()
    } else {
        vec![path.to_owned()]
    };
    let mut found = BTreeMap::new();
    for file in files {
        let hidden = file
            .file_name()
            .is_some_and(|n| n.to_string_lossy().starts_with('.'));
        let Ok(meta) = std::fs::metadata(&file) else {
            continue;
        };
        if hidden || !meta.is_file() || meta.len() > limits::MANIFEST_BYTES_MAX {
            continue;
        }
        let parsed = std::fs::read_to_string(&file)
            .map_err(|e| e.to_string())
            .and_then(|text| parse(&text, node));
        match parsed {
            Ok(pod) => drop(found.insert(pod::uid(&pod).to_owned(), Arc::new(pod))),
            Err(error) => tracing::warn!(file = %file.display(), error, "static pod manifest not usable"),
        }
    }
    found
}

/// A pod from a manifest, with the name, uid and annotations of a static one.
fn parse(text: &str, node: &str) -> Result<Pod, String> {
    let value: serde_json::Value = serde_yaml::from_str(text).map_err(|e| e.to_string())?;
    if value["apiVersion"] != "v1" || value["kind"] != "Pod" {
        return Err(format!(
            "is {} {}, not a v1 Pod",
            value["apiVersion"], value["kind"]
        ));
    }
    let mut pod: Pod = serde_json::from_value(value).map_err(|e| e.to_string())?;
    let digest = Sha256::digest(format!("{node}\n{text}"));
    let hash: String = digest.iter().take(16).map(|b| format!("{b:02x}")).collect();
    let name = pod
        .metadata
        .name
        .take()
        .filter(|n| !n.is_empty())
        .ok_or("has no name")?;
    pod.metadata.name = Some(format!("{name}-{node}"));
    pod.metadata.namespace.get_or_insert_with(|| "default".into());
    pod.metadata.uid = Some(hash.clone());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(pod::CONFIG_SOURCE.into(), "file".into());
    annotations.insert(pod::CONFIG_HASH.into(), hash);
    let spec = pod.spec.as_mut().ok_or("has no spec")?;
    spec.node_name = Some(node.to_owned());
    spec.enable_service_links.get_or_insert(true);
    // A static pod stays whatever befalls the node.
    spec.tolerations.get_or_insert_default().push(Toleration {
        operator: Some("Exists".into()),
        effect: Some("NoExecute".into()),
        ..Toleration::default()
    });
    for container in &mut spec.containers {
        container
            .image_pull_policy
            .get_or_insert_with(|| "IfNotPresent".into());
        container
            .termination_message_path
            .get_or_insert_with(|| "/dev/termination-log".into());
    }
    Ok(pod)
}

fn watch(path: &Path) -> Option<Receiver> {
    let dir = if path.is_dir() { path } else { path.parent()? };
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok()?;
    let flags = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM;
    inotify.add_watch(dir, flags).ok()?;
    Receiver::from_owned_fd_unchecked(OwnedFd::from(inotify)).ok()
}

/// Waits for a change; where the directory cannot be watched (it may not exist yet), for upstream's 20 s.
async fn changed(watch: Option<Receiver>) {
    match watch {
        Some(watch) if watch.readable().await.is_ok() => {}
        _ => tokio::time::sleep(std::time::Duration::from_secs(20)).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: i}]}\n";

    #[test]
    fn manifests_become_pods_of_this_node() {
        let pod = parse(MANIFEST, "n1").unwrap();
        assert_eq!((pod::name(&pod), pod::namespace(&pod)), ("web-n1", "default"));
        assert!(pod::is_static(&pod) && !pod::is_mirror(&pod));
        assert_ne!(
            pod::uid(&pod),
            pod::uid(&parse(&MANIFEST.replace("image: i", "image: j"), "n1").unwrap())
        );
        let mirror = mirror(&pod, Some("node-uid".into()));
        assert!(pod::is_mirror(&mirror) && mirror.metadata.uid.is_none());
        assert!(parse("kind: Job\napiVersion: batch/v1\n", "n1").is_err());
    }
}
