//! `pod_actions`: what has to happen so that the runtime runs what the spec asks for.
//!
//! The order of the result is the order of execution. An action that waits for a back-off is not in the plan; it is in
//! `waiting` with the reason kubectl shows, and `retry_after` says when to plan again.

use super::backoff::{self, Backoff, Bounds};
use super::{init, restart};
use crate::pod::{self, Kind};
use crate::runtime::container_hash;
use crate::runtime::state::{ContainerSeen, ContainerState, PodSeen};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod};
use std::collections::BTreeMap;

/// Latest probe verdicts of one container instance; `None` until a probe has said something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    pub started: Option<bool>,
    pub ready: Option<bool>,
    pub live: Option<bool>,
}

/// Everything the planner may know about the world.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub runtime: PodSeen,
    /// By container id.
    pub probes: BTreeMap<String, Verdicts>,
    /// By container name.
    pub restarts: BTreeMap<String, Backoff>,
    /// Containers that failed to be created or started and the earliest time to try again, by name.
    pub retry_at: BTreeMap<String, Timestamp>,
    /// When a sandbox may be tried again after a failure.
    pub sandbox_retry_at: Option<Timestamp>,
    pub restart_bounds: Option<Bounds>,
}

/// A container to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    pub kind: Kind,
    pub name: String,
    pub restart_count: u32,
    /// The back-off to remember when this starts after a failure.
    pub backoff: Option<Backoff>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodAction {
    /// Stop every container and sandbox; `changed` when a new sandbox follows.
    KillPod {
        changed: bool,
    },
    CreateSandbox {
        attempt: u32,
    },
    KillContainer {
        id: String,
        name: String,
        message: String,
        reason: KillReason,
    },
    StartContainer(Start),
}

/// Why one container is stopped; liveness and startup probes may have their own grace period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillReason {
    Changed,
    Liveness,
    Startup,
    Unknown,
}

/// Why a container is not started now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub reason: String,
    pub message: String,
}

/// The answer of the planner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodPlan {
    pub actions: Vec<PodAction>,
    /// By container name.
    pub waiting: BTreeMap<String, Waiting>,
    pub retry_after: Option<SignedDuration>,
    /// Every container has ended for good: the pod may be taken down.
    pub finished: bool,
}

/// Plans one pod that is to run.
pub fn pod_actions(pod: &Pod, seen: &Seen, now: Timestamp) -> PodPlan {
    let mut out = Builder {
        pod,
        seen,
        now,
        plan: PodPlan::default(),
    };
    if let Some(attempt) = sandbox_needed(pod, seen) {
        plan_new_sandbox(pod, seen, attempt, &mut out);
        return out.plan;
    }
    plan_ephemeral(pod, seen, &mut out);
    if init::plan(pod, seen, &mut out) && !out.plan.finished {
        plan_regular(pod, seen, &mut out);
    }
    out.plan
}

/// The attempt number of the sandbox to create, if one is needed.
fn sandbox_needed(pod: &Pod, seen: &Seen) -> Option<u32> {
    let Some(newest) = seen.runtime.sandbox() else {
        return Some(0);
    };
    let ready = seen.runtime.sandboxes.iter().filter(|s| s.ready).count();
    let no_address = newest.ips.is_empty() && !pod::host_network(pod);
    (!newest.ready || ready > 1 || no_address).then_some(newest.attempt + 1)
}

fn plan_new_sandbox(pod: &Pod, seen: &Seen, attempt: u32, out: &mut Builder<'_>) {
    let restarts = |c: &Container, kind| {
        let status = seen.runtime.latest(&c.name);
        match status {
            // The sandbox died under it: it ends as if it had failed.
            Some(s) if s.state == ContainerState::Running => restart::policy(pod, c) != "Never",
            _ => restart::should_restart(pod, c, kind, status),
        }
    };
    let wanted = pod::containers(pod).iter().any(|c| restarts(c, Kind::Regular));
    let stale = !seen.runtime.sandboxes.is_empty();
    if !wanted || (attempt > 0 && !restart::pod_may_restart(pod) && !seen.runtime.containers.is_empty()) {
        out.plan.finished = true;
        return;
    }
    if stale {
        out.plan.actions.push(PodAction::KillPod { changed: true });
    }
    if let Some(wait) = seen
        .sandbox_retry_at
        .map(|at| at.duration_since(out.now))
        .filter(|d| *d > SignedDuration::ZERO)
    {
        out.plan.actions.clear();
        out.retry_in(wait);
        return;
    }
    out.plan.actions.push(PodAction::CreateSandbox { attempt });
    match pod::init_containers(pod).first() {
        Some(first) => out.start_fresh(Kind::Init, first),
        None => {
            for container in pod::containers(pod) {
                if restarts(container, Kind::Regular) {
                    out.start_fresh(Kind::Regular, container);
                }
            }
        }
    }
}

fn plan_ephemeral(pod: &Pod, seen: &Seen, out: &mut Builder<'_>) {
    for member in pod::members(pod).filter(|m| m.kind == Kind::Ephemeral) {
        let status = seen.runtime.latest(&member.container.name);
        if status.is_none() && restart::should_restart(pod, &member.container, Kind::Ephemeral, None) {
            out.start(Kind::Ephemeral, &member.container, None);
        }
    }
}

fn plan_regular(pod: &Pod, seen: &Seen, out: &mut Builder<'_>) {
    let mut alive = 0;
    for container in pod::containers(pod) {
        let status = seen.runtime.latest(&container.name);
        match status {
            Some(s) if s.state == ContainerState::Running => {
                let changed = s.hash.is_some_and(|hash| hash != container_hash::of(container));
                if changed {
                    let message = format!(
                        "Container {} definition changed, will be restarted",
                        container.name
                    );
                    out.kill(container, s, message, KillReason::Changed);
                } else {
                    out.kill_if_unhealthy(container, s);
                }
                alive += 1;
            }
            Some(s) if s.state == ContainerState::Unknown => {
                out.kill_unknown(container, s);
                alive += 1;
            }
            other => {
                if restart::should_restart(pod, container, Kind::Regular, other) {
                    out.start(Kind::Regular, container, other);
                    alive += 1;
                }
            }
        }
    }
    if alive == 0 {
        out.finish();
    }
}

/// Collects the plan.
pub(super) struct Builder<'a> {
    pod: &'a Pod,
    seen: &'a Seen,
    now: Timestamp,
    plan: PodPlan,
}

impl Builder<'_> {
    pub(super) fn finish(&mut self) {
        self.plan.finished = true;
    }

    /// Starts a container unless a back-off or a failed attempt holds it back.
    pub(super) fn start(&mut self, kind: Kind, container: &Container, last: Option<&ContainerSeen>) {
        if let Some(at) = self.seen.retry_at.get(&container.name) {
            let wait = at.duration_since(self.now);
            if wait > SignedDuration::ZERO {
                self.retry_in(wait);
                return;
            }
        }
        let bounds = self.seen.restart_bounds.unwrap_or(backoff::DEFAULT);
        let entry = self.seen.restarts.get(&container.name);
        let failed_at = last
            .filter(|s| s.state == ContainerState::Exited)
            .and_then(|s| s.finished_at);
        let mut next = None;
        if let Some(failed_at) = failed_at {
            if let Some(left) = backoff::remaining(entry, failed_at, self.now, bounds) {
                let delay = pod::go_duration_s(entry.map_or(0, |e| e.delay_s));
                self.plan.waiting.insert(
                    container.name.clone(),
                    Waiting {
                        reason: "CrashLoopBackOff".into(),
                        message: format!(
                            "back-off {delay} restarting failed container={} pod={}",
                            container.name,
                            pod::full_name(self.pod)
                        ),
                    },
                );
                self.retry_in(left);
                return;
            }
            next = Some(backoff::next(entry, failed_at, self.now, bounds));
        }
        self.push_start(kind, container, next);
    }

    fn start_fresh(&mut self, kind: Kind, container: &Container) {
        self.push_start(kind, container, None);
    }

    fn push_start(&mut self, kind: Kind, container: &Container, backoff: Option<Backoff>) {
        let known = pod::api_container_status(self.pod, kind, &container.name);
        let restart_count = match (self.seen.runtime.latest(&container.name), known) {
            (Some(last), _) => last.attempt + 1,
            // The dead instances were removed behind our back: the API server still knows the count.
            (None, Some(status)) if status.container_id.is_some() => status.restart_count.max(0) as u32 + 1,
            _ => 0,
        };
        self.plan.actions.push(PodAction::StartContainer(Start {
            kind,
            name: container.name.clone(),
            restart_count,
            backoff,
        }));
    }

    /// Kills a running container whose liveness or startup probe failed; it is started again when its end is seen.
    pub(super) fn kill_if_unhealthy(&mut self, container: &Container, seen: &ContainerSeen) -> bool {
        let verdicts = self.seen.probes.get(&seen.id).copied().unwrap_or_default();
        let (probe, reason) = if verdicts.started == Some(false) {
            ("startup", KillReason::Startup)
        } else if verdicts.live == Some(false) {
            ("liveness", KillReason::Liveness)
        } else {
            return false;
        };
        let restarts = restart::policy(self.pod, container) != "Never";
        let mut message = format!("Container {} failed {probe} probe", container.name);
        if restarts {
            message.push_str(", will be restarted");
        }
        self.kill(container, seen, message, reason);
        true
    }

    pub(super) fn kill_unknown(&mut self, container: &Container, seen: &ContainerSeen) {
        let message = "Container is in \"unknown\" state, try killing it before restart".to_owned();
        self.kill(container, seen, message, KillReason::Unknown);
    }

    fn kill(&mut self, container: &Container, seen: &ContainerSeen, message: String, reason: KillReason) {
        self.plan.actions.push(PodAction::KillContainer {
            id: seen.id.clone(),
            name: container.name.clone(),
            message,
            reason,
        });
    }

    fn retry_in(&mut self, wait: SignedDuration) {
        self.plan.retry_after = Some(self.plan.retry_after.map_or(wait, |old| old.min(wait)));
    }
}

#[cfg(test)]
#[path = "actions_tests.rs"]
mod tests;
