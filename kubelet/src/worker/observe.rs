//! Reads from the runtime what it has for the pod.

use super::Worker;
use crate::pod;
use crate::runtime::labels;
use crate::runtime::state::{self, ContainerSeen, ContainerState, PodSeen};
use crate::{cri, limits};
use keelson_proto::cri::v1::{ContainerFilter, PodSandboxFilter};
use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read};
use tonic::Code;

impl Worker {
    /// Everything with the pod's uid: after a restart, and when events may have been missed.
    pub(super) async fn observe_all(&mut self) {
        match self.list().await {
            Ok(seen) => {
                self.seen.runtime = seen;
                self.adopted = true;
            }
            Err(status) => {
                tracing::warn!(pod = %pod::full_name(&self.pod), error = %cri::describe(&status), "runtime not readable");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                self.mailbox.put_relist();
            }
        }
    }

    async fn list(&self) -> Result<PodSeen, tonic::Status> {
        let selector = HashMap::from([(labels::POD_UID.to_owned(), pod::uid(&self.pod).to_owned())]);
        let filter = PodSandboxFilter {
            label_selector: selector.clone(),
            ..PodSandboxFilter::default()
        };
        let mut seen = PodSeen::default();
        for sandbox in self.host.cri.list_pod_sandbox(filter).await? {
            match self.host.cri.pod_sandbox_status(&sandbox.id).await {
                Ok(status) => seen.sandboxes.push(state::sandbox(&status)),
                Err(status) if status.code() == Code::NotFound => {}
                Err(status) => return Err(status),
            }
        }
        let filter = ContainerFilter {
            label_selector: selector,
            ..ContainerFilter::default()
        };
        for container in self.host.cri.list_containers(filter).await? {
            match self.host.cri.container_status(&container.id).await {
                Ok(status) => seen
                    .containers
                    .push(self.complete(state::container(&container.pod_sandbox_id, &status))),
                Err(status) if status.code() == Code::NotFound => {}
                Err(status) => return Err(status),
            }
        }
        seen.sort();
        Ok(seen)
    }

    /// One container, or the sandbox of that id, again.
    pub(super) async fn observe_container(&mut self, id: &str) {
        if self.seen.runtime.sandboxes.iter().any(|s| s.id == id) {
            return self.observe_sandbox(id).await;
        }
        let sandbox = self
            .seen
            .runtime
            .containers
            .iter()
            .find(|c| c.id == id)
            .map(|c| c.sandbox_id.clone())
            .or_else(|| self.seen.runtime.sandbox().map(|s| s.id.clone()));
        match self.host.cri.container_status(id).await {
            Ok(status) => {
                let seen = self.complete(state::container(&sandbox.unwrap_or_default(), &status));
                self.seen.runtime.put_container(seen);
            }
            Err(status) if status.code() == Code::NotFound => {
                self.seen.runtime.containers.retain(|c| c.id != id)
            }
            Err(_) => self.mailbox.put_relist(),
        }
    }

    pub(super) async fn observe_sandbox(&mut self, id: &str) {
        match self.host.cri.pod_sandbox_status(id).await {
            Ok(status) => self.seen.runtime.put_sandbox(state::sandbox(&status)),
            Err(status) if status.code() == Code::NotFound => {
                self.seen.runtime.sandboxes.retain(|s| s.id != id)
            }
            Err(_) => self.mailbox.put_relist(),
        }
    }

    /// Adds the termination message of a container that ended.
    fn complete(&self, mut seen: ContainerSeen) -> ContainerSeen {
        if seen.state != ContainerState::Exited {
            return seen;
        }
        let Some(member) = pod::find(&self.pod, &seen.name) else {
            return seen;
        };
        let message = self
            .termination_file(&seen)
            .and_then(|path| read_head(&path))
            .unwrap_or_default();
        let fallback =
            member.container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
        if !message.is_empty() {
            seen.message = message;
        } else if fallback && seen.exit_code != 0 {
            seen.message = log_tail(&seen.log_path);
        }
        seen
    }

    fn termination_file(&self, seen: &ContainerSeen) -> Option<std::path::PathBuf> {
        let dir = crate::volumes::pod_dir(&self.host.settings.root_dir, pod::uid(&self.pod));
        Some(
            dir.join("containers")
                .join(&seen.name)
                .join(format!("{:08x}", seen.attempt)),
        )
    }
}

fn read_head(path: &std::path::Path) -> Option<String> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(limits::TERMINATION_MESSAGE_BYTES_MAX as u64)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last lines of a log, without the runtime's own prefixes.
fn log_tail(path: &str) -> String {
    let Ok(file) = std::fs::File::open(path) else {
        return String::new();
    };
    let mut lines: VecDeque<String> = VecDeque::new();
    for line in BufReader::new(file).lines().map_while(Result::ok) {
        if lines.len() == limits::TERMINATION_LOG_LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned());
    }
    let mut text = String::new();
    for line in lines {
        text.push_str(&line);
        text.push('\n');
    }
    let mut cut = text.len().saturating_sub(limits::TERMINATION_LOG_BYTES_MAX);
    while !text.is_char_boundary(cut) {
        cut += 1;
    }
    text.split_off(cut)
}
