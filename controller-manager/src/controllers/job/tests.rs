//! The life of jobs, step by step.

use super::*;
use k8s_openapi::api::core::v1::{PodStatus, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

fn job(completions: i32, parallelism: i32, mode: &str) -> Job {
    Job {
        metadata: ObjectMeta {
            name: Some("j".into()),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            completions: Some(completions),
            parallelism: Some(parallelism),
            completion_mode: Some(mode.into()),
            backoff_limit: Some(1),
            template: PodTemplateSpec::default(),
            ..JobSpec::default()
        }),
        status: None,
    }
}

fn pod(uid: &str, phase: &str, tracked: bool, index: Option<i32>) -> Arc<Pod> {
    Arc::new(Pod {
        metadata: ObjectMeta {
            name: Some(uid.into()),
            uid: Some(uid.into()),
            finalizers: tracked.then(|| vec![TRACKING.to_owned()]),
            annotations: index.map(|i| [(INDEX.to_owned(), i.to_string())].into()),
            ..ObjectMeta::default()
        },
        status: Some(PodStatus {
            phase: Some(phase.into()),
            ..PodStatus::default()
        }),
        spec: None,
    })
}

/// Plans until the status settles for these pods; the last plan's actions.
fn settle(job: &mut Job, pods: &[Arc<Pod>]) -> Vec<Action> {
    for _ in 0..5 {
        let plan = reconcile(job, pods, Timestamp::from_second(1000).unwrap());
        match plan.status {
            Some(status) => job.status = Some(serde_json::from_value(status.body["status"].clone()).unwrap()),
            None => return plan.actions,
        }
    }
    panic!("the status does not settle");
}

fn count(actions: &[Action], verb: Verb) -> usize {
    actions.iter().filter(|a| a.verb == verb).count()
}

#[test]
fn each_pod_counts_once() {
    let mut job = job(2, 1, "NonIndexed");
    assert_eq!(count(&settle(&mut job, &[]), Verb::Create), 1);
    let actions = settle(&mut job, &[pod("a", "Succeeded", true, None)]);
    assert_eq!(
        count(&actions, Verb::StrategicPatch),
        1,
        "listed, so its finalizer goes"
    );
    assert_eq!(job.status.as_ref().unwrap().succeeded, None);
    let actions = settle(&mut job, &[pod("a", "Succeeded", false, None)]);
    assert_eq!(
        (
            job.status.as_ref().unwrap().succeeded,
            count(&actions, Verb::Create)
        ),
        (Some(1), 1)
    );
    settle(
        &mut job,
        &[
            pod("a", "Succeeded", false, None),
            pod("b", "Succeeded", true, None),
        ],
    );
    assert!(
        progress::finished(&job).is_none(),
        "not before the last one is counted"
    );
    settle(
        &mut job,
        &[
            pod("a", "Succeeded", false, None),
            pod("b", "Succeeded", false, None),
        ],
    );
    assert_eq!(progress::finished(&job).unwrap().type_, "Complete");
    assert_eq!(job.status.unwrap().succeeded, Some(2));
}

#[test]
fn too_many_failures_end_the_job() {
    let mut job = job(3, 2, "NonIndexed");
    let pods = [
        pod("a", "Failed", false, None),
        pod("b", "Failed", true, None),
        pod("c", "Running", true, None),
    ];
    job.status = Some(JobStatus {
        failed: Some(1),
        ..JobStatus::default()
    });
    let actions = settle(&mut job, &pods);
    assert_eq!(count(&actions, Verb::Delete), 1, "the running one is ended");
    settle(&mut job, &[pod("b", "Failed", false, None)]);
    let failed = progress::finished(&job).unwrap();
    assert_eq!(
        (failed.type_.as_str(), failed.reason.as_deref()),
        ("Failed", Some("BackoffLimitExceeded"))
    );
}

#[test]
fn indexes_are_filled_lowest_first() {
    let mut job = job(4, 2, "Indexed");
    let pods = [
        pod("a", "Succeeded", true, Some(0)),
        pod("b", "Running", true, Some(1)),
    ];
    let actions = settle(&mut job, &pods);
    let created = actions.iter().find(|a| a.verb == Verb::Create).unwrap();
    assert_eq!(created.body["metadata"]["annotations"][INDEX], "2");
    assert_eq!(created.body["metadata"]["generateName"], "j-2-");
    assert_eq!(job.status.unwrap().completed_indexes.as_deref(), Some("0"));
}

#[test]
fn a_suspended_job_has_no_pods() {
    let mut job = job(2, 2, "NonIndexed");
    job.spec.as_mut().unwrap().suspend = Some(true);
    let actions = settle(&mut job, &[pod("a", "Running", true, None)]);
    assert_eq!(
        (count(&actions, Verb::Delete), count(&actions, Verb::Create)),
        (1, 0)
    );
    assert_eq!(job.status.unwrap().conditions.unwrap()[0].type_, "Suspended");
}
