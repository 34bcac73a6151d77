//! Takes a pod down: stops containers gracefully, then sandboxes, then volumes and cgroups, then the API object.

use super::{Next, Worker};
use crate::plan::{PodEvent, next_phase};
use crate::pod::{self, Kind};
use crate::runtime::state::ContainerState;
use crate::{cri, handlers};
use k8s_openapi::api::core::v1::Container;
use keelson_client::EventType;
use std::time::{Duration, Instant};

/// A container always gets this long, whatever the grace period and however long its hook took.
const GRACE_MIN_S: i64 = 2;
const RETRY: Duration = Duration::from_millis(500);

impl Worker {
    /// One round of a pod that has to go; a shorter grace period starts the round again.
    pub(super) async fn terminate(&mut self) -> Next {
        self.probes.stop_all_but_readiness();
        self.report();
        let mut grace = self.mailbox.grace();
        let deadline = grace
            .borrow_and_update()
            .unwrap_or_else(|| pod::grace_period_s(&self.pod));
        let stopped = tokio::select! {
            done = self.kill_all(deadline, true) => done,
            _ = grace.changed() => return Next::Again,
        };
        if !stopped {
            tokio::time::sleep(RETRY).await;
            return Next::Again;
        }
        self.probes.stop_all();
        if self.seen.runtime.any_running() || self.seen.runtime.sandboxes.iter().any(|s| s.ready) {
            self.adopted = false;
            return Next::Again;
        }
        self.known.stopped = true;
        self.known.waiting.clear();
        self.report();
        self.phase = next_phase(self.phase, PodEvent::ContainersStopped);
        Next::Again
    }

    /// Releases what the node holds for the pod.
    pub(super) async fn release(&mut self) -> Next {
        let uid = pod::uid(&self.pod).to_owned();
        let host = self.host.clone();
        let parent = host.cgroups.pod_parent(&self.pod);
        let removed = tokio::task::spawn_blocking(move || {
            let volumes = host.volumes.remove(&uid);
            let cgroup = host.cgroups.remove_pod(&parent);
            host.images.forget(&uid);
            (volumes, cgroup)
        })
        .await;
        match removed {
            Ok((Ok(()), true)) => {
                self.phase = next_phase(self.phase, PodEvent::ResourcesReleased);
                Next::Again
            }
            other => {
                tracing::debug!(pod = %pod::full_name(&self.pod), ?other, "volumes or cgroup still in use");
                tokio::time::sleep(RETRY).await;
                Next::Again
            }
        }
    }

    /// Removes the API object of a deleted pod, once; then waits until it is gone.
    pub(super) fn released(&mut self) -> Next {
        if self.mailbox.is_gone() {
            self.host.sender.forget(pod::uid(&self.pod));
            return Next::Stop;
        }
        if pod::deletion_time(&self.pod).is_some() && !pod::is_mirror(&self.pod) {
            self.host.sender.delete(&self.pod);
        }
        Next::Wait(None)
    }

    /// Stops every running container at once, sidecars after the others, then the sandboxes.
    pub(super) async fn kill_all(&mut self, grace_s: i64, sandboxes: bool) -> bool {
        let started = Instant::now();
        let running: Vec<(String, String)> = self
            .seen
            .runtime
            .containers
            .iter()
            .filter(|c| matches!(c.state, ContainerState::Running | ContainerState::Unknown))
            .map(|c| (c.id.clone(), c.name.clone()))
            .collect();
        let (sidecars, main): (Vec<_>, Vec<_>) = running.into_iter().partition(|(_, name)| {
            pod::init_containers(&self.pod)
                .iter()
                .any(|c| c.name == *name && pod::is_sidecar(c))
        });
        let mut ok = self.kill_group(&main, grace_s).await;
        // Sidecars end in the reverse order of their start.
        for one in sidecars.iter().rev() {
            let left = grace_s - i64::try_from(started.elapsed().as_secs()).unwrap_or(0);
            ok &= self.kill_group(std::slice::from_ref(one), left.max(0)).await;
        }
        if sandboxes {
            for sandbox in self.seen.runtime.sandboxes.clone() {
                if let Err(status) = self.host.cri.stop_pod_sandbox(&sandbox.id).await {
                    let message = format!(
                        "error killing pod: failed to \"KillPodSandbox\": {}",
                        cri::describe(&status)
                    );
                    self.host
                        .pod_event(&self.pod, EventType::Warning, "FailedKillPod", message);
                    ok = false;
                } else {
                    self.observe_sandbox(&sandbox.id).await;
                }
            }
        }
        for (id, _) in main.iter().chain(&sidecars) {
            self.observe_container(id).await;
        }
        ok
    }

    async fn kill_group(&self, group: &[(String, String)], grace_s: i64) -> bool {
        let stops = group.iter().map(|(id, name)| async move {
            let member = pod::find(&self.pod, name).map(|m| (m.kind, m.container.into_owned()));
            let (kind, container) = member.unwrap_or((Kind::Regular, Container::default()));
            if !name.is_empty() {
                self.container_event(
                    kind,
                    name,
                    EventType::Normal,
                    "Killing",
                    format!("Stopping container {name}"),
                );
            }
            self.stop_with_hook(id, &container, grace_s).await
        });
        futures::future::join_all(stops).await.into_iter().all(|ok| ok)
    }

    /// Runs the preStop hook within the grace period, then TERM, then KILL.
    pub(super) async fn stop_with_hook(&self, id: &str, container: &Container, grace_s: i64) -> bool {
        let started = Instant::now();
        let hook = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref());
        if let Some(hook) = hook.filter(|_| grace_s > 0) {
            let ip = self.pod_ips().first().cloned().unwrap_or_default();
            let run = handlers::run_hook(&self.host.cri, id, container, hook, &ip);
            let limit = Duration::from_secs(grace_s.unsigned_abs());
            if let Ok(Err(why)) = tokio::time::timeout(limit, run).await {
                tracing::warn!(pod = %pod::full_name(&self.pod), container = %container.name, %why, "preStop hook failed");
                if let Some(member) = pod::find(&self.pod, &container.name) {
                    let message = "PreStopHook failed".to_owned();
                    self.container_event(
                        member.kind,
                        &container.name,
                        EventType::Warning,
                        "FailedPreStopHook",
                        message,
                    );
                }
            }
        }
        let spent = i64::try_from(started.elapsed().as_secs()).unwrap_or(i64::MAX);
        let left = (grace_s - spent).max(GRACE_MIN_S);
        match self.host.cri.stop_container(id, left).await {
            Ok(()) => true,
            Err(status) => {
                tracing::warn!(pod = %pod::full_name(&self.pod), container = %container.name, error = %cri::describe(&status), "container not stopped");
                false
            }
        }
    }
}
