//! What the worker tells: statuses and the events of waiting containers.

use super::Worker;
use crate::plan::actions::Waiting;
use crate::pod;
use crate::status;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use keelson_client::EventType;

impl Worker {
    /// Generates the status and hands it to the sender.
    pub(super) fn report(&mut self) {
        self.mailbox.set_fingerprint(self.seen.runtime.fingerprint());
        let basis = self.basis();
        let status = status::generate(&basis, &self.seen, &self.known, Timestamp::now());
        if !self.running_noted && status.phase.as_deref() == Some("Running") {
            self.running_noted = true;
            self.host.metrics.step("total", self.created.elapsed());
        }
        self.reported = Some(status.clone());
        self.host.sender.set(&self.pod, status);
    }

    /// The pod with the status reported last: the API server's copy may be older than that.
    fn basis(&self) -> Pod {
        let mut pod = Pod::clone(&self.pod);
        if let Some(reported) = &self.reported {
            let api = pod.status.take().unwrap_or_default();
            pod.status = Some(merge(api, reported.clone()));
        }
        pod
    }

    /// The event of a container that is held back, once per attempt.
    pub(super) fn tell_back_off(&self, name: &str, waiting: &Waiting) {
        if self
            .known
            .waiting
            .get(name)
            .is_some_and(|w| w.message == waiting.message)
        {
            return;
        }
        if waiting.reason == "CrashLoopBackOff"
            && let Some(member) = pod::find(&self.pod, name)
        {
            let message = format!(
                "Back-off restarting failed container {name} in pod {}",
                pod::full_name(&self.pod)
            );
            self.host.event(
                pod::reference(&self.pod, Some((member.kind, name))),
                EventType::Warning,
                "BackOff",
                message,
            );
        }
    }

    /// An event about a container.
    pub(super) fn container_event(
        &self,
        kind: pod::Kind,
        name: &str,
        type_: EventType,
        reason: &str,
        message: String,
    ) {
        self.host.event(
            pod::reference(&self.pod, Some((kind, name))),
            type_,
            reason,
            message,
        );
    }
}

/// The reported status with the conditions others wrote meanwhile.
fn merge(api: PodStatus, mut reported: PodStatus) -> PodStatus {
    let own = reported.conditions.get_or_insert_default();
    for condition in api.conditions.into_iter().flatten() {
        match own.iter_mut().find(|c| c.type_ == condition.type_) {
            None => own.push(condition),
            Some(mine) if !status::patch::is_owned(&condition.type_) => *mine = condition,
            Some(_) => {}
        }
    }
    reported.start_time = api.start_time.or(reported.start_time);
    reported.qos_class = api.qos_class.or(reported.qos_class);
    reported
}
