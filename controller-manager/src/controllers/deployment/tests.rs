//! Table tests of the deployment's pure steps.

use super::*;
use k8s_openapi::api::apps::v1::{
    DeploymentStrategy, ReplicaSetSpec, ReplicaSetStatus, RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use keelson_controller::Verb;
use serde_json::Value;

fn template(image: &str) -> PodTemplateSpec {
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some([("app".to_owned(), "web".to_owned())].into()),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            containers: vec![Container {
                name: "c".into(),
                image: Some(image.into()),
                ..Container::default()
            }],
            ..PodSpec::default()
        }),
    }
}

fn deployment(replicas: i32, image: &str, strategy: &str) -> Deployment {
    Deployment {
        metadata: ObjectMeta {
            name: Some("web".into()),
            namespace: Some("ns".into()),
            uid: Some("d".into()),
            generation: Some(1),
            ..ObjectMeta::default()
        },
        spec: Some(DeploymentSpec {
            replicas: Some(replicas),
            template: template(image),
            selector: LabelSelector {
                match_labels: Some([("app".to_owned(), "web".to_owned())].into()),
                match_expressions: None,
            },
            progress_deadline_seconds: Some(600),
            revision_history_limit: Some(10),
            strategy: Some(DeploymentStrategy {
                type_: Some(strategy.into()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::String("25%".into())),
                    max_unavailable: Some(IntOrString::String("25%".into())),
                }),
            }),
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn set(name: &str, image: &str, size: i32, available: i32, desired: i32, max: i32) -> Arc<ReplicaSet> {
    let mut template = template(image);
    template
        .metadata
        .get_or_insert_default()
        .labels
        .get_or_insert_default()
        .insert(find::HASH_LABEL.into(), name.into());
    Arc::new(ReplicaSet {
        metadata: ObjectMeta {
            name: Some(name.into()),
            creation_timestamp: Some(Time(Timestamp::UNIX_EPOCH)),
            annotations: Some(
                [
                    (find::DESIRED.to_owned(), desired.to_string()),
                    (find::MAX.to_owned(), max.to_string()),
                    (
                        find::REVISION.to_owned(),
                        if image == "new" { "2" } else { "1" }.to_owned(),
                    ),
                ]
                .into(),
            ),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(size),
            template: Some(template),
            ..ReplicaSetSpec::default()
        }),
        status: Some(ReplicaSetStatus {
            replicas: size,
            ready_replicas: Some(available),
            available_replicas: Some(available),
            ..ReplicaSetStatus::default()
        }),
    })
}

fn decide(deployment: &Deployment, sets: &[Arc<ReplicaSet>], old_pods: bool) -> Plan {
    let seen = Observed {
        deployment,
        sets,
        hash: "hash".into(),
        name_taken: sets.iter().any(|s| name_of(s) == "web-hash"),
        old_pods: &|_| old_pods,
        last_failure: None,
    };
    reconcile(&seen, Timestamp::from_second(1000).unwrap())
}

/// "verb name size" of each action on a ReplicaSet.
fn told(plan: &Plan) -> Vec<String> {
    let on_sets = plan.actions.iter().filter(|a| a.target.kind == "ReplicaSet");
    on_sets
        .map(|a| format!("{:?} {} {}", a.verb, a.target.name, a.body["spec"]["replicas"]))
        .collect()
}

fn recorded(mut deployment: Deployment) -> Deployment {
    deployment.metadata.annotations = Some([(find::REVISION.to_owned(), "2".to_owned())].into());
    let progressing = status::condition(
        status::PROGRESSING,
        "True",
        "ReplicaSetUpdated",
        String::new(),
        Timestamp::from_second(990).unwrap(),
    );
    status::set(deployment.status.get_or_insert_default(), progressing);
    deployment
}

#[test]
fn the_first_set_is_made_whole() {
    let plan = decide(&deployment(3, "new", "RollingUpdate"), &[], false);
    assert_eq!(told(&plan), ["Create web-hash 3"]);
    let create = &plan.actions[0];
    assert_eq!(create.body["metadata"]["annotations"][find::REVISION], "1");
    assert_eq!(
        create.body["spec"]["selector"]["matchLabels"][find::HASH_LABEL],
        "hash"
    );
    assert_eq!(
        create.on_success.as_ref().unwrap().message,
        "Scaled up replica set web-hash from 0 to 3"
    );
    let status = &plan.actions[1];
    assert_eq!(
        (status.verb, status.target.subresource),
        (Verb::Update, Some("status"))
    );
    assert_eq!(
        status.body["status"]["conditions"][0]["reason"],
        "NewReplicaSetCreated"
    );
}

#[test]
fn a_rolling_update_moves_within_its_fences() {
    let wanted = recorded(deployment(10, "new", "RollingUpdate"));
    // Surge 3 (25 % up), unavailable 2 (25 % down).
    let table: [(i32, i32, i32, i32, &[&str]); 6] = [
        (10, 10, 0, 0, &["Update new 3"]),
        (10, 10, 3, 0, &["Update old 8"]),
        (8, 8, 3, 0, &["Update new 5"]),
        (8, 8, 5, 0, &[]),
        (8, 8, 5, 5, &["Update old 3"]),
        (0, 0, 10, 10, &[]),
    ];
    for (old, old_available, new, new_available, expected) in table {
        let sets = [
            set("old", "old", old, old_available, 10, 13),
            set("new", "new", new, new_available, 10, 13),
        ];
        assert_eq!(
            told(&decide(&wanted, &sets, false)),
            expected,
            "old {old} new {new}/{new_available}"
        );
    }
}

#[test]
fn unhealthy_old_pods_go_first() {
    let wanted = recorded(deployment(10, "new", "RollingUpdate"));
    let sets = [set("old", "old", 8, 3, 10, 13), set("new", "new", 5, 5, 10, 13)];
    assert_eq!(told(&decide(&wanted, &sets, false)), ["Update old 3"]);
}

#[test]
fn a_recreate_waits_for_the_last_pod() {
    let wanted = recorded(deployment(2, "new", "Recreate"));
    let running = [set("old", "old", 2, 2, 2, 2)];
    assert_eq!(told(&decide(&wanted, &running, true)), ["Update old 0"]);
    let ended = [set("old", "old", 0, 0, 2, 2)];
    assert!(told(&decide(&wanted, &ended, true)).is_empty());
    assert_eq!(told(&decide(&wanted, &ended, false)), ["Create web-hash 2"]);
}

#[test]
fn scaling_keeps_proportions() {
    let wanted = recorded(deployment(20, "new", "RollingUpdate"));
    // 10 -> 20 in the middle of a rollout, surge 25 % of 20 = 5: 25 allowed, 13 there.
    let sets = [set("old", "old", 8, 8, 10, 13), set("new", "new", 5, 5, 10, 13)];
    assert_eq!(
        told(&decide(&wanted, &sets, false)),
        ["Update old 15", "Update new 10"]
    );
}

#[test]
fn a_paused_deployment_makes_no_set() {
    let mut wanted = recorded(deployment(3, "new", "RollingUpdate"));
    wanted.spec.as_mut().unwrap().paused = Some(true);
    let plan = decide(&wanted, &[set("old", "old", 3, 3, 3, 4)], false);
    assert_eq!(
        plan.actions[0].body["status"]["conditions"][0]["reason"],
        "DeploymentPaused"
    );
    let wanted = status::paused_condition(&wanted, Timestamp::UNIX_EPOCH).unwrap();
    assert!(told(&decide(&wanted, &[set("old", "old", 3, 3, 3, 4)], false)).is_empty());
}

#[test]
fn a_name_that_is_taken_counts_as_a_collision() {
    let plan = decide(
        &deployment(1, "new", "RollingUpdate"),
        &[set("web-hash", "other", 1, 1, 1, 2)],
        false,
    );
    assert_eq!(plan.actions[0].body["status"]["collisionCount"], 1);
}

#[test]
fn history_is_cut() {
    let mut wanted = recorded(deployment(1, "new", "RollingUpdate"));
    wanted.spec.as_mut().unwrap().revision_history_limit = Some(1);
    let sets = [
        set("a", "a", 0, 0, 1, 2),
        set("b", "b", 0, 0, 1, 2),
        set("new", "new", 1, 1, 1, 2),
    ];
    let sets_told = find::told_apart(&wanted, &sets);
    wanted.status = Some(serde_json::from_value(status_of(&wanted, &sets_told)).unwrap());
    let plan = decide(&wanted, &sets, false);
    let deleted: Vec<_> = plan
        .actions
        .iter()
        .map(|a| (a.verb, a.target.name.as_str()))
        .collect();
    assert_eq!(deleted, [(Verb::Delete, "a")]);
}

fn status_of(deployment: &Deployment, sets: &Sets) -> Value {
    let plan = status::rolled(deployment, sets, Timestamp::from_second(1000).unwrap());
    plan.status.unwrap().body["status"].clone()
}

#[test]
fn progress_ends_in_available_or_a_missed_deadline() {
    let wanted = recorded(deployment(1, "new", "RollingUpdate"));
    let done = find::told_apart(&wanted, &[set("new", "new", 1, 1, 1, 2)]);
    let status = status_of(&wanted, &done);
    let reason = |status: &Value, type_: &str| {
        let conditions = status["conditions"].as_array().unwrap().clone();
        conditions.iter().find(|c| c["type"] == type_).unwrap()["reason"].clone()
    };
    assert_eq!(reason(&status, "Progressing"), "NewReplicaSetAvailable");
    assert_eq!(reason(&status, "Available"), "MinimumReplicasAvailable");
    let stuck = find::told_apart(&wanted, &[set("new", "new", 1, 0, 1, 2)]);
    let waiting = status::rolled(&wanted, &stuck, Timestamp::from_second(1000).unwrap());
    let mut later = wanted.clone();
    later.status = Some(serde_json::from_value(waiting.status.unwrap().body["status"].clone()).unwrap());
    let waiting = status::rolled(&later, &stuck, Timestamp::from_second(1100).unwrap());
    assert!(waiting.status.is_none() && waiting.retry_after.is_some());
    let late = status::rolled(&later, &stuck, Timestamp::from_second(1700).unwrap());
    let status = late.status.unwrap().body["status"].clone();
    assert_eq!(reason(&status, "Progressing"), "ProgressDeadlineExceeded");
}
