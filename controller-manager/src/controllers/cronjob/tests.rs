//! A CronJob at work: when it makes a Job, and which it keeps.

use super::*;
use k8s_openapi::api::batch::v1::{JobCondition, JobStatus, JobTemplateSpec};
use keelson_controller::Verb;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn cron(policy: &str) -> CronJob {
    CronJob {
        metadata: ObjectMeta {
            name: Some("tick".into()),
            namespace: Some("ns".into()),
            uid: Some("c".into()),
            creation_timestamp: Some(Time(at("2026-01-01T00:00:30Z"))),
            ..ObjectMeta::default()
        },
        spec: CronJobSpec {
            schedule: "* * * * *".into(),
            time_zone: Some("UTC".into()),
            concurrency_policy: Some(policy.into()),
            successful_jobs_history_limit: Some(1),
            failed_jobs_history_limit: Some(1),
            job_template: JobTemplateSpec::default(),
            ..CronJobSpec::default()
        },
        status: None,
    }
}

fn job_at(cron: &CronJob, due: &str, ended: Option<&str>) -> Arc<Job> {
    let mut job = job(cron, &cron.spec, at(due));
    job.metadata.uid = Some(format!("uid-{due}"));
    let condition = |how: &str| JobCondition {
        type_: how.into(),
        status: "True".into(),
        ..JobCondition::default()
    };
    job.status = Some(JobStatus {
        conditions: ended.map(|how| vec![condition(how)]),
        start_time: Some(Time(at(due))),
        completion_time: ended.filter(|how| *how == "Complete").map(|_| Time(at(due))),
        ..JobStatus::default()
    });
    Arc::new(job)
}

fn reasons(plan: &Plan) -> Vec<&str> {
    plan.report.notes.iter().map(|note| note.reason).collect()
}

#[test]
fn a_job_is_made_when_it_is_due_and_named_by_its_minute() {
    let cron = cron("Allow");
    let early = reconcile(&cron, &[], at("2026-01-01T00:00:50Z"));
    assert!(early.actions.is_empty());
    assert_eq!(early.retry_after, Some(Duration::from_millis(10_100)));
    let plan = reconcile(&cron, &[], at("2026-01-01T00:01:00.1Z"));
    let [action] = &plan.actions[..] else {
        panic!("{plan:?}")
    };
    let minutes = at("2026-01-01T00:01:00Z").as_second() / 60;
    assert_eq!(
        (action.verb, action.target.name.clone()),
        (Verb::Create, format!("tick-{minutes}"))
    );
    let annotations = &action.body["metadata"]["annotations"];
    assert_eq!(annotations[SCHEDULED_AT], "2026-01-01T00:01:00Z");
}

#[test]
fn the_status_follows_the_jobs() {
    let mut cron = cron("Allow");
    let running = job_at(&cron, "2026-01-01T00:01:00Z", None);
    let now = at("2026-01-01T00:01:20Z");
    let plan = reconcile(&cron, std::slice::from_ref(&running), now);
    assert!(plan.actions.is_empty(), "{plan:?}");
    let status = &plan.status.as_ref().unwrap().body["status"];
    assert_eq!(status["lastScheduleTime"], "2026-01-01T00:01:00Z");
    assert_eq!(status["active"][0]["uid"], "uid-2026-01-01T00:01:00Z");
    cron.status = Some(serde_json::from_value(status.clone()).unwrap());
    assert_eq!(reconcile(&cron, std::slice::from_ref(&running), now).status, None);
    let done = job_at(&cron, "2026-01-01T00:01:00Z", Some("Complete"));
    let plan = reconcile(&cron, &[done], now);
    assert_eq!(reasons(&plan), ["SawCompletedJob"]);
    let status = &plan.status.as_ref().unwrap().body["status"];
    assert_eq!(status["lastSuccessfulTime"], "2026-01-01T00:01:00Z");
    assert_eq!(reasons(&reconcile(&cron, &[], now)), ["MissingJob"]);
    let mut stranger = Job::clone(&running);
    stranger.metadata.name = Some("other".into());
    stranger.metadata.uid = Some("other".into());
    let plan = reconcile(&cron, &[running, Arc::new(stranger)], now);
    assert_eq!(reasons(&plan), ["UnexpectedJob"]);
}

#[test]
fn the_policy_decides_about_a_second_job() {
    let now = at("2026-01-01T00:02:00.2Z");
    let table = [
        ("Allow", vec![Verb::Create], vec![]),
        ("Forbid", vec![], vec!["JobAlreadyActive"]),
        ("Replace", vec![Verb::Delete, Verb::Create], vec![]),
    ];
    for (policy, verbs, told) in table {
        let cron = cron(policy);
        let plan = reconcile(&cron, &[job_at(&cron, "2026-01-01T00:01:00Z", None)], now);
        let found: Vec<Verb> = plan.actions.iter().map(|action| action.verb).collect();
        assert_eq!((found, reasons(&plan)), (verbs, told), "{policy}");
    }
}

#[test]
fn what_is_suspended_late_or_not_to_be_read_starts_nothing() {
    let now = at("2026-01-01T00:02:30Z");
    let mut late = cron("Allow");
    late.spec.starting_deadline_seconds = Some(10);
    assert!(reconcile(&late, &[], now).actions.is_empty());
    let mut suspended = cron("Allow");
    suspended.spec.suspend = Some(true);
    assert_eq!(reconcile(&suspended, &[], now), Plan::nothing());
    let mut wrong = cron("Allow");
    wrong.spec.schedule = "now".into();
    assert_eq!(reasons(&reconcile(&wrong, &[], now)), ["UnparseableSchedule"]);
}

#[test]
fn the_oldest_finished_jobs_go() {
    let cron = cron("Allow");
    let jobs = [
        job_at(&cron, "2026-01-01T00:03:00Z", Some("Complete")),
        job_at(&cron, "2026-01-01T00:01:00Z", Some("Complete")),
        job_at(&cron, "2026-01-01T00:02:00Z", Some("Failed")),
    ];
    let actions = beyond_history(&cron, &cron.spec, &jobs);
    let uids: Vec<&str> = actions.iter().map(|action| action.uid.as_str()).collect();
    assert_eq!(uids, ["uid-2026-01-01T00:01:00Z"]);
}
