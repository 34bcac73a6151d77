//! Table tests of the DaemonSet's decisions.

use super::*;
use crate::taints::{NO_EXECUTE, NO_SCHEDULE, taint};
use k8s_openapi::api::apps::v1::{DaemonSetUpdateStrategy, RollingUpdateDaemonSet};
use k8s_openapi::api::core::v1::{NodeSpec, PodCondition, PodSpec, PodStatus, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use keelson_controller::Verb;

fn set(surge: i32) -> DaemonSet {
    let labels = Some([("app".to_owned(), "d".to_owned())].into());
    DaemonSet {
        metadata: ObjectMeta {
            name: Some("d".into()),
            uid: Some("u".into()),
            ..ObjectMeta::default()
        },
        spec: Some(DaemonSetSpec {
            selector: LabelSelector {
                match_labels: labels.clone(),
                match_expressions: None,
            },
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels,
                    ..ObjectMeta::default()
                }),
                spec: Some(PodSpec::default()),
            },
            update_strategy: Some(DaemonSetUpdateStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateDaemonSet {
                    max_surge: Some(IntOrString::Int(surge)),
                    max_unavailable: Some(IntOrString::Int(i32::from(surge == 0))),
                }),
            }),
            ..DaemonSetSpec::default()
        }),
        status: None,
    }
}

fn node(name: &str, taints: &[(&str, &str)]) -> Arc<Node> {
    Arc::new(Node {
        metadata: ObjectMeta {
            name: Some(name.into()),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            taints: Some(taints.iter().map(|(k, e)| taint(k, e, None)).collect()),
            ..NodeSpec::default()
        }),
        status: None,
    })
}

fn pod(name: &str, node: &str, hash: &str, phase: &str, ready: bool) -> Arc<Pod> {
    Arc::new(Pod {
        metadata: ObjectMeta {
            name: Some(name.into()),
            labels: Some([(HASH_LABEL.to_owned(), hash.to_owned())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            node_name: Some(node.into()),
            ..PodSpec::default()
        }),
        status: Some(PodStatus {
            phase: Some(phase.into()),
            conditions: ready.then(|| {
                vec![PodCondition {
                    type_: "Ready".into(),
                    status: "True".into(),
                    ..PodCondition::default()
                }]
            }),
            ..PodStatus::default()
        }),
    })
}

/// The set's current revision, made by the code under test.
fn revision(set: &DaemonSet) -> Arc<ControllerRevision> {
    let plan = decide(set, &[], &[], &[]);
    Arc::new(serde_json::from_value(plan.actions[0].body.clone()).unwrap())
}

fn decide(
    set: &DaemonSet,
    nodes: &[Arc<Node>],
    pods: &[Arc<Pod>],
    revisions: &[Arc<ControllerRevision>],
) -> Plan {
    let seen = Observed {
        set,
        pods,
        nodes,
        revisions,
        name_taken: &|_| false,
    };
    reconcile(&seen, Timestamp::from_second(1000).unwrap())
}

fn told(plan: &Plan) -> Vec<String> {
    plan.actions
        .iter()
        .map(|action| match action.verb {
            Verb::Create => {
                let pod: Pod = serde_json::from_value(action.body.clone()).unwrap();
                format!("+{}", placement::target(&pod))
            }
            _ => format!("-{}", action.target.name),
        })
        .collect()
}

#[test]
fn each_fitting_node_gets_one() {
    let set = set(0);
    let revisions = [revision(&set)];
    let nodes = [
        node("n1", &[]),
        node("cordoned", &[("node.kubernetes.io/unschedulable", NO_SCHEDULE)]),
        node("reserved", &[("own", NO_SCHEDULE)]),
        node("lost", &[("node.kubernetes.io/unreachable", NO_EXECUTE)]),
    ];
    let plan = decide(&set, &nodes, &[], &revisions);
    assert_eq!(told(&plan), ["+n1", "+cordoned", "+lost"]);
    assert_eq!(plan.status.unwrap().body["status"]["desiredNumberScheduled"], 3);
}

#[test]
fn wrong_surplus_and_failed_pods_go() {
    let set = set(0);
    let revision = revision(&set);
    let hash = history::hash(&revision).to_owned();
    let nodes = [
        node("n1", &[]),
        node("n2", &[("own", NO_EXECUTE)]),
        node("n3", &[]),
    ];
    let pods = [
        pod("a", "n1", &hash, "Running", true),
        pod("b", "n1", &hash, "Running", true),
        pod("c", "n2", &hash, "Running", true),
        pod("d", "n3", &hash, "Failed", false),
    ];
    let plan = decide(&set, &nodes, &pods, &[revision]);
    assert_eq!(told(&plan), ["-b", "-c", "-d"]);
    assert_eq!(plan.report.notes[0].reason, "FailedDaemonPod");
}

#[test]
fn a_rolling_update_takes_one_at_a_time() {
    let set = set(0);
    let revision = revision(&set);
    let hash = history::hash(&revision).to_owned();
    let nodes = [node("n1", &[]), node("n2", &[]), node("n3", &[])];
    let all_old = [
        pod("a", "n1", "old", "Running", true),
        pod("b", "n2", "old", "Running", true),
        pod("c", "n3", "old", "Running", true),
    ];
    assert_eq!(
        told(&decide(&set, &nodes, &all_old, std::slice::from_ref(&revision))),
        ["-a"]
    );
    let mut one_starting = all_old.to_vec();
    one_starting[0] = pod("a2", "n1", &hash, "Running", false);
    assert!(
        told(&decide(
            &set,
            &nodes,
            &one_starting,
            std::slice::from_ref(&revision)
        ))
        .is_empty()
    );
    one_starting[1] = pod("b", "n2", "old", "Running", false);
    assert_eq!(
        told(&decide(&set, &nodes, &one_starting, &[revision])),
        ["-b"],
        "a broken old one costs nothing"
    );
}

#[test]
fn a_surge_starts_the_new_before_the_old_ends() {
    let set = set(1);
    let revision = revision(&set);
    let hash = history::hash(&revision).to_owned();
    let nodes = [node("n1", &[]), node("n2", &[])];
    let mut pods = vec![
        pod("a", "n1", "old", "Running", true),
        pod("b", "n2", "old", "Running", true),
    ];
    assert_eq!(
        told(&decide(&set, &nodes, &pods, std::slice::from_ref(&revision))),
        ["+n1"]
    );
    pods.push(pod("a2", "n1", &hash, "Running", false));
    assert!(told(&decide(&set, &nodes, &pods, std::slice::from_ref(&revision))).is_empty());
    pods[2] = pod("a2", "n1", &hash, "Running", true);
    assert_eq!(told(&decide(&set, &nodes, &pods, &[revision])), ["-a"]);
}
