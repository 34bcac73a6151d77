//! Liveness, readiness and startup probes of one pod's containers.
//!
//! `verdict` counts successes and failures purely; `run` performs one probe; here tasks run them on time and tell the
//! worker when the verdict changes. A probe's task ends with the container instance it belongs to.

mod run;
pub mod verdict;

use crate::host::Host;
use crate::plan::Seen;
use crate::pod::{self, Kind};
use crate::runtime::state::ContainerState;
use crate::worker::{Mailbox, Verdict};
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use keelson_client::EventType;
use run::Outcome;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;
use verdict::Counter;

/// Which probe of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    Startup,
    Readiness,
    Liveness,
}

impl Type {
    fn title(self) -> &'static str {
        match self {
            Type::Startup => "Startup",
            Type::Readiness => "Readiness",
            Type::Liveness => "Liveness",
        }
    }

    fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Type::Startup => container.startup_probe.as_ref(),
            Type::Readiness => container.readiness_probe.as_ref(),
            Type::Liveness => container.liveness_probe.as_ref(),
        }
    }
}

/// The running probes of one pod.
pub struct Probes {
    host: Arc<Host>,
    mailbox: Arc<Mailbox>,
    running: HashMap<(String, Type), AbortHandle>,
}

impl Probes {
    pub fn new(host: Arc<Host>, mailbox: Arc<Mailbox>) -> Self {
        Probes {
            host,
            mailbox,
            running: HashMap::new(),
        }
    }

    /// Starts what is missing, ends what has no container any more.
    pub fn reconcile(&mut self, pod: &Arc<Pod>, seen: &Seen) {
        let alive = |id: &str| {
            seen.runtime
                .containers
                .iter()
                .any(|c| c.id == id && c.state == ContainerState::Running)
        };
        self.running.retain(|(id, _), task| {
            if !alive(id) {
                task.abort();
            }
            alive(id)
        });
        for member in pod::members(pod).filter(|m| m.kind != Kind::Ephemeral) {
            let Some(latest) = seen.runtime.latest(&member.container.name) else {
                continue;
            };
            if latest.state != ContainerState::Running {
                continue;
            }
            let started = member.container.startup_probe.is_none()
                || seen
                    .probes
                    .get(&latest.id)
                    .is_some_and(|v| v.started == Some(true));
            for type_ in [Type::Startup, Type::Readiness, Type::Liveness] {
                // The others wait for the startup probe, which ends when it has succeeded.
                let due = if type_ == Type::Startup { !started } else { started };
                let key = (latest.id.clone(), type_);
                if due && type_.of(&member.container).is_some() && !self.running.contains_key(&key) {
                    let ip = latest_ip(pod, seen, &self.host);
                    let target = Target {
                        pod: pod.clone(),
                        kind: member.kind,
                        container: member.container.clone().into_owned(),
                        container_id: latest.id.clone(),
                        ip,
                        type_,
                        age: latest
                            .started_at
                            .map(|at| jiff::Timestamp::now().duration_since(at)),
                    };
                    let task = tokio::spawn(watch(self.host.clone(), self.mailbox.clone(), target));
                    self.running.insert(key, task.abort_handle());
                }
            }
        }
    }

    /// Ends the probes of one container.
    pub fn stop(&mut self, container_id: &str) {
        self.stop_if(|(id, _)| id == container_id);
    }

    /// While a pod terminates only readiness is still of interest.
    pub fn stop_all_but_readiness(&mut self) {
        self.stop_if(|(_, type_)| *type_ != Type::Readiness);
    }

    pub fn stop_all(&mut self) {
        self.stop_if(|_| true);
    }

    fn stop_if(&mut self, which: impl Fn(&(String, Type)) -> bool) {
        self.running.retain(|key, task| {
            let stop = which(key);
            if stop {
                task.abort();
            }
            !stop
        });
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.stop_all();
    }
}

/// What is probed.
struct Target {
    pod: Arc<Pod>,
    kind: Kind,
    container: Container,
    container_id: String,
    ip: String,
    type_: Type,
    /// How long the container has been running when the task started.
    age: Option<jiff::SignedDuration>,
}

fn latest_ip(pod: &Pod, seen: &Seen, host: &Host) -> String {
    if pod::host_network(pod) {
        return host.settings.host_ips.first().cloned().unwrap_or_default();
    }
    seen.runtime
        .sandbox()
        .and_then(|s| s.ips.first().cloned())
        .unwrap_or_default()
}

/// Probes at the probe's period until aborted.
async fn watch(host: Arc<Host>, mailbox: Arc<Mailbox>, target: Target) {
    let Some(probe) = target.type_.of(&target.container).cloned() else {
        return;
    };
    let seconds = |value: Option<i32>, default: u64| {
        value
            .filter(|v| *v > 0)
            .map_or(default, |v| u64::from(v.unsigned_abs()))
    };
    let period = Duration::from_secs(seconds(probe.period_seconds, 10));
    let initial = Duration::from_secs(seconds(probe.initial_delay_seconds, 0));
    let age = target
        .age
        .and_then(|a| Duration::try_from(a).ok())
        .unwrap_or_default();
    tokio::time::sleep(initial.saturating_sub(age)).await;
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut counter = Counter::new(&probe);
    loop {
        ticks.tick().await;
        let outcome = run::once(
            &host.cri,
            &target.container,
            &target.container_id,
            &target.ip,
            &probe,
        )
        .await;
        tell(&host, &target, &outcome);
        let success = matches!(outcome, Outcome::Success);
        if let Some(verdict) = counter.count(success, matches!(outcome, Outcome::Unknown(_))) {
            let verdict = Verdict {
                container_id: target.container_id.clone(),
                probe: target.type_,
                success: verdict,
            };
            let ends = target.type_ != Type::Readiness && !verdict.success
                || target.type_ == Type::Startup && verdict.success;
            mailbox.put_verdict(verdict);
            if ends {
                // A container that is to be killed is not probed again; a new instance gets a new task.
                return;
            }
        }
    }
}

fn tell(host: &Host, target: &Target, outcome: &Outcome) {
    let title = target.type_.title();
    let message = match outcome {
        Outcome::Success => return,
        Outcome::Failure(why) => format!("{title} probe failed: {why}"),
        Outcome::Unknown(why) => format!("{title} probe errored and resulted in unknown state: {why}"),
    };
    let on = pod::reference(&target.pod, Some((target.kind, &target.container.name)));
    host.event(on, EventType::Warning, "Unhealthy", message);
}
