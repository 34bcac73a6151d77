//! Pod garbage collector: pods nobody else would end.
//!
//! Pods bound to a node that is gone, pods being deleted that never got a node, and the oldest finished pods beyond
//! the threshold. A node counts as gone when it has been missing for the quarantine, and the server says so too.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use keelson_client::{Event, Informer, Key};
use keelson_controller::runtime::WorkError;
use keelson_controller::{Action, Plan, Queue, Verb};
use kube::{Api, Client};
use parking_lot::Mutex;
use serde_json::json;

use crate::context::Context;
use crate::controllers::node_lifecycle::{BY_NODE, by_node};
use crate::pods;

const NAME: &str = "pod-garbage-collector-controller";
/// How long a node must be missing.
const QUARANTINE_S: i64 = 40;

/// Starts the controller.
pub fn start(context: &Context) {
    let nodes = context.informer::<Node>();
    let pods = context.informer::<Pod>();
    pods.add_index(BY_NODE, by_node);
    let queue: Queue<Key> = Queue::default();
    let changed = queue.clone();
    pods.on(move |event| {
        if !matches!(event, Event::Deleted(_)) {
            changed.add(Key::of(event.object().as_ref()));
        }
    });
    let (lost, all) = (queue.clone(), pods.clone());
    nodes.on(move |event| {
        if let Event::Deleted(node) = event {
            let name = node.metadata.name.as_deref().unwrap_or_default();
            all.by_index(BY_NODE, name)
                .iter()
                .for_each(|pod| lost.add(Key::of(pod.as_ref())));
        }
    });
    let collector = Arc::new(Collector {
        nodes,
        pods,
        client: context.client.clone(),
        missing: Mutex::default(),
        threshold: usize::try_from(context.config.terminated_pod_gc_threshold).unwrap_or(0),
    });
    let executor = context.executor(NAME);
    context.drive(NAME, queue, 4, move |key: Key| {
        let (collector, executor) = (collector.clone(), executor.clone());
        async move {
            let plan = collector.decide(&key, Timestamp::now()).await?;
            let again = plan.retry_after;
            executor.execute(plan).await.map_err(|failure| WorkError {
                error: failure.message,
                expected: failure.code == 409,
            })?;
            Ok(again)
        }
    });
}

struct Collector {
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    client: Client,
    /// Since when each named node is missed; forgotten when its last pod is looked at.
    missing: Mutex<HashMap<String, Timestamp>>,
    threshold: usize,
}

impl Collector {
    async fn decide(&self, key: &Key, now: Timestamp) -> Result<Plan, kube::Error> {
        let Some(pod) = self.pods.get_key(key) else {
            return Ok(Plan::nothing());
        };
        let node = pods::node_name(&pod);
        let missing_s = if node.is_empty() || self.nodes.get("", node).is_some() {
            self.missing.lock().remove(node);
            None
        } else {
            let since = *self.missing.lock().entry(node.to_owned()).or_insert(now);
            Some(now.as_second() - since.as_second())
        };
        if missing_s.is_some_and(|s| s >= QUARANTINE_S) {
            let api: Api<Node> = Api::all(self.client.clone());
            if api.get_opt(node).await?.is_some() {
                return Ok(Plan::nothing());
            }
        }
        let oldest_surplus = pods::is_finished(&pod) && self.is_surplus(&pod);
        Ok(reconcile(&pod, missing_s, oldest_surplus))
    }

    /// Whether it is among the oldest finished pods beyond the threshold.
    fn is_surplus(&self, pod: &Pod) -> bool {
        if self.threshold == 0 || self.pods.len() <= self.threshold {
            return false;
        }
        let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|t| t.0);
        let mut finished: Vec<_> = self
            .pods
            .list()
            .into_iter()
            .filter(|p| pods::is_finished(p))
            .collect();
        let surplus = finished.len().saturating_sub(self.threshold);
        finished.sort_by_key(|p| (created(p), p.metadata.name.clone()));
        finished
            .iter()
            .take(surplus)
            .any(|p| p.metadata.uid == pod.metadata.uid)
    }
}

fn reconcile(pod: &Pod, node_missing_s: Option<i64>, surplus: bool) -> Plan {
    let leaving = pod.metadata.deletion_timestamp.is_some();
    let unscheduled = pods::node_name(pod).is_empty();
    match node_missing_s {
        Some(missing_s) if missing_s < QUARANTINE_S => {
            let mut plan = Plan::waiting("the pod's node is missing");
            plan.again_after(Duration::from_secs((QUARANTINE_S - missing_s).unsigned_abs()));
            return plan;
        }
        Some(_) => return Plan::of(ended(pod, "PodGC: node no longer exists")),
        None => {}
    }
    if leaving && unscheduled {
        return Plan::of(ended(pod, ""));
    }
    if surplus && !leaving {
        return Plan::of(vec![removed(pod)]);
    }
    Plan::nothing()
}

fn removed(pod: &Pod) -> Action {
    Action::delete(pod).option("gracePeriodSeconds", json!(0))
}

/// Marks a pod as failed, with the reason where it was disrupted, and removes it at once.
fn ended(pod: &Pod, disruption: &str) -> Vec<Action> {
    let mut actions = Vec::new();
    if !pods::is_finished(pod) {
        let mut status = json!({ "phase": "Failed" });
        if !disruption.is_empty() {
            status["conditions"] = json!([{
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "DeletionByPodGC",
                "message": disruption,
            }]);
        }
        let patch = Action::patch(Verb::StrategicPatch, pod, json!({ "status": status }));
        actions.push(patch.to_subresource("status").tolerating(&[404]));
    }
    actions.push(removed(pod));
    actions
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{PodSpec, PodStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn pod(node: &str, phase: &str, leaving: bool) -> Pod {
        let mut pod = Pod {
            spec: Some(PodSpec {
                node_name: Some(node.into()),
                ..PodSpec::default()
            }),
            status: Some(PodStatus {
                phase: Some(phase.into()),
                ..PodStatus::default()
            }),
            ..Pod::default()
        };
        pod.metadata.deletion_timestamp = leaving.then_some(Time(Timestamp::UNIX_EPOCH));
        pod
    }

    #[test]
    fn what_is_ended() {
        let table = [
            (pod("n", "Running", false), None, false, vec![]),
            (pod("n", "Running", false), Some(10), false, vec![]),
            (
                pod("n", "Running", false),
                Some(40),
                false,
                vec![Verb::StrategicPatch, Verb::Delete],
            ),
            (pod("n", "Failed", false), Some(40), false, vec![Verb::Delete]),
            (
                pod("", "Pending", true),
                None,
                false,
                vec![Verb::StrategicPatch, Verb::Delete],
            ),
            (pod("", "Pending", false), None, false, vec![]),
            (pod("n", "Succeeded", false), None, true, vec![Verb::Delete]),
        ];
        for (pod, missing_s, surplus, expected) in table {
            let verbs: Vec<Verb> = reconcile(&pod, missing_s, surplus)
                .actions
                .iter()
                .map(|a| a.verb)
                .collect();
            assert_eq!(verbs, expected, "{pod:?}");
        }
    }
}
