//! Statuses of the containers: state, last state, readiness, restart counts.

use super::generate::Known;
use crate::plan::actions::Seen;
use crate::plan::restart;
use crate::pod::{self, Kind};
use crate::runtime::state::{ContainerSeen, ContainerState as State};
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, ContainerUser, LinuxContainerUser, Pod, PodStatus, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// A status that holds only the container lists.
pub(super) fn statuses(pod: &Pod, seen: &Seen, known: &Known) -> PodStatus {
    let mut status = PodStatus::default();
    let has_init = !pod::init_containers(pod).is_empty();
    for member in pod::members(pod) {
        let one = of_container(pod, &member.container, member.kind, seen, known, has_init);
        let list = match member.kind {
            Kind::Init => &mut status.init_container_statuses,
            Kind::Regular => &mut status.container_statuses,
            Kind::Ephemeral => &mut status.ephemeral_container_statuses,
        };
        list.get_or_insert_default().push(one);
    }
    status
}

fn of_container(
    pod: &Pod,
    c: &Container,
    kind: Kind,
    seen: &Seen,
    known: &Known,
    has_init: bool,
) -> ContainerStatus {
    let latest = seen.runtime.latest(&c.name);
    let old = pod::api_container_status(pod, kind, &c.name);
    let mut status = match latest {
        Some(latest) => from_runtime(latest, c, known),
        None => unseen(pod, c, kind, old, known, has_init),
    };
    if let Some(latest) = latest {
        let previous = seen.runtime.previous(&c.name);
        status.last_state = previous.and_then(|p| ended(p, known)).or_else(|| {
            old.filter(|o| o.restart_count == status.restart_count)
                .and_then(|o| o.last_state.clone())
        });
        overlay_waiting(pod, c, kind, latest, known, &mut status);
    }
    let verdicts = latest
        .and_then(|l| seen.probes.get(&l.id))
        .copied()
        .unwrap_or_default();
    let running = latest.is_some_and(|l| l.state == State::Running);
    let started = running && (c.startup_probe.is_none() || verdicts.started == Some(true));
    status.started = (kind != Kind::Ephemeral).then_some(started);
    status.ready = match kind {
        Kind::Ephemeral => false,
        Kind::Init if !pod::is_sidecar(c) => {
            latest.is_some_and(|l| l.state == State::Exited && l.exit_code == 0)
        }
        _ => started && (c.readiness_probe.is_none() || verdicts.ready == Some(true)),
    };
    status.resources = c.resources.clone().filter(|_| running);
    status.allocated_resources = c
        .resources
        .as_ref()
        .and_then(|r| r.requests.clone())
        .filter(|r| running && !r.is_empty());
    status.volume_mounts = mounts(c);
    status
}

fn from_runtime(seen: &ContainerSeen, c: &Container, known: &Known) -> ContainerStatus {
    let state = match seen.state {
        State::Running => ContainerState {
            running: Some(ContainerStateRunning {
                started_at: seen.started_at.map(whole_seconds),
            }),
            ..ContainerState::default()
        },
        State::Exited => ended(seen, known).unwrap_or_default(),
        // Unknown ends as upstream reports it; created is still waiting.
        State::Unknown => ContainerState {
            terminated: Some(ContainerStateTerminated {
                exit_code: 137,
                reason: Some("ContainerStatusUnknown".into()),
                message: Some("The container could not be located when the pod was terminated".into()),
                container_id: Some(container_id(seen, known)),
                ..ContainerStateTerminated::default()
            }),
            ..ContainerState::default()
        },
        State::Created => waiting("ContainerCreating", ""),
    };
    ContainerStatus {
        name: seen.name.clone(),
        image: if seen.image.is_empty() {
            c.image.clone().unwrap_or_default()
        } else {
            seen.image.clone()
        },
        image_id: seen.image_id.clone(),
        container_id: Some(container_id(seen, known)),
        restart_count: seen.attempt.cast_signed(),
        state: Some(state),
        user: seen.user.as_ref().map(|(uid, gid, groups)| ContainerUser {
            linux: Some(LinuxContainerUser {
                uid: *uid,
                gid: *gid,
                supplemental_groups: Some(groups.clone()),
            }),
        }),
        ..ContainerStatus::default()
    }
}

/// A container the runtime has no trace of: not started yet, or removed after it ended.
fn unseen(
    pod: &Pod,
    c: &Container,
    kind: Kind,
    old: Option<&ContainerStatus>,
    known: &Known,
    has_init: bool,
) -> ContainerStatus {
    let mut status = ContainerStatus {
        name: c.name.clone(),
        image: c.image.clone().unwrap_or_default(),
        ..ContainerStatus::default()
    };
    if let Some(old) = old {
        status.restart_count = old.restart_count;
        status.last_state = old.last_state.clone();
        if old.state.as_ref().is_some_and(|s| s.terminated.is_some()) {
            // Its end was reported and the runtime has forgotten it: the API server's copy is the record.
            return old.clone();
        }
        if old.state.as_ref().is_some_and(|s| s.running.is_some())
            && (known.stopped || pod::deletion_time(pod).is_some())
        {
            status.container_id = old.container_id.clone();
            status.image_id = old.image_id.clone();
            status.state = Some(ContainerState {
                terminated: Some(ContainerStateTerminated {
                    exit_code: 137,
                    reason: Some("ContainerStatusUnknown".into()),
                    message: Some("The container could not be located when the pod was terminated".into()),
                    ..ContainerStateTerminated::default()
                }),
                ..ContainerState::default()
            });
            return status;
        }
    }
    status.state = Some(match known.waiting.get(&c.name) {
        Some(w) => waiting(&w.reason, &w.message),
        None if has_init
            && (kind == Kind::Regular
                || pod::init_containers(pod)
                    .first()
                    .is_some_and(|f| f.name != c.name)) =>
        {
            waiting("PodInitializing", "")
        }
        None if has_init => waiting("PodInitializing", ""),
        None => waiting("ContainerCreating", ""),
    });
    status
}

/// An ended container that will be started again, and is held back, shows why; its end moves to the last state.
fn overlay_waiting(
    pod: &Pod,
    c: &Container,
    kind: Kind,
    latest: &ContainerSeen,
    known: &Known,
    status: &mut ContainerStatus,
) {
    let Some(why) = known.waiting.get(&c.name) else {
        return;
    };
    if latest.state == State::Running || !restart::should_restart(pod, c, kind, Some(latest)) {
        return;
    }
    if status.state.as_ref().is_some_and(|s| s.terminated.is_some()) {
        status.last_state = status.state.take();
    }
    status.state = Some(waiting(&why.reason, &why.message));
}

fn ended(seen: &ContainerSeen, known: &Known) -> Option<ContainerState> {
    (seen.state == State::Exited).then(|| ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: seen.exit_code,
            reason: Some(if seen.reason.is_empty() {
                if seen.exit_code == 0 {
                    "Completed".into()
                } else {
                    "Error".to_owned()
                }
            } else {
                seen.reason.clone()
            }),
            message: Some(seen.message.clone()).filter(|m| !m.is_empty()),
            // Upstream reports the epoch for what never started.
            started_at: Some(whole_seconds(seen.started_at.unwrap_or_default())),
            finished_at: Some(whole_seconds(seen.finished_at.unwrap_or_default())),
            container_id: Some(container_id(seen, known)),
            signal: None,
        }),
        ..ContainerState::default()
    })
}

fn container_id(seen: &ContainerSeen, known: &Known) -> String {
    format!("{}://{}", known.runtime_name, seen.id)
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.into()),
            message: Some(message.to_owned()).filter(|m| !m.is_empty()),
        }),
        ..ContainerState::default()
    }
}

fn mounts(c: &Container) -> Option<Vec<VolumeMountStatus>> {
    let list = c.volume_mounts.as_ref().filter(|m| !m.is_empty())?;
    Some(
        list.iter()
            .map(|m| VolumeMountStatus {
                name: m.name.clone(),
                mount_path: m.mount_path.clone(),
                read_only: m.read_only.filter(|r| *r),
                recursive_read_only: m.read_only.filter(|r| *r).map(|_| {
                    m.recursive_read_only
                        .clone()
                        .filter(|r| r == "Enabled")
                        .unwrap_or_else(|| "Disabled".into())
                }),
                ..VolumeMountStatus::default()
            })
            .collect(),
    )
}

/// The API keeps whole seconds; comparing anything finer would send every status twice.
pub(super) fn whole_seconds(at: jiff::Timestamp) -> Time {
    Time(jiff::Timestamp::from_second(at.as_second()).unwrap_or(at))
}
