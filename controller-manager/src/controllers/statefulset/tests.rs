//! Table tests of the StatefulSet's walk.

use super::*;
use k8s_openapi::api::core::v1::{PodCondition, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use keelson_controller::Verb;

fn set(replicas: i32, policy: &str) -> StatefulSet {
    let labels = Some([("app".to_owned(), "db".to_owned())].into());
    StatefulSet {
        metadata: ObjectMeta {
            name: Some("db".into()),
            uid: Some("u".into()),
            ..ObjectMeta::default()
        },
        spec: Some(StatefulSetSpec {
            replicas: Some(replicas),
            pod_management_policy: Some(policy.into()),
            service_name: Some("db-svc".into()),
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
            volume_claim_templates: Some(vec![PersistentVolumeClaim {
                metadata: ObjectMeta {
                    name: Some("data".into()),
                    ..ObjectMeta::default()
                },
                ..PersistentVolumeClaim::default()
            }]),
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

fn pod(ordinal: i32, revision: &str, phase: &str, ready: bool) -> Arc<Pod> {
    Arc::new(Pod {
        metadata: ObjectMeta {
            name: Some(format!("db-{ordinal}")),
            uid: Some(format!("u{ordinal}")),
            labels: Some([(HASH_LABEL.to_owned(), revision.to_owned())].into()),
            ..ObjectMeta::default()
        },
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
        spec: None,
    })
}

fn decide(set: &StatefulSet, pods: &[Arc<Pod>], revisions: &[Arc<ControllerRevision>]) -> Plan {
    let seen = Observed {
        set,
        pods,
        revisions,
        name_taken: &|_| false,
        claim_exists: &|_| false,
    };
    reconcile(&seen, Timestamp::from_second(1000).unwrap())
}

fn revision(set: &StatefulSet) -> Arc<ControllerRevision> {
    Arc::new(serde_json::from_value(decide(set, &[], &[]).actions[0].body.clone()).unwrap())
}

fn told(plan: &Plan) -> Vec<String> {
    let sign = |verb| if verb == Verb::Create { '+' } else { '-' };
    plan.actions
        .iter()
        .map(|a| format!("{}{}", sign(a.verb), a.target.name))
        .collect()
}

#[test]
fn ordinals_come_and_go_in_order() {
    let two = set(2, "OrderedReady");
    let revision = revision(&two);
    let name = revision.metadata.name.clone().unwrap();
    let up = |n| pod(n, &name, "Running", true);
    type Row = (i32, &'static str, Vec<Arc<Pod>>, &'static [&'static str]);
    let table: [Row; 8] = [
        (2, "OrderedReady", vec![], &["+data-db-0", "+db-0"]),
        (
            2,
            "Parallel",
            vec![],
            &["+data-db-0", "+db-0", "+data-db-1", "+db-1"],
        ),
        (2, "OrderedReady", vec![pod(0, &name, "Running", false)], &[]),
        (2, "OrderedReady", vec![up(0)], &["+data-db-1", "+db-1"]),
        (
            2,
            "OrderedReady",
            vec![pod(0, &name, "Failed", false), up(1)],
            &["-db-0"],
        ),
        (0, "OrderedReady", vec![up(0), up(1), up(2)], &["-db-2"]),
        (0, "Parallel", vec![up(0), up(1)], &["-db-1", "-db-0"]),
        (2, "OrderedReady", vec![up(0), up(1)], &[]),
    ];
    for (replicas, policy, pods, expected) in table {
        let plan = decide(&set(replicas, policy), &pods, std::slice::from_ref(&revision));
        assert_eq!(told(&plan), expected, "{replicas} {policy} {}", pods.len());
    }
}

#[test]
fn an_update_goes_from_the_top_one_by_one() {
    let set = set(3, "OrderedReady");
    let revision = revision(&set);
    let name = revision.metadata.name.clone().unwrap();
    let old = |n| pod(n, "old", "Running", true);
    let all = std::slice::from_ref(&revision);
    assert_eq!(told(&decide(&set, &[old(0), old(1), old(2)], all)), ["-db-2"]);
    let top = pod(2, &name, "Running", false);
    assert!(told(&decide(&set, &[old(0), old(1), top], all)).is_empty());
    let top = pod(2, &name, "Running", true);
    assert_eq!(told(&decide(&set, &[old(0), old(1), top], all)), ["-db-1"]);
}

#[test]
fn a_pod_has_its_identity() {
    let set = set(1, "OrderedReady");
    let revision = revision(&set);
    let plan = decide(&set, &[], &[revision]);
    let pod: Pod = serde_json::from_value(plan.actions[1].body.clone()).unwrap();
    let spec = pod.spec.unwrap();
    assert_eq!(
        (spec.hostname.as_deref(), spec.subdomain.as_deref()),
        (Some("db-0"), Some("db-svc"))
    );
    let claim = spec.volumes.unwrap()[0].persistent_volume_claim.clone().unwrap();
    assert_eq!(claim.claim_name, "data-db-0");
    assert_eq!(pod.metadata.labels.unwrap()["apps.kubernetes.io/pod-index"], "0");
    let message = plan.actions[1].on_success.as_ref().unwrap().message.clone();
    assert_eq!(message, "create Pod db-0 in StatefulSet db successful");
}
