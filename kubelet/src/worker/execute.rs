//! Executes the planner's actions against the runtime.

use super::{Next, Worker};
use crate::cri;
use crate::plan::actions::{KillReason, PodAction};
use crate::pod;
use crate::runtime::{dns, sandbox_config};
use crate::volumes::setup::Context;
use jiff::{SignedDuration, Timestamp};
use keelson_client::EventType;
use keelson_proto::cri::v1::PodSandboxConfig;
use std::time::Instant;

const VOLUME_RETRY_FIRST_MS: i64 = 500;
const VOLUME_RETRY_MAX_MS: i64 = 122_000;
const SANDBOX_RETRY_MAX_S: i64 = 60;

impl Worker {
    /// Executes in order; the first failure ends the round.
    pub(super) async fn execute(&mut self, actions: Vec<PodAction>) -> Next {
        if let Some(at) = self.volumes.retry_at.filter(|at| *at > Timestamp::now()) {
            return Next::Wait(Some(at));
        }
        let host = self.host.clone();
        for action in actions {
            let done = match action {
                PodAction::KillPod { changed } => {
                    if changed && self.seen.runtime.sandbox().is_some() {
                        let message = "Pod sandbox changed, it will be killed and re-created.";
                        host.pod_event(&self.pod, EventType::Normal, "SandboxChanged", message);
                    }
                    self.kill_all(pod::grace_period_s(&self.pod), true).await
                }
                PodAction::CreateSandbox { attempt } => {
                    // The semaphore is never closed.
                    let _permit = host.starts.acquire().await;
                    self.create_sandbox_and_volumes(attempt).await
                }
                PodAction::KillContainer {
                    id,
                    name,
                    message,
                    reason,
                } => {
                    self.kill_one(&id, &name, &message, reason).await;
                    true
                }
                PodAction::StartContainer(start) => {
                    if !self.volumes.ready && !self.ensure_volumes().await {
                        false
                    } else {
                        self.start_container(&start).await;
                        true
                    }
                }
            };
            if !done {
                self.report();
                return Next::Wait(
                    [self.volumes.retry_at, self.seen.sandbox_retry_at]
                        .into_iter()
                        .flatten()
                        .min(),
                );
            }
        }
        Next::Again
    }

    /// Sandbox and volumes do not need each other: they are made at the same time.
    async fn create_sandbox_and_volumes(&mut self, attempt: u32) -> bool {
        let started = Instant::now();
        if let Err(error) = self.host.cgroups.create_pod(&self.pod) {
            return self.sandbox_failed(&format!("failed to ensure that the pod's cgroup exists: {error}"));
        }
        let config = self.render_sandbox(attempt);
        if let Err(error) = std::fs::create_dir_all(&config.log_directory) {
            return self.sandbox_failed(&format!(
                "cannot create log directory {}: {error}",
                config.log_directory
            ));
        }
        let (cri, volumes) = (self.host.cri.clone(), self.host.clone());
        let (pod, context) = (self.pod.clone(), self.volume_context());
        let make_volumes = async {
            let result = volumes.volumes.ensure(&pod, &context).await;
            volumes.metrics.step("volumes", started.elapsed());
            result
        };
        let (sandbox, made) = tokio::join!(cri.run_pod_sandbox(config.clone(), ""), make_volumes);
        self.host.metrics.step("sandbox", started.elapsed());
        self.sandbox_config = Some(config);
        let volumes_ready = self.note_volumes(made);
        match sandbox {
            Ok(id) => {
                self.sandbox_failures = 0;
                self.seen.sandbox_retry_at = None;
                self.observe_sandbox(&id).await;
                volumes_ready
            }
            Err(status) => self.sandbox_failed(&cri::describe(&status)),
        }
    }

    fn sandbox_failed(&mut self, why: &str) -> bool {
        let message = format!("Failed to create pod sandbox: {why}");
        self.host
            .pod_event(&self.pod, EventType::Warning, "FailedCreatePodSandBox", message);
        self.sandbox_failures += 1;
        let delay = (1i64 << self.sandbox_failures.min(6)).min(SANDBOX_RETRY_MAX_S);
        self.seen.sandbox_retry_at = Timestamp::now()
            .checked_add(SignedDuration::from_secs(delay))
            .ok();
        // A failed attempt may have left a sandbox: the next attempt number depends on it.
        self.mailbox.put_relist();
        false
    }

    fn render_sandbox(&self, attempt: u32) -> PodSandboxConfig {
        let settings = &self.host.settings;
        let (dns, warning) = dns::of_pod(&self.pod, &settings.dns);
        if let Some(warning) = warning {
            self.host
                .pod_event(&self.pod, EventType::Warning, "DNSConfigForming", warning);
        }
        let inputs = sandbox_config::SandboxSettings {
            pod_logs_dir: settings.pod_logs_dir.clone(),
            cgroup_parent: self.host.cgroups.pod_parent(&self.pod),
            dns,
            cluster_domain: settings.dns.domain.clone(),
            node_hostname: settings.hostname.clone(),
        };
        sandbox_config::render(&self.pod, attempt, &inputs, &settings.security)
    }

    /// The sandbox's configuration, made again after a restart of the kubelet.
    pub(super) fn current_sandbox_config(&mut self) -> PodSandboxConfig {
        if self.sandbox_config.is_none() {
            let attempt = self.seen.runtime.sandbox().map_or(0, |s| s.attempt);
            self.sandbox_config = Some(self.render_sandbox(attempt));
        }
        self.sandbox_config.clone().unwrap_or_default()
    }

    fn volume_context(&self) -> Context {
        let settings = &self.host.settings;
        Context {
            host_ips: settings.host_ips.clone(),
            pod_ips: self.pod_ips(),
            allocatable: settings.allocatable.clone(),
        }
    }

    pub(super) fn pod_ips(&self) -> Vec<String> {
        if pod::host_network(&self.pod) {
            return self.host.settings.host_ips.clone();
        }
        self.seen
            .runtime
            .sandbox()
            .map(|s| s.ips.clone())
            .unwrap_or_default()
    }

    pub(super) async fn ensure_volumes(&mut self) -> bool {
        let (pod, context) = (self.pod.clone(), self.volume_context());
        let result = self.host.volumes.ensure(&pod, &context).await;
        self.note_volumes(result)
    }

    /// Brings contents up to date when something changed or a token is due.
    pub(super) async fn refresh_volumes(&mut self, now: Timestamp) {
        let due = self.volumes.refresh_at.is_some_and(|at| at <= now);
        let held = self.volumes.retry_at.is_some_and(|at| at > now);
        if (due || !self.volumes.ready) && !held {
            self.ensure_volumes().await;
        }
    }

    fn note_volumes(&mut self, result: Result<Option<Timestamp>, Vec<crate::volumes::MountError>>) -> bool {
        match result {
            Ok(refresh_at) => {
                self.volumes = super::VolumeState {
                    ready: true,
                    refresh_at,
                    ..super::VolumeState::default()
                };
                true
            }
            Err(errors) => {
                for error in errors {
                    self.host
                        .pod_event(&self.pod, EventType::Warning, "FailedMount", error.to_string());
                }
                let delay = (VOLUME_RETRY_FIRST_MS << self.volumes.failures.min(8)).min(VOLUME_RETRY_MAX_MS);
                self.volumes.failures += 1;
                self.volumes.retry_at = Timestamp::now()
                    .checked_add(SignedDuration::from_millis(delay))
                    .ok();
                false
            }
        }
    }

    /// Stops one container of a pod that goes on.
    async fn kill_one(&mut self, id: &str, name: &str, message: &str, reason: KillReason) {
        let member = pod::find(&self.pod, name).map(|m| (m.kind, m.container.into_owned()));
        let own = member.as_ref().and_then(|(_, c)| match reason {
            KillReason::Liveness => c.liveness_probe.as_ref()?.termination_grace_period_seconds,
            KillReason::Startup => c.startup_probe.as_ref()?.termination_grace_period_seconds,
            _ => None,
        });
        let grace = own.unwrap_or_else(|| pod::grace_period_s(&self.pod));
        self.probes.stop(id);
        if let Some((kind, container)) = member {
            self.container_event(kind, name, EventType::Normal, "Killing", message.to_owned());
            self.stop_with_hook(id, &container, grace).await;
        }
        self.seen.probes.remove(id);
        self.observe_container(id).await;
    }
}
