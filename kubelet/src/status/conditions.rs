//! The pod's conditions: PodReadyToStartContainers, Initialized, Ready, ContainersReady, PodScheduled.

use super::containers::whole_seconds;
use crate::pod::{self};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};

struct Verdict {
    status: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

const YES: Verdict = Verdict {
    status: true,
    reason: None,
    message: None,
};

fn no(reason: &'static str, message: Option<String>) -> Verdict {
    Verdict {
        status: false,
        reason: Some(reason),
        message,
    }
}

/// The five conditions the kubelet owns, and whatever others the pod already has.
pub(super) fn of(pod: &Pod, status: &PodStatus, sandbox_ready: bool, now: Timestamp) -> Vec<PodCondition> {
    let phase = status.phase.as_deref().unwrap_or_default();
    let containers = containers_ready(pod, status, phase);
    let ready = ready(pod, &containers);
    let network = Verdict {
        status: sandbox_ready,
        reason: None,
        message: None,
    };
    let own = [
        ("PodReadyToStartContainers", network),
        ("Initialized", initialized(pod, status, phase)),
        ("Ready", ready),
        ("ContainersReady", containers),
        ("PodScheduled", YES),
    ];
    let old: &[PodCondition] = pod
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    let mut out: Vec<PodCondition> = own
        .into_iter()
        .map(|(type_, verdict)| {
            let text = if verdict.status { "True" } else { "False" };
            let before = old.iter().find(|c| c.type_ == type_);
            PodCondition {
                type_: type_.into(),
                status: text.into(),
                reason: verdict.reason.map(str::to_owned),
                message: verdict.message,
                observed_generation: pod.metadata.generation,
                last_probe_time: None,
                last_transition_time: before
                    .filter(|b| b.status == text)
                    .and_then(|b| b.last_transition_time.clone())
                    .or_else(|| Some(whole_seconds(now))),
            }
        })
        .collect();
    let foreign: Vec<_> = old
        .iter()
        .filter(|o| !out.iter().any(|c| c.type_ == o.type_))
        .cloned()
        .collect();
    out.extend(foreign);
    out
}

fn containers_ready(pod: &Pod, status: &PodStatus, phase: &str) -> Verdict {
    let sidecars = pod::init_containers(pod)
        .iter()
        .zip(status.init_container_statuses.iter().flatten())
        .filter(|(c, _)| pod::is_sidecar(c))
        .map(|(_, s)| s);
    let all: Vec<_> = sidecars
        .chain(status.container_statuses.iter().flatten())
        .collect();
    if phase == "Succeeded" {
        return no("PodCompleted", None);
    }
    if phase == "Failed" {
        return no("PodFailed", None);
    }
    let unready: Vec<&str> = all.iter().filter(|s| !s.ready).map(|s| s.name.as_str()).collect();
    if unready.is_empty() {
        return YES;
    }
    no(
        "ContainersNotReady",
        Some(format!("containers with unready status: [{}]", unready.join(" "))),
    )
}

fn ready(pod: &Pod, containers: &Verdict) -> Verdict {
    if !containers.status {
        return Verdict {
            status: false,
            reason: containers.reason,
            message: containers.message.clone(),
        };
    }
    let conditions = pod
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    let mut missing = Vec::new();
    for gate in pod::spec(pod).readiness_gates.iter().flatten() {
        match conditions.iter().find(|c| c.type_ == gate.condition_type) {
            None => missing.push(format!(
                "corresponding condition of pod readiness gate \"{}\" does not exist.",
                gate.condition_type
            )),
            Some(c) if c.status != "True" => missing.push(format!(
                "the status of pod readiness gate \"{}\" is not \"True\", but {}",
                gate.condition_type, c.status
            )),
            Some(_) => {}
        }
    }
    if missing.is_empty() {
        YES
    } else {
        no("ReadinessGatesNotReady", Some(missing.join(", ")))
    }
}

fn initialized(pod: &Pod, status: &PodStatus, phase: &str) -> Verdict {
    if phase == "Succeeded" {
        return Verdict {
            status: true,
            reason: Some("PodCompleted"),
            message: None,
        };
    }
    let started = status
        .container_statuses
        .iter()
        .flatten()
        .any(|s| s.container_id.is_some());
    let incomplete: Vec<&str> = pod::init_containers(pod)
        .iter()
        .zip(status.init_container_statuses.iter().flatten())
        .filter(|(c, s)| {
            if pod::is_sidecar(c) {
                !started && s.started != Some(true)
            } else {
                !s.ready && !started
            }
        })
        .map(|(_, s)| s.name.as_str())
        .collect();
    if incomplete.is_empty() {
        return YES;
    }
    no(
        "ContainersNotInitialized",
        Some(format!(
            "containers with incomplete status: [{}]",
            incomplete.join(" ")
        )),
    )
}
