//! The walk over the ordinals: what is made, ended, or waited for. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSetSpec;
use k8s_openapi::api::core::v1::Pod;
use keelson_controller::{Action, Note, Plan};

use super::{
    Observed, Revisions, identity, is_on_delete, is_running_and_ready, is_terminating, partition,
    revision_of, told, wanted,
};
use crate::pods;

pub(super) fn step(seen: &Observed, spec: &StatefulSetSpec, revisions: &Revisions, now: Timestamp) -> Plan {
    let mut walk = Walk {
        seen,
        spec,
        revisions,
        now,
        in_order: spec.pod_management_policy.as_deref() != Some("Parallel"),
        plan: Plan::nothing(),
    };
    let start = spec.ordinals.as_ref().and_then(|o| o.start).unwrap_or(0);
    let range = start..start + wanted(spec);
    let mut pods: BTreeMap<i32, Arc<Pod>> = BTreeMap::new();
    for pod in seen.pods {
        if let Some(ordinal) = identity::ordinal(seen.set, pod) {
            pods.insert(ordinal, pod.clone());
        }
    }
    for ordinal in range.clone() {
        if walk.replica(ordinal, start, pods.get(&ordinal)) && walk.in_order {
            return walk.plan;
        }
    }
    let first_unhealthy = pods
        .values()
        .find(|pod| !is_running_and_ready(pod) || is_terminating(pod))
        .cloned();
    for (_, pod) in pods.iter().rev().filter(|(ordinal, _)| !range.contains(ordinal)) {
        if walk.condemned(pod, first_unhealthy.as_ref()) && walk.in_order {
            return walk.plan;
        }
    }
    if walk.plan.actions.is_empty() && !is_on_delete(spec) {
        let updated = pods
            .range(start + partition(spec)..)
            .filter(|(ordinal, _)| range.contains(ordinal));
        walk.update(updated.rev().map(|(_, pod)| pod));
    }
    walk.plan
}

struct Walk<'a> {
    seen: &'a Observed<'a>,
    spec: &'a StatefulSetSpec,
    revisions: &'a Revisions,
    now: Timestamp,
    in_order: bool,
    plan: Plan,
}

impl Walk<'_> {
    fn wait(&mut self, why: String) -> bool {
        self.plan.report.waiting = Some(why);
        true
    }

    /// Handles one wanted ordinal; whether later ones have to wait for it.
    fn replica(&mut self, ordinal: i32, start: i32, pod: Option<&Arc<Pod>>) -> bool {
        let Some(pod) = pod else {
            self.create(ordinal, start);
            return true;
        };
        let name = pod.metadata.name.clone().unwrap_or_default();
        if is_terminating(pod) {
            return self.wait(format!("pod {name} is terminating"));
        }
        if pods::is_finished(pod) {
            let set = self.seen.set;
            if pods::phase(pod) == "Failed" {
                let (namespace, own) = (set.metadata.namespace.as_deref(), set.metadata.name.as_deref());
                let (namespace, own) = (namespace.unwrap_or_default(), own.unwrap_or_default());
                let message = format!("StatefulSet {namespace}/{own} is recreating failed Pod {name}");
                self.plan.note(Note::warning(set, "RecreatingFailedPod", message));
            }
            self.delete(pod);
            return true;
        }
        if !is_running_and_ready(pod) {
            return self.wait(format!("pod {name} is not ready"));
        }
        let min_ready_s = self.spec.min_ready_seconds.unwrap_or(0);
        if !pods::is_available(pod, min_ready_s, self.now) {
            return self.wait(format!("pod {name} is not available yet"));
        }
        false
    }

    fn create(&mut self, ordinal: i32, start: i32) {
        let (set, spec) = (self.seen.set, self.spec);
        for claim in identity::claims(set, spec, ordinal) {
            let name = claim.metadata.name.clone().unwrap_or_default();
            if !(self.seen.claim_exists)(&name) {
                let what = format!("Claim {name} Pod {}", identity::pod_name(set, ordinal));
                let create = Action::create(&claim).tolerating(&[409]);
                self.plan.actions.push(told(set, create, "create", &what));
            }
        }
        let (template, revision) = if self.is_of_current(ordinal, start) {
            (&self.revisions.current_template, &self.revisions.current)
        } else {
            (&spec.template, &self.revisions.update)
        };
        let pod = identity::pod(set, spec, template, ordinal, revision);
        let what = format!("Pod {}", identity::pod_name(set, ordinal));
        self.plan
            .actions
            .push(told(set, Action::create(&pod), "create", &what));
    }

    /// Whether a new pod of this ordinal is still made from the current revision.
    fn is_of_current(&self, ordinal: i32, start: i32) -> bool {
        let rolling = self
            .spec
            .update_strategy
            .as_ref()
            .and_then(|s| s.rolling_update.as_ref());
        if is_on_delete(self.spec) {
            return false;
        }
        match rolling.and_then(|r| r.partition) {
            Some(partition) => ordinal < start + partition,
            None => {
                let current = self.seen.set.status.as_ref().and_then(|s| s.current_replicas);
                ordinal < start + current.unwrap_or(0)
            }
        }
    }

    /// Ends a superfluous pod; whether lower ones have to wait for it.
    fn condemned(&mut self, pod: &Arc<Pod>, first_unhealthy: Option<&Arc<Pod>>) -> bool {
        let name = pod.metadata.name.clone().unwrap_or_default();
        if is_terminating(pod) {
            return self.wait(format!("pod {name} is terminating"));
        }
        let is_first = first_unhealthy.is_some_and(|first| first.metadata.uid == pod.metadata.uid);
        if self.in_order && !is_running_and_ready(pod) && !is_first {
            return self.wait(format!("pod {name} is not ready and others are unhealthy too"));
        }
        self.delete(pod);
        true
    }

    fn delete(&mut self, pod: &Arc<Pod>) {
        let what = format!("Pod {}", pod.metadata.name.as_deref().unwrap_or_default());
        self.plan
            .actions
            .push(told(self.seen.set, Action::delete(pod.as_ref()), "delete", &what));
    }

    /// Moves the highest pod that is not of the update revision, once those above are healthy.
    fn update<'p>(&mut self, from_top: impl Iterator<Item = &'p Arc<Pod>>) {
        for pod in from_top {
            if revision_of(pod) != Some(&self.revisions.update) && !is_terminating(pod) {
                self.delete(pod);
                return;
            }
            if !is_running_and_ready(pod) || is_terminating(pod) {
                self.wait(format!(
                    "pod {} is not updated yet",
                    pod.metadata.name.as_deref().unwrap_or_default()
                ));
                return;
            }
        }
    }
}
