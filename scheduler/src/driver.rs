//! The scheduling loop: hands events to the scheduler, asks it for decisions, and carries them out.
//!
//! One task owns the scheduler. Writes run beside it, at most `limits::WRITES_MAX` at a time; what became of a binding
//! comes back through the same channel as the watches' events.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keelson_base::Shutdown;
use kube::Client;
use tokio::sync::mpsc;

use crate::limits::{EVENTS_MAX, EVENTS_PER_TURN, WRITES_MAX};
use crate::metrics::{Attempt, Metrics};
use crate::model::pod::Pod;
use crate::queue::Millis;
use crate::recorder::{Occurrence, Recorder};
use crate::scheduler::{Decision, Nomination, Scheduler};
use crate::watches::{self, Message};
use crate::writes;

/// What the loop needs besides the scheduler.
#[derive(Clone)]
pub struct Surroundings {
    pub client: Client,
    pub recorder: Recorder,
    pub metrics: Metrics,
    /// Set once every kind is synced.
    pub synced: Arc<AtomicBool>,
}

struct Driver {
    scheduler: Scheduler,
    around: Surroundings,
    sender: mpsc::Sender<Message>,
    started: Instant,
    unsynced: usize,
    writes: usize,
    /// Events taken in before this process leads: decisions wait, state does not.
    leading: bool,
}

/// Runs the loop until shutdown. Decisions start when `lead` resolves.
pub async fn run(
    scheduler: Scheduler,
    around: Surroundings,
    lead: impl Future<Output = ()>,
    shutdown: Shutdown,
) {
    let (sender, mut receiver) = mpsc::channel(EVENTS_MAX);
    watches::start(&around.client, &sender);
    let mut driver = Driver {
        scheduler,
        around,
        sender,
        started: Instant::now(),
        unsynced: watches::KINDS,
        writes: 0,
        leading: false,
    };
    let mut lead = std::pin::pin!(lead);
    loop {
        for _ in 0..EVENTS_PER_TURN {
            let Ok(message) = receiver.try_recv() else { break };
            driver.take_in(message);
        }
        if driver.may_decide() && driver.decide_one() {
            // Watches and writes of this thread get their turn between decisions.
            tokio::task::yield_now().await;
            continue;
        }
        driver.around.metrics.show(driver.scheduler.queue.depths());
        let due = driver.wait();
        tokio::select! {
            Some(message) = receiver.recv() => driver.take_in(message),
            () = &mut lead, if !driver.leading => driver.leading = true,
            () = sleep(due) => {}
            () = shutdown.wait() => return,
        }
    }
}

async fn sleep(due: Option<Duration>) {
    match due {
        Some(due) => tokio::time::sleep(due).await,
        None => std::future::pending().await,
    }
}

impl Driver {
    fn now(&self) -> Millis {
        self.started.elapsed().as_millis() as Millis
    }

    fn may_decide(&self) -> bool {
        self.leading && self.unsynced == 0 && self.writes < WRITES_MAX
    }

    /// How long nothing can be due; `None` when only a message can bring work.
    fn wait(&self) -> Option<Duration> {
        if !self.may_decide() {
            return None;
        }
        let due = self.scheduler.queue.next_due()?;
        Some(Duration::from_millis(due.saturating_sub(self.now()).max(1)))
    }

    fn take_in(&mut self, message: Message) {
        let now = self.now();
        match message {
            Message::Observed(observed) => self.scheduler.observe(observed, now),
            Message::Synced => {
                self.unsynced = self.unsynced.saturating_sub(1);
                if self.unsynced == 0 {
                    self.around.synced.store(true, Ordering::Relaxed);
                    tracing::info!(nodes = self.scheduler.cluster.live_count(), "caches are synced");
                }
            }
            Message::Bound { uid, success } => {
                self.writes -= 1;
                self.scheduler.bound(&uid, success, now);
            }
            Message::Written => self.writes -= 1,
        }
    }

    /// Decides about one pod and starts its writes; false when no pod is ready.
    fn decide_one(&mut self) -> bool {
        let began = Instant::now();
        let Some(decision) = self.scheduler.decide(self.now()) else {
            return false;
        };
        self.around
            .metrics
            .algorithm
            .observe(began.elapsed().as_secs_f64());
        self.writes += 1;
        let (around, sender) = (self.around.clone(), self.sender.clone());
        match decision {
            Decision::Bind { pod, node, claims } => {
                tokio::spawn(async move {
                    let success = bind(&around, &pod, &node, &claims).await;
                    // The loop may be gone at shutdown.
                    _ = sender
                        .send(Message::Bound {
                            uid: pod.uid.clone(),
                            success,
                        })
                        .await;
                });
            }
            Decision::Refuse {
                pod,
                message,
                nomination,
                victims,
            } => {
                tokio::spawn(async move {
                    refuse(&around, &pod, message, nomination, &victims).await;
                    _ = sender.send(Message::Written).await;
                });
            }
        }
        true
    }
}

fn count(around: &Surroundings, pod: &Pod, result: &'static str) {
    let profile = pod.class.scheduler_name.to_string();
    around
        .metrics
        .attempts
        .get_or_create(&Attempt { result, profile })
        .inc();
}

async fn bind(around: &Surroundings, pod: &Arc<Pod>, node: &str, claims: &[Box<str>]) -> bool {
    match writes::bind(&around.client, pod, node, claims).await {
        Ok(()) => {
            let note = format!("Successfully assigned {} to {node}", pod.full_name());
            tracing::debug!(pod = pod.full_name(), node, "bound");
            around
                .recorder
                .record(Occurrence::new(pod, "Normal", "Scheduled", "Binding", note));
            let age = jiff::Timestamp::now().as_second() - pod.created_s;
            around.metrics.sli.observe(age.max(0) as f64);
            count(around, pod, "scheduled");
            true
        }
        Err(error) => {
            let cause = keelson_base::error::chain(&error);
            tracing::warn!(
                pod = pod.full_name(),
                node,
                error = cause,
                "cannot bind; will be tried again"
            );
            let note = format!("binding rejected: {cause}");
            around.recorder.record(Occurrence::new(
                pod,
                "Warning",
                "FailedScheduling",
                "Scheduling",
                note.clone(),
            ));
            count(around, pod, "error");
            let keep = Nomination::Keep;
            let patch = writes::refusal_patch(pod, "SchedulerError", &note, &keep, jiff::Timestamp::now());
            write_status(around, pod, patch).await;
            false
        }
    }
}

async fn refuse(
    around: &Surroundings,
    pod: &Arc<Pod>,
    message: String,
    nomination: Nomination,
    victims: &[Arc<Pod>],
) {
    tracing::debug!(pod = pod.full_name(), message, "unschedulable");
    count(around, pod, "unschedulable");
    let note = message.clone();
    around.recorder.record(Occurrence::new(
        pod,
        "Warning",
        "FailedScheduling",
        "Scheduling",
        note,
    ));
    // The nomination first: it is what makes the room that is about to be made this pod's.
    let patch = writes::refusal_patch(
        pod,
        "Unschedulable",
        &message,
        &nomination,
        jiff::Timestamp::now(),
    );
    write_status(around, pod, patch).await;
    let Nomination::Node(node) = &nomination else {
        return;
    };
    around.metrics.preemption_attempts.inc();
    around.metrics.preemption_victims.observe(victims.len() as f64);
    for victim in victims.iter().filter(|v| !v.deleting) {
        match writes::evict(&around.client, pod, victim).await {
            Ok(()) => {
                let note = format!("Preempted by pod {} on node {node}", pod.uid.0);
                around
                    .recorder
                    .record(Occurrence::new(victim, "Normal", "Preempted", "Preempting", note));
            }
            Err(error) => {
                let (error, victim) = (keelson_base::error::chain(&error), victim.full_name());
                tracing::warn!(pod = pod.full_name(), victim, error, "cannot preempt");
            }
        }
    }
}

async fn write_status(around: &Surroundings, pod: &Pod, patch: Option<serde_json::Value>) {
    let Some(patch) = patch else { return };
    if let Err(error) = writes::patch_status(&around.client, pod, patch).await {
        let error = keelson_base::error::chain(&error);
        tracing::warn!(pod = pod.full_name(), error, "cannot write the pod's status");
    }
}
