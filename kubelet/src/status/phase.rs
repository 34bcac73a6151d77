//! The pod's phase from its containers' states.

use super::generate::Known;
use crate::plan::restart;
use crate::pod;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};

/// How many containers are in which state.
#[derive(Default)]
struct Count {
    waiting: usize,
    running: usize,
    stopped: usize,
    succeeded: usize,
}

/// The phase; terminal ones only when nothing runs any more.
pub(super) fn of(pod: &Pod, status: &PodStatus, known: &Known) -> String {
    if known.failed.is_some() {
        return if known.stopped { "Failed" } else { pod::phase(pod) }.into();
    }
    let phase = from_containers(pod, status);
    if pod::is_terminal_phase(phase) && !known.stopped {
        // Sidecars and the sandbox still have to go; until then the pod shows the phase it had.
        return if pod::phase(pod) == "Pending" && !started_regular(status) {
            "Pending"
        } else {
            "Running"
        }
        .into();
    }
    if known.stopped && pod::deletion_time(pod).is_some() && !pod::is_terminal_phase(phase) {
        // A pod that is deleted ends in a terminal phase before its object goes (KEP-3329).
        return terminal(status).into();
    }
    phase.into()
}

fn from_containers(pod: &Pod, status: &PodStatus) -> &'static str {
    if let Some(early) = init_phase(pod, status) {
        return early;
    }
    let count = count(status.container_statuses.as_deref().unwrap_or_default());
    if count.waiting > 0 {
        return "Pending";
    }
    if count.running > 0 {
        return "Running";
    }
    if count.stopped == 0 {
        return "Pending";
    }
    let restarts = pod::containers(pod)
        .iter()
        .zip(status.container_statuses.iter().flatten())
        .any(|(c, s)| {
            let code = s
                .state
                .as_ref()
                .and_then(|s| s.terminated.as_ref())
                .map_or(0, |t| t.exit_code);
            match restart::policy(pod, c) {
                "Never" => false,
                "OnFailure" => code != 0,
                _ => true,
            }
        });
    match (restarts, count.succeeded == count.stopped) {
        (true, _) => "Running",
        (false, true) => "Succeeded",
        (false, false) => "Failed",
    }
}

/// The phase while init containers are not done.
fn init_phase(pod: &Pod, status: &PodStatus) -> Option<&'static str> {
    let mut pending = false;
    for (c, s) in pod::init_containers(pod)
        .iter()
        .zip(status.init_container_statuses.iter().flatten())
    {
        let state = s.state.as_ref();
        let ended = state.and_then(|s| s.terminated.as_ref());
        if pod::is_sidecar(c) {
            pending |= s.started != Some(true) && !started_regular(status);
        } else if let Some(ended) = ended {
            if ended.exit_code != 0 {
                if restart::policy(pod, c) == "Never" {
                    return Some("Failed");
                }
                pending = true;
            }
        } else {
            let last_failed = s.last_state.as_ref().and_then(|s| s.terminated.as_ref());
            pending |=
                state.is_some_and(|s| s.running.is_some() || s.waiting.is_some()) || last_failed.is_none();
        }
    }
    pending.then_some("Pending")
}

fn started_regular(status: &PodStatus) -> bool {
    status
        .container_statuses
        .iter()
        .flatten()
        .any(|s| s.container_id.is_some())
}

fn count(statuses: &[ContainerStatus]) -> Count {
    let mut count = Count::default();
    for status in statuses {
        let Some(state) = &status.state else {
            count.waiting += 1;
            continue;
        };
        if state.running.is_some() {
            count.running += 1;
        } else if let Some(ended) = &state.terminated {
            count.stopped += 1;
            count.succeeded += usize::from(ended.exit_code == 0);
        } else if status.last_state.as_ref().is_some_and(|s| s.terminated.is_some()) {
            // Waiting for its next start.
            count.stopped += 1;
        } else {
            count.waiting += 1;
        }
    }
    count
}

fn terminal(status: &PodStatus) -> &'static str {
    let statuses = status.container_statuses.as_deref().unwrap_or_default();
    let ok = |s: &ContainerStatus| {
        s.state
            .as_ref()
            .and_then(|s| s.terminated.as_ref())
            .is_some_and(|t| t.exit_code == 0)
    };
    if !statuses.is_empty() && statuses.iter().all(ok) {
        "Succeeded"
    } else {
        "Failed"
    }
}
