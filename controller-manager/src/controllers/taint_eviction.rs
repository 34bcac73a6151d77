//! Taint eviction controller: deletes pods from nodes with NoExecute taints they do not, or no longer, tolerate.
//!
//! A toleration with seconds counts from when the taint was added (or first seen, where nobody wrote that down) or
//! the pod came, whichever is later.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, PodCondition, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use keelson_client::{Event, Informer, Key};
use keelson_controller::{Action, Controller, Failure, Note, Plan, Queue};
use parking_lot::Mutex;

use crate::context::Context;
use crate::controllers::node_lifecycle::{BY_NODE, by_node};
use crate::pods;
use crate::taints::{self, NO_EXECUTE};

const NAME: &str = "taint-eviction-controller";

/// Starts the controller.
pub fn start(context: &Context) {
    let nodes = context.informer::<Node>();
    let pods = context.informer::<Pod>();
    pods.add_index(BY_NODE, by_node);
    let queue = Queue::default();
    let first_seen: Arc<Mutex<HashMap<(String, String), Timestamp>>> = Arc::default();
    let changed = queue.clone();
    pods.on(move |event| {
        let news = match event {
            Event::Added(_) => true,
            Event::Modified { old, new } => {
                let tolerations = |pod: &Pod| pod.spec.as_ref().and_then(|s| s.tolerations.clone());
                pods::node_name(old) != pods::node_name(new) || tolerations(old) != tolerations(new)
            }
            Event::Deleted(_) => false,
        };
        if news && !pods::node_name(event.object()).is_empty() {
            changed.add(Key::of(event.object().as_ref()));
        }
    });
    let (on_node, all) = (queue.clone(), pods.clone());
    let seen = first_seen.clone();
    nodes.on(move |event| {
        let node = event.object();
        let name = node.metadata.name.as_deref().unwrap_or_default();
        note_first_seen(&mut seen.lock(), event, name);
        let before = match event {
            Event::Modified { old, .. } => no_execute(old),
            _ => Vec::new(),
        };
        if !matches!(event, Event::Deleted(_)) && no_execute(node) != before {
            all.by_index(BY_NODE, name)
                .iter()
                .for_each(|pod| on_node.add(Key::of(pod.as_ref())));
        }
    });
    let controller = Evictions {
        nodes,
        pods,
        first_seen,
    };
    context.run(Arc::new(controller), queue, NAME, 8);
}

fn note_first_seen(seen: &mut HashMap<(String, String), Timestamp>, event: &Event<Node>, name: &str) {
    let node = event.object();
    let keys: Vec<String> = match event {
        Event::Deleted(_) => Vec::new(),
        _ => no_execute(node).into_iter().map(|t| t.key).collect(),
    };
    seen.retain(|(node, key), _| node != name || keys.contains(key));
    for key in keys {
        seen.entry((name.to_owned(), key)).or_insert_with(Timestamp::now);
    }
}

fn no_execute(node: &Node) -> Vec<Taint> {
    taints::of_node(node)
        .iter()
        .filter(|t| t.effect == NO_EXECUTE)
        .cloned()
        .collect()
}

struct Evictions {
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    /// When each taint (node, key) was first seen here; one entry per NoExecute taint that exists.
    first_seen: Arc<Mutex<HashMap<(String, String), Timestamp>>>,
}

impl Controller for Evictions {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, key: &Key, now: Timestamp, _: Option<&Failure>) -> Plan {
        let Some(pod) = self.pods.get_key(key) else {
            return Plan::nothing();
        };
        let node_name = pods::node_name(&pod).to_owned();
        let Some(node) = self.nodes.get("", &node_name) else {
            return Plan::nothing();
        };
        let first_seen = self.first_seen.lock();
        let since = |taint: &Taint| {
            let seen = || first_seen.get(&(node_name.clone(), taint.key.clone())).copied();
            taint
                .time_added
                .as_ref()
                .map(|t| t.0)
                .or_else(seen)
                .unwrap_or(now)
        };
        let taints: Vec<(Taint, Timestamp)> = no_execute(&node)
            .into_iter()
            .map(|taint| {
                let since = since(&taint);
                (taint, since)
            })
            .collect();
        reconcile(&pod, &taints, now)
    }
}

/// Taints with the time from which they count.
fn reconcile(pod: &Pod, taints: &[(Taint, Timestamp)], now: Timestamp) -> Plan {
    if pod.metadata.deletion_timestamp.is_some() || pods::is_finished(pod) {
        return Plan::nothing();
    }
    let tolerations = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.tolerations.as_deref())
        .unwrap_or_default();
    let came = pod
        .status
        .as_ref()
        .and_then(|s| s.start_time.as_ref())
        .or(pod.metadata.creation_timestamp.as_ref());
    let due = taints
        .iter()
        .filter_map(|(taint, since)| {
            let from = came.map_or(*since, |came| came.0.max(*since)).as_second();
            allowed_s(tolerations, taint).map(|seconds| from.saturating_add(seconds))
        })
        .min();
    match due {
        None => Plan::nothing(),
        Some(due) if due > now.as_second() => {
            let mut plan = Plan::waiting("the pod still tolerates the node's taints");
            plan.again_after(Duration::from_secs((due - now.as_second()).unsigned_abs()));
            plan
        }
        Some(_) => evict(pod, now),
    }
}

/// Seconds a taint is borne; `None` is for ever.
fn allowed_s(tolerations: &[Toleration], taint: &Taint) -> Option<i64> {
    let mut covering = tolerations
        .iter()
        .filter(|t| taints::tolerates(t, taint))
        .peekable();
    if covering.peek().is_none() {
        return Some(0);
    }
    covering
        .filter_map(|t| t.toleration_seconds)
        .map(|seconds| seconds.max(0))
        .min()
}

fn evict(pod: &Pod, now: Timestamp) -> Plan {
    let key = Key::of(pod);
    let mut marked = pod.clone();
    let conditions = marked
        .status
        .get_or_insert_default()
        .conditions
        .get_or_insert_default();
    conditions.retain(|c| c.type_ != "DisruptionTarget");
    conditions.push(PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some("DeletionByTaintManager".to_owned()),
        message: Some("Taint manager: deleting due to NoExecute taint".to_owned()),
        last_transition_time: Some(Time(now)),
        ..PodCondition::default()
    });
    let already = pods::condition(pod, "DisruptionTarget").is_some_and(|c| c.status == "True");
    let mut plan = Plan::nothing();
    if !already {
        plan.note(Note::normal(
            pod,
            "TaintManagerEviction",
            format!("Marking for deletion Pod {key}"),
        ));
        plan.actions
            .push(Action::update_status(&marked).tolerating(&[404]));
    }
    plan.actions.push(Action::delete(pod));
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PodSpec;
    use keelson_controller::Verb;

    #[test]
    fn tolerations_buy_time() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let toleration = |key: &str, seconds: Option<i64>| Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            toleration_seconds: seconds,
            ..Toleration::default()
        };
        let taint = |key: &str| (taints::taint(key, NO_EXECUTE, None), at(100));
        type Row = (Vec<Toleration>, Vec<(Taint, Timestamp)>, Option<i64>, bool);
        let table: [Row; 6] = [
            (vec![], vec![taint("a")], None, true),
            (vec![], vec![], None, false),
            (vec![toleration("a", None)], vec![taint("a")], None, false),
            (
                vec![toleration("a", Some(300))],
                vec![taint("a")],
                Some(200),
                false,
            ),
            (vec![toleration("a", Some(100))], vec![taint("a")], None, true),
            (
                vec![toleration("a", Some(300))],
                vec![taint("a"), taint("b")],
                None,
                true,
            ),
        ];
        for (tolerations, taints, wait_s, evicted) in table {
            let pod = Pod {
                spec: Some(PodSpec {
                    tolerations: Some(tolerations.clone()),
                    ..PodSpec::default()
                }),
                ..Pod::default()
            };
            let plan = reconcile(&pod, &taints, at(200));
            assert_eq!(
                plan.retry_after.map(|d| d.as_secs() as i64),
                wait_s,
                "{tolerations:?}"
            );
            assert_eq!(
                plan.actions.iter().any(|a| a.verb == Verb::Delete),
                evicted,
                "{tolerations:?}"
            );
        }
    }
}
