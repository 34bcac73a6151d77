//! One task per pod: takes the newest wish and the newest facts, asks the planner, executes, reports.
//!
//! The task never holds a queue: its mailbox keeps only the latest spec, the ids of containers whose state changed and
//! the latest probe verdicts. A termination interrupts whatever the task is waiting for.

mod execute;
mod mailbox;
mod observe;
mod report;
mod start;
mod terminate;

pub use mailbox::{Mailbox, Verdict};

use crate::host::Host;
use crate::plan::{Phase, PodEvent, Seen, next_phase};
use crate::pod;
use crate::probes::Probes;
use crate::status::Known;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use keelson_proto::cri::v1::PodSandboxConfig;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the loop does after a step.
enum Next {
    /// Look again at once.
    Again,
    /// Wait for mail, at most until then.
    Wait(Option<Timestamp>),
    /// Nothing of the pod is left.
    Stop,
}

/// The state of one pod on this node.
pub struct Worker {
    host: Arc<Host>,
    mailbox: Arc<Mailbox>,
    pod: Arc<Pod>,
    phase: Phase,
    seen: Seen,
    known: Known,
    probes: Probes,
    /// The last status generated: the basis of the next one's transition times.
    reported: Option<PodStatus>,
    sandbox_config: Option<PodSandboxConfig>,
    volumes: VolumeState,
    sandbox_failures: u32,
    /// The runtime was asked once for what an earlier kubelet left, or an interrupted step of this one.
    adopted: bool,
    /// A plan is being executed: if it is interrupted, what it did is not known.
    executing: bool,
    created: Instant,
    running_noted: bool,
}

#[derive(Default)]
struct VolumeState {
    ready: bool,
    refresh_at: Option<Timestamp>,
    failures: u32,
    retry_at: Option<Timestamp>,
}

impl Worker {
    /// A worker for a pod; `rejected` when admission refused it; `fresh` when the runtime cannot know it.
    pub fn new(
        host: Arc<Host>,
        mailbox: Arc<Mailbox>,
        rejected: Option<(String, String)>,
        fresh: bool,
    ) -> Self {
        let pod = mailbox.pod();
        let known = Known {
            host_ips: host.settings.host_ips.clone(),
            start_time: Some(Timestamp::now()),
            runtime_name: host.settings.runtime_name.clone(),
            failed: rejected,
            ..Known::default()
        };
        let probes = Probes::new(host.clone(), mailbox.clone());
        Worker {
            host,
            mailbox,
            pod,
            phase: Phase::Syncing,
            seen: Seen::default(),
            known,
            probes,
            reported: None,
            sandbox_config: None,
            volumes: VolumeState::default(),
            sandbox_failures: 0,
            adopted: fresh,
            executing: false,
            created: Instant::now(),
            running_noted: false,
        }
    }

    /// Runs until nothing of the pod is left here.
    pub async fn run(mut self) {
        if self.known.failed.is_some() {
            self.phase = next_phase(self.phase, PodEvent::Rejected);
        }
        loop {
            self.take_mail().await;
            let next = match self.phase {
                Phase::Syncing => {
                    let mailbox = self.mailbox.clone();
                    tokio::select! {
                        biased;
                        () = mailbox.termination() => {
                            self.phase = next_phase(self.phase, PodEvent::DeleteRequested);
                            self.adopted &= !self.executing;
                            Next::Again
                        }
                        next = self.sync() => next,
                    }
                }
                Phase::Terminating => self.terminate().await,
                Phase::Terminated => self.release().await,
                Phase::Released => self.released(),
            };
            match next {
                Next::Again => {}
                Next::Wait(until) => self.wait(until).await,
                Next::Stop => return,
            }
        }
    }

    /// Takes what came in, and reads from the runtime what changed there.
    async fn take_mail(&mut self) {
        let mail = self.mailbox.take();
        self.pod = mail.pod;
        if mail.refresh_volumes {
            // Whatever was missing may be there now.
            self.volumes.ready = false;
            self.volumes.retry_at = None;
        }
        for verdict in mail.verdicts {
            self.note_verdict(&verdict);
        }
        if matches!(self.phase, Phase::Terminated | Phase::Released) {
            // Nothing the runtime says changes anything any more.
            return;
        }
        if mail.relist || !self.adopted {
            self.observe_all().await;
        } else {
            for id in mail.dirty {
                self.observe_container(&id).await;
            }
        }
    }

    fn note_verdict(&mut self, verdict: &Verdict) {
        let slot = self.seen.probes.entry(verdict.container_id.clone()).or_default();
        match verdict.probe {
            crate::probes::Type::Startup => slot.started = Some(verdict.success),
            crate::probes::Type::Readiness => slot.ready = Some(verdict.success),
            crate::probes::Type::Liveness => slot.live = Some(verdict.success),
        }
    }

    async fn wait(&self, until: Option<Timestamp>) {
        let Some(until) = until else {
            return self.mailbox.arrived().await;
        };
        let left = until.duration_since(Timestamp::now()).max(SignedDuration::ZERO);
        let left = Duration::try_from(left).unwrap_or_default();
        // Either way the loop looks again.
        let _ = tokio::time::timeout(left, self.mailbox.arrived()).await;
    }

    /// One round for a pod that is to run.
    async fn sync(&mut self) -> Next {
        let now = Timestamp::now();
        if self.deadline().is_some_and(|at| at <= now) {
            return self.fail(
                "DeadlineExceeded",
                "Pod was active on the node longer than the specified deadline",
            );
        }
        if pod::is_terminal_phase(pod::phase(&self.pod)) {
            self.phase = next_phase(self.phase, PodEvent::Finished);
            return Next::Again;
        }
        let plan = crate::plan::pod_actions(&self.pod, &self.seen, now);
        self.known
            .waiting
            .retain(|name, _| plan.waiting.contains_key(name) || self.seen.retry_at.contains_key(name));
        for (name, waiting) in &plan.waiting {
            self.tell_back_off(name, waiting);
        }
        self.known.waiting.extend(plan.waiting.clone());
        self.probes.reconcile(&self.pod, &self.seen);
        self.report();
        if plan.finished {
            self.phase = next_phase(self.phase, PodEvent::Finished);
            return Next::Again;
        }
        if plan.actions.is_empty() {
            self.refresh_volumes(now).await;
            return Next::Wait(self.wake_at(&plan, now));
        }
        self.executing = true;
        let next = self.execute(plan.actions).await;
        self.executing = false;
        next
    }

    /// The earliest of everything that has a time.
    fn wake_at(&self, plan: &crate::plan::PodPlan, now: Timestamp) -> Option<Timestamp> {
        let planned = plan.retry_after.and_then(|d| now.checked_add(d).ok());
        [
            planned,
            self.deadline(),
            self.volumes.refresh_at,
            self.volumes.retry_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn deadline(&self) -> Option<Timestamp> {
        let seconds = pod::spec(&self.pod).active_deadline_seconds?;
        let reported = self
            .pod
            .status
            .as_ref()
            .and_then(|s| s.start_time.as_ref())
            .map(|t| t.0);
        reported
            .or(self.known.start_time)?
            .checked_add(SignedDuration::from_secs(seconds))
            .ok()
    }

    fn fail(&mut self, reason: &str, message: &str) -> Next {
        use keelson_client::EventType;
        self.host.pod_event(&self.pod, EventType::Normal, reason, message);
        self.known.failed = Some((reason.into(), message.into()));
        self.phase = next_phase(self.phase, PodEvent::Rejected);
        Next::Again
    }
}
