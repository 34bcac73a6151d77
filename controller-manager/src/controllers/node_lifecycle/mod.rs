//! Node lifecycle controller: notices silent nodes and taints nodes by their conditions.
//!
//! A node speaks by renewing its Lease (kube-node-lease) or posting its status. One silent for the grace period gets
//! its conditions set to Unknown. From conditions follow NoSchedule taints at once, and NoExecute taints (not-ready,
//! unreachable) at a limited rate per zone; pods are then evicted by `taint_eviction`. While every node is unhealthy
//! nobody is tainted NoExecute: the fault is more likely here.
//!
//! Times are observed with this process's clock, never taken from the node's. Nothing is polled: each plan says when
//! a node would be silent for too long, and is remade then. `health` holds conditions, `zones` the eviction rate.

mod health;
mod zones;

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod};
use keelson_client::{Event, EventType, Informer, Key, Recorder};
use keelson_controller::{Action, Controller, Failure, Note, Plan, Queue};
use kube::Api;
use kube::runtime::watcher;
use parking_lot::Mutex;

use self::health::Silence;
use self::zones::{Rates, Zones};
use crate::context::Context;
use crate::taints::{self, NO_EXECUTE, NO_SCHEDULE};
use crate::{pods, triggers};

const NAME: &str = "node-lifecycle-controller";
/// Source of its events.
pub const SOURCE: &str = "node-controller";
/// Index of pods by node.
pub const BY_NODE: &str = "node";

/// Index function for `BY_NODE`.
pub fn by_node(pod: &Pod) -> Vec<String> {
    let node = pods::node_name(pod);
    if node.is_empty() {
        Vec::new()
    } else {
        vec![node.to_owned()]
    }
}

/// Starts the controller.
pub fn start(context: &Context) {
    let nodes = context.informer::<Node>();
    let pods = context.informer::<Pod>();
    pods.add_index(BY_NODE, by_node);
    let leases: Api<Lease> = Api::namespaced(context.watch_client(), "kube-node-lease");
    let leases = context.filtered(leases, watcher::Config::default());
    let heard: Arc<Mutex<HashMap<String, Heard>>> = Arc::default();
    let queue = Queue::default();
    triggers::on_self(&nodes, &queue);
    follow_nodes(&nodes, &heard, context.recorder.for_source(SOURCE));
    let on_lease = heard.clone();
    leases.on(move |event| {
        let name = event.object().metadata.name.clone().unwrap_or_default();
        if let Event::Added(_) | Event::Modified { .. } = event
            && let Some(heard) = on_lease.lock().get_mut(&name)
        {
            heard.at = Timestamp::now();
        }
    });
    let config = &context.config;
    let controller = Nodes {
        nodes,
        pods,
        heard,
        silence: Silence {
            grace_s: config.node_monitor_grace_period.as_secs() as i64,
            startup_grace_s: config.node_startup_grace_period.as_secs() as i64,
        },
        zones: Mutex::new(Zones::default()),
        rates: Rates {
            normal: config.node_eviction_rate,
            secondary: config.secondary_node_eviction_rate,
            unhealthy_share: config.unhealthy_zone_threshold,
            large: config.large_cluster_size_threshold,
        },
    };
    context.run(Arc::new(controller), queue, SOURCE, 1);
}

/// What was heard of a node, by our clock.
#[derive(Clone, Copy, Debug)]
struct Heard {
    since: Timestamp,
    at: Timestamp,
}

/// Keeps `heard` current, and tells of nodes that come and go.
fn follow_nodes(nodes: &Informer<Node>, heard: &Arc<Mutex<HashMap<String, Heard>>>, recorder: Recorder) {
    let heard = heard.clone();
    nodes.on(move |event| {
        let node = event.object();
        let name = node.metadata.name.clone().unwrap_or_default();
        let now = Timestamp::now();
        match event {
            Event::Added(_) => {
                heard.lock().insert(name.clone(), Heard { since: now, at: now });
                let message = format!("Node {name} event: Registered Node {name} in Controller");
                recorder.event_on(reference(node), EventType::Normal, "RegisteredNode", message);
            }
            Event::Modified { old, new } if health::posted(old, new) => {
                if let Some(heard) = heard.lock().get_mut(&name) {
                    heard.at = now;
                }
            }
            Event::Modified { .. } => {}
            Event::Deleted(_) => {
                heard.lock().remove(&name);
                let message = format!("Node {name} event: Removing Node {name} from Controller");
                recorder.event_on(reference(node), EventType::Normal, "RemovingNode", message);
            }
        }
    });
}

fn reference(node: &Node) -> ObjectReference {
    ObjectReference {
        resource_version: None,
        ..keelson_client::events::reference(node)
    }
}

struct Nodes {
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    /// Guards what was heard of each node.
    heard: Arc<Mutex<HashMap<String, Heard>>>,
    silence: Silence,
    /// Guards the eviction rate's memory.
    zones: Mutex<Zones>,
    rates: Rates,
}

impl Controller for Nodes {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, key: &Key, now: Timestamp, _: Option<&Failure>) -> Plan {
        let Some(node) = self.nodes.get_key(key) else {
            return Plan::nothing();
        };
        let Some(heard) = self.heard.lock().get(&key.name).copied() else {
            return Plan::nothing();
        };
        let all = self.nodes.list();
        let mut zones = self.zones.lock();
        let seen = Observed {
            node: &node,
            pods: &self.pods.by_index(BY_NODE, &key.name),
            heard,
            pause_s: zones::pause_s(&node, &all, &self.rates, &zones, now),
        };
        let plan = reconcile(&seen, &self.silence, now);
        if plan.taints_no_execute {
            zones.tainted(&node, now);
        }
        plan.plan
    }
}

/// What a reconcile looks at.
struct Observed<'a> {
    node: &'a Node,
    /// Pods bound to it.
    pods: &'a [Arc<Pod>],
    heard: Heard,
    /// Seconds until a NoExecute taint may be added; `None` while no node may be tainted.
    pause_s: Option<i64>,
}

struct Decided {
    plan: Plan,
    taints_no_execute: bool,
}

fn reconcile(seen: &Observed, silence: &Silence, now: Timestamp) -> Decided {
    let node = seen.node;
    let mut plan = Plan::nothing();
    let silent_in_s = silence.left_s(node, seen.heard.since, seen.heard.at, now);
    if silent_in_s <= 0 {
        if let Some(updated) = health::silenced(node, now) {
            if health::ready(node) == "True" {
                plan.note(not_ready(node));
            }
            plan.actions.push(Action::update_status(&updated));
            return Decided {
                plan,
                taints_no_execute: false,
            };
        }
    } else {
        plan.again_after(std::time::Duration::from_secs(silent_in_s.unsigned_abs()));
    }
    let (taints, added, wait_s) = wanted_taints(seen, now);
    if let Some(wait_s) = wait_s {
        plan.again_after(std::time::Duration::from_secs(wait_s.max(1).unsigned_abs()));
    }
    if taints.as_slice() != taints::of_node(node) {
        let mut updated = node.clone();
        updated.spec.get_or_insert_default().taints = (!taints.is_empty()).then_some(taints);
        plan.actions.push(Action::update(&updated));
    } else if let Some(updated) = health::labelled(node) {
        plan.actions.push(Action::update(&updated));
    }
    if health::ready(node) != "True" {
        plan.actions
            .extend(seen.pods.iter().filter_map(|pod| pod_not_ready(pod, now)));
    }
    Decided {
        plan,
        taints_no_execute: added,
    }
}

fn not_ready(node: &Node) -> Note {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let mut note = Note::normal(
        node,
        "NodeNotReady",
        format!("Node {name} status is now: NodeNotReady"),
    );
    note.object = reference(node);
    note
}

/// The node's taints as its conditions ask; whether a NoExecute one is new; how long until one may be.
fn wanted_taints(
    seen: &Observed,
    now: Timestamp,
) -> (Vec<k8s_openapi::api::core::v1::Taint>, bool, Option<i64>) {
    let node = seen.node;
    let before = taints::of_node(node);
    let by_conditions = health::no_schedule(node);
    let ours = |t: &k8s_openapi::api::core::v1::Taint| health::is_managed(&t.key) && t.effect == NO_SCHEDULE;
    let mut after: Vec<_> = before
        .iter()
        .filter(|t| !ours(t) || by_conditions.contains(&t.key.as_str()))
        .cloned()
        .collect();
    for key in by_conditions {
        if !after.iter().any(|t| t.key == key && t.effect == NO_SCHEDULE) {
            after.push(taints::taint(key, NO_SCHEDULE, Some(now)));
        }
    }
    let wanted = health::no_execute(node);
    let lifecycle = |key: &str| matches!(key, taints::NOT_READY | taints::UNREACHABLE);
    let had_other = after.iter().any(|t| t.effect == NO_EXECUTE && lifecycle(&t.key));
    after.retain(|t| {
        t.effect != NO_EXECUTE
            || !lifecycle(&t.key)
            || (Some(t.key.as_str()) == wanted && seen.pause_s.is_some())
    });
    let Some(key) = wanted.filter(|key| !after.iter().any(|t| t.effect == NO_EXECUTE && t.key == *key))
    else {
        return (after, false, None);
    };
    match seen.pause_s {
        // Swapping one for the other is no new eviction.
        Some(_) if had_other => after.push(taints::taint(key, NO_EXECUTE, Some(now))),
        Some(wait_s) if wait_s <= 0 => {
            after.push(taints::taint(key, NO_EXECUTE, Some(now)));
            return (after, true, None);
        }
        wait_s => return (after, false, wait_s),
    }
    (after, false, None)
}

/// Pods of a node that is not ready are not ready either, so that services drop them.
fn pod_not_ready(pod: &Pod, now: Timestamp) -> Option<Action> {
    if !pods::is_ready(pod) {
        return None;
    }
    let mut updated = pod.clone();
    let conditions = updated.status.as_mut()?.conditions.as_mut()?;
    let ready = conditions.iter_mut().find(|c| c.type_ == "Ready")?;
    ready.status = "False".to_owned();
    ready.last_transition_time = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
    let note = Note::warning(pod, "NodeNotReady", "Node is not ready");
    Some(
        Action::update_status(&updated)
            .on_success(note)
            .tolerating(&[404, 409]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{NodeCondition, NodeSpec, NodeStatus, PodCondition, PodStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    const SILENCE: Silence = Silence {
        grace_s: 50,
        startup_grace_s: 60,
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn node(ready: &str, taints: &[(&str, &str)]) -> Node {
        Node {
            metadata: ObjectMeta {
                name: Some("n1".into()),
                ..ObjectMeta::default()
            },
            spec: Some(NodeSpec {
                taints: Some(
                    taints
                        .iter()
                        .map(|(key, effect)| taints::taint(key, effect, None))
                        .collect(),
                ),
                ..NodeSpec::default()
            }),
            status: Some(NodeStatus {
                conditions: Some(vec![NodeCondition {
                    type_: "Ready".into(),
                    status: ready.into(),
                    ..NodeCondition::default()
                }]),
                ..NodeStatus::default()
            }),
        }
    }

    fn decide(node: &Node, heard_s: i64, now_s: i64, pause_s: Option<i64>) -> Plan {
        let seen = Observed {
            node,
            pods: &[],
            heard: Heard {
                since: at(0),
                at: at(heard_s),
            },
            pause_s,
        };
        reconcile(&seen, &SILENCE, at(now_s)).plan
    }

    fn taints_after(plan: &Plan) -> Vec<String> {
        let Some(update) = plan.actions.iter().find(|a| a.target.subresource.is_none()) else {
            return vec!["unchanged".into()];
        };
        let taints = update.body["spec"]["taints"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        taints
            .iter()
            .map(|t| format!("{}:{}", t["key"], t["effect"]).replace('"', ""))
            .collect()
    }

    #[test]
    fn silence_becomes_unknown() {
        let healthy = node("True", &[]);
        let plan = decide(&healthy, 100, 120, Some(0));
        assert!(plan.actions.is_empty());
        assert_eq!(plan.retry_after.unwrap().as_secs(), 30);
        let plan = decide(&healthy, 100, 150, Some(0));
        assert_eq!(plan.report.notes[0].reason, "NodeNotReady");
        let conditions = plan.actions[0].body["status"]["conditions"].as_array().unwrap();
        let ready = conditions.iter().find(|c| c["type"] == "Ready").unwrap();
        assert_eq!(
            (&ready["status"], &ready["reason"]),
            (&"Unknown".into(), &"NodeStatusUnknown".into())
        );
        assert_eq!(conditions.len(), 4);
    }

    #[test]
    fn taints_follow_conditions() {
        let (unreachable, not_ready) = (taints::UNREACHABLE, taints::NOT_READY);
        let on = |key: &str, effect: &str| format!("{key}:{effect}");
        let table = [
            (node("True", &[]), Some(0), vec!["unchanged".to_owned()]),
            (
                node("Unknown", &[]),
                Some(0),
                vec![on(unreachable, NO_SCHEDULE), on(unreachable, NO_EXECUTE)],
            ),
            (node("Unknown", &[]), Some(5), vec![on(unreachable, NO_SCHEDULE)]),
            (node("Unknown", &[]), None, vec![on(unreachable, NO_SCHEDULE)]),
            (
                node(
                    "False",
                    &[
                        (unreachable, NO_SCHEDULE),
                        (unreachable, NO_EXECUTE),
                        ("own", NO_EXECUTE),
                    ],
                ),
                Some(5),
                vec![
                    on("own", NO_EXECUTE),
                    on(not_ready, NO_SCHEDULE),
                    on(not_ready, NO_EXECUTE),
                ],
            ),
            (
                node("True", &[(unreachable, NO_EXECUTE), (unreachable, NO_SCHEDULE)]),
                Some(0),
                vec![],
            ),
        ];
        for (node, pause_s, expected) in table {
            assert_eq!(
                taints_after(&decide(&node, 100, 101, pause_s)),
                expected,
                "{node:?}"
            );
        }
    }

    #[test]
    fn pods_of_a_lost_node_are_unready() {
        let pod = Arc::new(Pod {
            status: Some(PodStatus {
                conditions: Some(vec![PodCondition {
                    type_: "Ready".into(),
                    status: "True".into(),
                    ..PodCondition::default()
                }]),
                ..PodStatus::default()
            }),
            ..Pod::default()
        });
        let unready = pod_not_ready(&pod, at(1)).unwrap();
        assert_eq!(unready.body["status"]["conditions"][0]["status"], "False");
    }
}
