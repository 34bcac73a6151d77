//! CronJob controller: a Job whenever its schedule says so.
//!
//! A job's name is made from the minute it is due, so that no minute gets two. What is active, and when a job was last
//! scheduled, is read from the jobs themselves (each carries the time it was due), not from what this process did: a
//! restart between a creation and the status loses nothing. `schedule` knows cron's syntax, `due` which time counts.

mod due;
mod schedule;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use keelson_client::{Informer, Key};
use keelson_controller::{Action, Controller, Failure, Note, Plan, Queue};
use serde_json::json;

use self::due::Due;
use crate::context::Context;
use crate::controllers::job::finished;
use crate::{owner, triggers};

const NAME: &str = "cronjob-controller";
/// On each job: the time it was due.
const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// Added to every wait, so that the clock has surely passed the minute.
const AFTER_DUE: Duration = Duration::from_millis(100);

/// Starts the controller.
pub fn start(context: &Context) {
    let crons = context.informer::<CronJob>();
    let jobs = context.informer::<Job>();
    jobs.add_index(owner::INDEX, owner::index);
    let queue = Queue::default();
    triggers::on_self(&crons, &queue);
    triggers::on_owned(&jobs, &queue, "CronJob");
    let workers = context.config.concurrent.cron_job_syncs;
    context.run(Arc::new(CronJobs { crons, jobs }), queue, NAME, workers);
}

struct CronJobs {
    crons: Informer<CronJob>,
    jobs: Informer<Job>,
}

impl Controller for CronJobs {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, key: &Key, now: Timestamp, _: Option<&Failure>) -> Plan {
        let Some(cron) = self.crons.get_key(key) else {
            return Plan::nothing();
        };
        let uid = cron.metadata.uid.as_deref().unwrap_or_default();
        reconcile(&cron, &self.jobs.by_index(owner::INDEX, uid), now)
    }
}

fn reconcile(cron: &CronJob, jobs: &[Arc<Job>], now: Timestamp) -> Plan {
    let spec = &cron.spec;
    let mut plan = Plan::nothing();
    let status = observed(cron, jobs, &mut plan);
    if cron.status.as_ref().unwrap_or(&CronJobStatus::default()) != &status {
        let mut updated = cron.clone();
        updated.status = Some(status.clone());
        plan.status = Some(Action::update_status(&updated));
    }
    plan.actions.extend(beyond_history(cron, spec, jobs));
    if cron.metadata.deletion_timestamp.is_none() && spec.suspend != Some(true) {
        run_when_due(cron, spec, &status, jobs, &mut plan, now);
    }
    plan
}

fn name(job: &Job) -> &str {
    job.metadata.name.as_deref().unwrap_or_default()
}

/// The status the jobs there are lead to, with events for what is new.
fn observed(cron: &CronJob, jobs: &[Arc<Job>], plan: &mut Plan) -> CronJobStatus {
    let mut status = cron.status.clone().unwrap_or_default();
    let mut active = status.active.take().unwrap_or_default();
    active.retain(|reference| {
        let job = jobs.iter().find(|job| job.metadata.uid == reference.uid);
        match job.map(|job| (job, finished(job))) {
            None => {
                let name = reference.name.as_deref().unwrap_or_default();
                plan.note(Note::normal(
                    cron,
                    "MissingJob",
                    format!("Active job went missing: {name}"),
                ));
                false
            }
            Some((job, Some(condition))) => {
                let (name, how) = (name(job), &condition.type_);
                let message = format!("Saw completed job: {name}, condition: {how}");
                plan.note(Note::normal(cron, "SawCompletedJob", message));
                false
            }
            Some((_, None)) => true,
        }
    });
    for job in jobs {
        let due = scheduled_at(job).filter(|due| name(job) == job_name(cron, *due));
        let listed = active.iter().any(|reference| reference.uid == job.metadata.uid);
        if finished(job).is_none() && !listed {
            if due.is_some() {
                active.push(reference(job));
            } else {
                let message = format!(
                    "Saw a job that the controller did not create or forgot: {}",
                    name(job)
                );
                plan.note(Note::warning(cron, "UnexpectedJob", message));
            }
        }
        let last = status.last_schedule_time.as_ref().map(|time| time.0);
        if let Some(due) = due.filter(|due| last.is_none_or(|last| last < *due)) {
            status.last_schedule_time = Some(Time(due));
        }
        let completed = job
            .status
            .as_ref()
            .and_then(|status| status.completion_time.clone());
        if completed > status.last_successful_time {
            status.last_successful_time = completed;
        }
    }
    status.active = Some(active).filter(|active| !active.is_empty());
    status
}

fn reference(job: &Job) -> ObjectReference {
    keelson_client::events::reference(job)
}

fn scheduled_at(job: &Job) -> Option<Timestamp> {
    job.metadata.annotations.as_ref()?.get(SCHEDULED_AT)?.parse().ok()
}

fn job_name(cron: &CronJob, due: Timestamp) -> String {
    let name = cron.metadata.name.as_deref().unwrap_or_default();
    format!("{name}-{}", due.as_second() / 60)
}

/// Starts what is due, as the concurrency policy allows, and says when to look again.
fn run_when_due(
    cron: &CronJob,
    spec: &CronJobSpec,
    status: &CronJobStatus,
    jobs: &[Arc<Job>],
    plan: &mut Plan,
    now: Timestamp,
) {
    let schedule = match schedule::parse(&spec.schedule, spec.time_zone.as_deref()) {
        Ok(schedule) => schedule,
        Err(why) => {
            let message = format!("unparseable schedule: {:?} : {why}", spec.schedule);
            return plan.note(Note::warning(cron, "UnparseableSchedule", message));
        }
    };
    let found = due::find(cron, spec, status, &schedule, now);
    if let Some(next) = schedule.next(now) {
        let wait = Duration::try_from(next.duration_since(now)).unwrap_or_default();
        plan.again_after(wait + AFTER_DUE);
    }
    if let Some(missed) = found.too_many {
        let message = format!(
            "too many missed start times: {missed}. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
        );
        plan.note(Note::warning(cron, "TooManyMissedTimes", message));
    }
    let at = match found.due {
        Due::Nothing => return,
        Due::TooLate(at) => {
            let text = at.to_zoned(TimeZone::UTC).strftime("%a, %d %b %Y %H:%M:%S %z");
            let message = format!("Missed scheduled time to start a job: {text}");
            return plan.note(Note::warning(cron, "MissSchedule", message));
        }
        Due::At(at) => at,
    };
    let active = status.active.as_deref().unwrap_or_default();
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !active.is_empty() => {
            let message =
                "Not starting job because prior execution is running and concurrency policy is Forbid";
            return plan.note(Note::normal(cron, "JobAlreadyActive", message));
        }
        Some("Replace") => {
            let replaced = jobs
                .iter()
                .filter(|job| active.iter().any(|a| a.uid == job.metadata.uid));
            plan.actions.extend(replaced.map(|job| deleted(cron, job)));
        }
        _ => {}
    }
    plan.actions.push(
        Action::create(&job(cron, spec, at))
            // Made before: the status that will say so is on its way.
            .tolerating(&[409])
            .on_success(Note::normal(cron, "SuccessfulCreate", "Created job {name}"))
            .on_failure(Note::warning(cron, "FailedCreate", "Error creating job: {error}")),
    );
}

fn job(cron: &CronJob, spec: &CronJobSpec, due: Timestamp) -> Job {
    let template = spec.job_template.metadata.clone().unwrap_or_default();
    let zone = spec
        .time_zone
        .as_deref()
        .and_then(|name| TimeZone::get(name).ok());
    let local = due.to_zoned(zone.unwrap_or_else(TimeZone::system));
    let text = match local.offset().seconds() {
        0 => due.to_string(),
        _ => local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
    };
    let mut annotations = template.annotations.unwrap_or_default();
    annotations.insert(SCHEDULED_AT.to_owned(), text);
    Job {
        metadata: ObjectMeta {
            name: Some(job_name(cron, due)),
            namespace: cron.metadata.namespace.clone(),
            labels: template.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![owner::reference(cron)]),
            ..ObjectMeta::default()
        },
        spec: spec.job_template.spec.clone(),
        status: None,
    }
}

fn deleted(cron: &CronJob, job: &Job) -> Action {
    Action::delete(job)
        .option("propagationPolicy", json!("Background"))
        .on_success(Note::normal(
            cron,
            "SuccessfulDelete",
            format!("Deleted job {}", name(job)),
        ))
        .on_failure(Note::warning(cron, "FailedDelete", "Deleted job: {error}"))
}

/// Deletions of finished jobs beyond the limits of each kind, the oldest first.
fn beyond_history(cron: &CronJob, spec: &CronJobSpec, jobs: &[Arc<Job>]) -> Vec<Action> {
    let mut actions = Vec::new();
    let limits = [
        ("Complete", spec.successful_jobs_history_limit),
        ("Failed", spec.failed_jobs_history_limit),
    ];
    for (how, limit) in limits {
        let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else {
            continue;
        };
        let ended = |job: &&Arc<Job>| {
            job.metadata.deletion_timestamp.is_none() && finished(job).is_some_and(|c| c.type_ == how)
        };
        let mut over: Vec<&Arc<Job>> = jobs.iter().filter(ended).collect();
        let began = |job: &Job| job.status.as_ref().and_then(|status| status.start_time.clone());
        over.sort_by_key(|job| (began(job), job.metadata.name.clone()));
        let surplus = over.len().saturating_sub(limit);
        actions.extend(over.into_iter().take(surplus).map(|job| deleted(cron, job)));
    }
    actions
}

#[cfg(test)]
mod tests;
