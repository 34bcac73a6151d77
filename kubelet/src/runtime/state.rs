//! The runtime's view of one pod as plain values: sandboxes and containers, newest first.
//!
//! Filled from CRI answers, consumed by the planner and by the status generator. Holds no handle to the runtime.

use super::labels;
use jiff::Timestamp;
use keelson_proto::cri::v1 as cri;
use std::collections::HashMap;

/// What the runtime is doing with a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerState {
    Created,
    Running,
    Exited,
    Unknown,
}

impl ContainerState {
    fn to_cri(self) -> cri::ContainerState {
        match self {
            ContainerState::Created => cri::ContainerState::ContainerCreated,
            ContainerState::Running => cri::ContainerState::ContainerRunning,
            ContainerState::Exited => cri::ContainerState::ContainerExited,
            ContainerState::Unknown => cri::ContainerState::ContainerUnknown,
        }
    }
}

/// One container instance.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerSeen {
    pub id: String,
    pub name: String,
    pub sandbox_id: String,
    pub attempt: u32,
    pub state: ContainerState,
    pub created_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    pub image: String,
    pub image_id: String,
    /// Hash of the definition it was made from; `None` when the annotation is missing or unreadable.
    pub hash: Option<u32>,
    pub log_path: String,
    /// uid, gid, supplemental groups of the first process, where the runtime reports them.
    pub user: Option<(i64, i64, Vec<i64>)>,
}

/// One sandbox instance.
#[derive(Clone, Debug, PartialEq)]
pub struct SandboxSeen {
    pub id: String,
    pub attempt: u32,
    pub ready: bool,
    pub created_at: i64,
    /// Empty for pods on the host network.
    pub ips: Vec<String>,
    pub runtime_handler: String,
}

/// Everything the runtime has for one pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodSeen {
    /// Newest first.
    pub sandboxes: Vec<SandboxSeen>,
    /// Newest first.
    pub containers: Vec<ContainerSeen>,
}

impl PodSeen {
    /// The newest instance of the named container.
    pub fn latest(&self, name: &str) -> Option<&ContainerSeen> {
        self.containers.iter().find(|c| c.name == name)
    }

    /// The instance before the newest.
    pub fn previous(&self, name: &str) -> Option<&ContainerSeen> {
        self.containers.iter().filter(|c| c.name == name).nth(1)
    }

    pub fn sandbox(&self) -> Option<&SandboxSeen> {
        self.sandboxes.first()
    }

    pub fn ready_sandbox(&self) -> Option<&SandboxSeen> {
        self.sandbox().filter(|s| s.ready)
    }

    /// Whether any container may still have a process.
    pub fn any_running(&self) -> bool {
        self.containers
            .iter()
            .any(|c| matches!(c.state, ContainerState::Running | ContainerState::Unknown))
    }

    /// Ids and CRI states of everything, sorted: what a listing of the runtime is compared with.
    pub fn fingerprint(&self) -> Vec<(String, i32)> {
        let sandboxes = self.sandboxes.iter().map(|s| {
            let state = if s.ready {
                cri::PodSandboxState::SandboxReady
            } else {
                cri::PodSandboxState::SandboxNotready
            };
            (s.id.clone(), state as i32)
        });
        let containers = self
            .containers
            .iter()
            .map(|c| (c.id.clone(), c.state.to_cri() as i32));
        let mut all: Vec<_> = sandboxes.chain(containers).collect();
        all.sort();
        all
    }

    /// Takes in a fresh reading of one container, replacing the old one.
    pub fn put_container(&mut self, seen: ContainerSeen) {
        self.containers.retain(|c| c.id != seen.id);
        self.containers.push(seen);
        self.sort();
    }

    /// Takes in a fresh reading of one sandbox, replacing the old one.
    pub fn put_sandbox(&mut self, seen: SandboxSeen) {
        self.sandboxes.retain(|s| s.id != seen.id);
        self.sandboxes.push(seen);
        self.sort();
    }

    pub fn sort(&mut self) {
        self.sandboxes
            .sort_by_key(|s| std::cmp::Reverse((s.attempt, s.created_at)));
        self.containers
            .sort_by_key(|c| std::cmp::Reverse((c.created_at, c.attempt)));
    }
}

/// A container from its CRI status.
pub fn container(sandbox_id: &str, status: &cri::ContainerStatus) -> ContainerSeen {
    let state = match status.state() {
        cri::ContainerState::ContainerCreated => ContainerState::Created,
        cri::ContainerState::ContainerRunning => ContainerState::Running,
        cri::ContainerState::ContainerExited => ContainerState::Exited,
        cri::ContainerState::ContainerUnknown => ContainerState::Unknown,
    };
    let metadata = status.metadata.clone().unwrap_or_default();
    ContainerSeen {
        id: status.id.clone(),
        name: metadata.name,
        sandbox_id: sandbox_id.to_owned(),
        attempt: restart_count(&status.annotations).unwrap_or(metadata.attempt),
        state,
        created_at: nanos(status.created_at),
        started_at: nanos(status.started_at),
        finished_at: nanos(status.finished_at),
        exit_code: status.exit_code,
        reason: status.reason.clone(),
        message: status.message.clone(),
        image: status.image.as_ref().map(|i| i.image.clone()).unwrap_or_default(),
        image_id: if status.image_ref.is_empty() {
            status.image_id.clone()
        } else {
            status.image_ref.clone()
        },
        hash: status
            .annotations
            .get(labels::HASH)
            .and_then(|h| u32::from_str_radix(h, 16).ok()),
        log_path: status.log_path.clone(),
        user: status
            .user
            .as_ref()
            .and_then(|u| u.linux.as_ref())
            .map(|u| (u.uid, u.gid, u.supplemental_groups.clone())),
    }
}

/// A sandbox from its CRI status.
pub fn sandbox(status: &cri::PodSandboxStatus) -> SandboxSeen {
    let mut ips = Vec::new();
    if let Some(network) = &status.network {
        ips.extend(Some(network.ip.clone()).filter(|ip| !ip.is_empty()));
        ips.extend(network.additional_ips.iter().map(|ip| ip.ip.clone()));
    }
    SandboxSeen {
        id: status.id.clone(),
        attempt: status.metadata.as_ref().map_or(0, |m| m.attempt),
        ready: status.state() == cri::PodSandboxState::SandboxReady,
        created_at: status.created_at,
        ips,
        runtime_handler: status.runtime_handler.clone(),
    }
}

/// CRI's nanoseconds since the epoch; zero means "not yet".
pub fn nanos(ns: i64) -> Option<Timestamp> {
    (ns > 0)
        .then(|| Timestamp::from_nanosecond(i128::from(ns)).ok())
        .flatten()
}

fn restart_count(annotations: &HashMap<String, String>) -> Option<u32> {
    annotations.get(labels::RESTART_COUNT)?.parse().ok()
}
