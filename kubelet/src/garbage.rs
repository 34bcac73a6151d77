//! Removes what is dead: sandboxes, containers and logs of gone pods, older attempts, orphaned directories and cgroups.

use crate::host::Host;
use crate::pods::Pods;
use crate::runtime::labels;
use crate::{cri, limits};
use keelson_proto::cri::v1::{Container, ContainerFilter, ContainerState, PodSandboxFilter, PodSandboxState};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// Removes everything the runtime still has of a pod, and its logs.
pub async fn remove_pod(host: &Host, uid: &str) {
    // The semaphore is never closed.
    let _permit = host.removals.acquire().await;
    let label_selector = HashMap::from([(labels::POD_UID.to_owned(), uid.to_owned())]);
    let filter = PodSandboxFilter {
        label_selector,
        ..PodSandboxFilter::default()
    };
    let sandboxes = match host.cri.list_pod_sandbox(filter).await {
        Ok(sandboxes) => sandboxes,
        Err(status) => {
            return tracing::warn!(uid, error = %cri::describe(&status), "sandboxes not listed; left to collection");
        }
    };
    for sandbox in sandboxes {
        // Removes its containers with it.
        if let Err(status) = host.cri.remove_pod_sandbox(&sandbox.id).await {
            tracing::debug!(uid, error = %cri::describe(&status), "sandbox not removed; left to collection");
        }
    }
    remove_logs(host, &HashSet::from([uid.to_owned()]), true);
}

/// Looks for garbage at a steady pace for ever.
pub async fn collect(host: Arc<Host>, pods: Arc<Pods>) {
    loop {
        tokio::time::sleep(limits::GC_PERIOD).await;
        if let Err(status) = collect_once(&host, &pods).await {
            tracing::warn!(error = %cri::describe(&status), "garbage not collected");
        }
    }
}

async fn collect_once(host: &Arc<Host>, pods: &Arc<Pods>) -> Result<(), tonic::Status> {
    let sandboxes = host.cri.list_pod_sandbox(PodSandboxFilter::default()).await?;
    let containers = host.cri.list_containers(ContainerFilter::default()).await?;
    let live = pods.uids();
    for id in old_attempts(&containers, &live) {
        host.cri.remove_container(&id).await?;
    }
    let owner = |labels: &HashMap<String, String>| labels.get(labels::POD_UID).cloned();
    for sandbox in &sandboxes {
        let Some(uid) = owner(&sandbox.labels) else {
            continue;
        };
        let newest = sandboxes
            .iter()
            .filter(|s| owner(&s.labels).as_ref() == Some(&uid))
            .map(|s| s.created_at)
            .max()
            .unwrap_or_default();
        let used = containers.iter().any(|c| c.pod_sandbox_id == sandbox.id);
        let dead = sandbox.state() == PodSandboxState::SandboxNotready;
        if !live.contains(&uid) {
            // No pod of the API server: an object that went while the kubelet was away.
            host.cri.stop_pod_sandbox(&sandbox.id).await?;
            host.cri.remove_pod_sandbox(&sandbox.id).await?;
        } else if dead && !used && sandbox.created_at < newest {
            host.cri.remove_pod_sandbox(&sandbox.id).await?;
        }
    }
    let host = host.clone();
    // Files only: the result of the join can only be a panic, which the runtime has logged.
    let _ = tokio::task::spawn_blocking(move || {
        remove_logs(&host, &live, false);
        for uid in host.volumes.pods().into_iter().filter(|uid| !live.contains(uid)) {
            if let Err(error) = host.volumes.remove(&uid) {
                tracing::warn!(uid, %error, "orphaned pod directory not removed");
            }
        }
        for (uid, path) in host.cgroups.pods() {
            if !live.contains(&uid) {
                host.cgroups.remove_pod(&path);
            }
        }
    })
    .await;
    Ok(())
}

/// Ended containers of live pods beyond the newest two attempts (the current and `--previous`).
fn old_attempts(containers: &[Container], live: &HashSet<String>) -> Vec<String> {
    let mut groups: HashMap<(&str, &str), Vec<&Container>> = HashMap::new();
    for container in containers {
        let key = (
            container.labels.get(labels::POD_UID),
            container.labels.get(labels::CONTAINER_NAME),
        );
        if let (Some(uid), Some(name)) = key
            && live.contains(uid)
        {
            groups.entry((uid, name)).or_default().push(container);
        }
    }
    let mut old = Vec::new();
    for mut group in groups.into_values() {
        group.sort_by_key(|c| std::cmp::Reverse(c.created_at));
        let ended = group
            .into_iter()
            .skip(2)
            .filter(|c| c.state() == ContainerState::ContainerExited);
        old.extend(ended.map(|c| c.id.clone()));
    }
    old
}

/// Removes log directories: those of `uids`, or those of all others.
fn remove_logs(host: &Host, uids: &HashSet<String>, these: bool) {
    let Ok(entries) = std::fs::read_dir(&host.settings.pod_logs_dir) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(uid) = name.rsplit('_').next().filter(|_| name.matches('_').count() >= 2) else {
            continue;
        };
        if uids.contains(uid) == these
            && let Err(error) = std::fs::remove_dir_all(entry.path())
        {
            tracing::debug!(directory = %entry.path().display(), %error, "pod logs not removed");
        }
    }
    remove_dead_links(Path::new("/var/log/containers"));
}

fn remove_dead_links(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_symlink() && !path.exists() {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_attempts_stay() {
        let container = |id: &str, created_at, state| Container {
            id: id.into(),
            created_at,
            state: state as i32,
            labels: HashMap::from([
                (labels::POD_UID.to_owned(), "u".to_owned()),
                (labels::CONTAINER_NAME.to_owned(), "c".to_owned()),
            ]),
            ..Container::default()
        };
        let exited = ContainerState::ContainerExited;
        let list = [
            container("a", 1, exited),
            container("b", 2, exited),
            container("c", 3, exited),
            container("d", 4, ContainerState::ContainerRunning),
        ];
        let live = HashSet::from(["u".to_owned()]);
        let mut old = old_attempts(&list, &live);
        old.sort();
        assert_eq!(old, ["a", "b"]);
        assert!(old_attempts(&list, &HashSet::new()).is_empty());
    }
}
