//! `generate`: the status of a pod from everything known, as upstream's kubelet reports it.

use super::{conditions, containers, phase};
use crate::plan::actions::{Seen, Waiting};
use crate::pod;
use crate::runtime::resources;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{HostIP, Pod, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeMap;

/// What the worker knows beside the runtime's view.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Why a container is not running, by name (pull errors, back-offs, refused configurations).
    pub waiting: BTreeMap<String, Waiting>,
    /// The pod was refused, evicted or ran out of time: reason and message of the Failed status.
    pub failed: Option<(String, String)>,
    /// Nothing runs any more and nothing will: the phase may become terminal.
    pub stopped: bool,
    pub host_ips: Vec<String>,
    pub start_time: Option<Timestamp>,
    /// Prefix of container ids: the runtime's name.
    pub runtime_name: String,
}

/// The status of `pod` at `now`. Conditions keep their transition times where the state did not change.
pub fn generate(pod: &Pod, seen: &Seen, known: &Known, now: Timestamp) -> PodStatus {
    let old = pod.status.clone().unwrap_or_default();
    // A pod that was refused before anything of it ran, by this kubelet or an earlier one, has no containers to tell of.
    let refused = (known.failed.is_some() || pod::is_terminal_phase(pod::phase(pod)))
        && seen.runtime.containers.is_empty()
        && old.container_statuses.is_none();
    let mut status = if refused {
        PodStatus::default()
    } else {
        containers::statuses(pod, seen, known)
    };
    let mut phase = phase::of(pod, &status, known);
    if pod::is_terminal_phase(pod::phase(pod)) {
        // A terminal phase never changes.
        phase = pod::phase(pod).to_owned();
    }
    let sandbox = seen.runtime.ready_sandbox();
    let host_network = pod::host_network(pod);
    let ips = match sandbox {
        Some(_) if host_network => known.host_ips.clone(),
        Some(sandbox) => sandbox.ips.clone(),
        // Addresses stay in the status of a pod that has ended.
        None => old.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect(),
    };
    status.pod_ip = ips.first().cloned();
    status.pod_ips = (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect());
    status.host_ip = known.host_ips.first().cloned();
    status.host_ips = (!known.host_ips.is_empty()).then(|| {
        known
            .host_ips
            .iter()
            .map(|ip| HostIP { ip: ip.clone() })
            .collect()
    });
    status.start_time = old.start_time.clone().or(known.start_time.map(Time));
    status.qos_class = old
        .qos_class
        .clone()
        .or(Some(resources::qos(pod).as_str().into()));
    status.observed_generation = pod.metadata.generation;
    match &known.failed {
        Some((reason, message)) => {
            status.reason = Some(reason.clone());
            status.message = Some(message.clone());
        }
        None if pod::is_terminal_phase(pod::phase(pod)) => {
            status.reason = old.reason.clone();
            status.message = old.message.clone();
        }
        None => {}
    }
    status.phase = Some(phase);
    status.conditions = if refused {
        old.conditions
    } else {
        Some(conditions::of(pod, &status, sandbox.is_some(), now))
    };
    status
}

#[cfg(test)]
#[path = "generate_tests.rs"]
mod tests;
