//! Rotates container logs that have grown too long: rename, tell the runtime to reopen, compress nothing, keep a few.

use crate::host::Host;
use crate::runtime::{container_config, labels};
use keelson_proto::cri::v1::{ContainerFilter, ContainerState, ContainerStateValue};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// `containerLogMonitorInterval`.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Looks at every running container's log for ever.
pub async fn run(host: Arc<Host>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if !any_too_long(
            Path::new(&host.settings.pod_logs_dir),
            host.settings.log_bytes_max,
        ) {
            continue;
        }
        let state = Some(ContainerStateValue {
            state: ContainerState::ContainerRunning as i32,
        });
        let filter = ContainerFilter {
            state,
            ..ContainerFilter::default()
        };
        let Ok(containers) = host.cri.list_containers(filter).await else {
            continue;
        };
        for container in containers {
            let label = |key: &str| container.labels.get(key).cloned().unwrap_or_default();
            let attempt = container.metadata.as_ref().map_or(0, |m| m.attempt);
            let dir = format!(
                "{}/{}_{}_{}",
                host.settings.pod_logs_dir,
                label(labels::POD_NAMESPACE),
                label(labels::POD_NAME),
                label(labels::POD_UID)
            );
            let path = Path::new(&dir).join(container_config::log_path(
                &label(labels::CONTAINER_NAME),
                attempt,
            ));
            if length(&path) <= host.settings.log_bytes_max {
                continue;
            }
            if let Err(error) = rotate(&host, &container.id, &path).await {
                tracing::warn!(log = %path.display(), error, "container log not rotated");
            }
        }
    }
}

async fn rotate(host: &Host, id: &str, path: &Path) -> Result<(), String> {
    let stamp = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
    let rotated = PathBuf::from(format!("{}.{stamp}", path.display()));
    std::fs::rename(path, &rotated).map_err(|e| e.to_string())?;
    if let Err(status) = host.cri.reopen_container_log(id).await {
        // The runtime still writes to the old file: put it back.
        std::fs::rename(&rotated, path).map_err(|e| e.to_string())?;
        return Err(crate::cri::describe(&status));
    }
    for old in surplus(path, host.settings.log_files_max) {
        std::fs::remove_file(&old).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Rotated files beyond the number to keep, the live one counted.
fn surplus(path: &Path, files_max: usize) -> Vec<PathBuf> {
    let prefix = format!("{}.", path.file_name().unwrap_or_default().to_string_lossy());
    let dir = path.parent().unwrap_or(Path::new("/"));
    let mut old: Vec<PathBuf> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with(&prefix))
        .map(|e| e.path())
        .collect();
    old.sort();
    let keep = files_max.saturating_sub(1).min(old.len());
    old.truncate(old.len() - keep);
    old
}

/// A look at the files alone, so that a quiet node asks the runtime nothing.
fn any_too_long(dir: &Path, bytes_max: i64) -> bool {
    let entries = |dir: &Path| {
        std::fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path())
            .collect::<Vec<_>>()
    };
    entries(dir)
        .iter()
        .flat_map(|pod| entries(pod))
        .flat_map(|container| entries(&container))
        .any(|f| f.extension().is_some_and(|e| e == "log") && length(&f) > bytes_max)
}

fn length(path: &Path) -> i64 {
    std::fs::metadata(path).map_or(0, |m| i64::try_from(m.len()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_files_stay() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["0.log", "0.log.1", "0.log.2", "0.log.3", "1.log.0"] {
            std::fs::write(dir.path().join(name), "xx").unwrap();
        }
        let names: Vec<_> = surplus(&dir.path().join("0.log"), 2)
            .iter()
            .map(|p| p.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["0.log.1", "0.log.2"]);
        assert!(length(&dir.path().join("0.log")) == 2);
    }
}
