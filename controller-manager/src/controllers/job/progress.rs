//! When a job has ended, and the conditions that say so. Pure.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use keelson_controller::{Note, Plan};

use super::totals;

/// How a job ends.
#[derive(Debug, PartialEq)]
pub(super) enum Ended {
    /// All it had to do is done.
    Complete,
    /// It failed, with reason and message.
    Failed(&'static str, String),
}

/// The condition of a job that is over.
pub fn finished(job: &Job) -> Option<&JobCondition> {
    find(job, "Complete").or_else(|| find(job, "Failed"))
}

fn find<'a>(job: &'a Job, type_: &str) -> Option<&'a JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == type_ && c.status == "True")
}

/// Whether the job is to end, and how. What was decided before stands.
pub(super) fn ended(job: &Job, spec: &JobSpec, status: &JobStatus, now: Timestamp) -> Option<Ended> {
    if find(job, "SuccessCriteriaMet").is_some() {
        return Some(Ended::Complete);
    }
    if let Some(target) = find(job, "FailureTarget") {
        let reason = match target.reason.as_deref() {
            Some("DeadlineExceeded") => "DeadlineExceeded",
            _ => "BackoffLimitExceeded",
        };
        return Some(Ended::Failed(reason, target.message.clone().unwrap_or_default()));
    }
    let indexed = spec.completion_mode.as_deref() == Some("Indexed");
    let (succeeded, failed) = totals(status, indexed);
    if failed > spec.backoff_limit.unwrap_or(6) {
        let message = "Job has reached the specified backoff limit".to_owned();
        return Some(Ended::Failed("BackoffLimitExceeded", message));
    }
    if deadline_in_s(spec, status, now).is_some_and(|left| left <= 0) {
        let message = "Job was active longer than specified deadline".to_owned();
        return Some(Ended::Failed("DeadlineExceeded", message));
    }
    let complete = match spec.completions {
        Some(completions) => succeeded >= completions,
        None => succeeded > 0 && status.active.unwrap_or(0) == 0,
    };
    complete.then_some(Ended::Complete)
}

/// Seconds until the deadline; `None` without one or before the start.
pub(super) fn deadline_in_s(spec: &JobSpec, status: &JobStatus, now: Timestamp) -> Option<i64> {
    let deadline = spec
        .active_deadline_seconds
        .filter(|_| spec.suspend != Some(true))?;
    let start = status.start_time.as_ref()?.0.as_second();
    Some(start + deadline - now.as_second())
}

/// Writes the conditions of the end: the intention at once, the end itself when nothing runs or waits any more.
pub(super) fn conditions(
    job: &Job,
    status: &mut JobStatus,
    ended: Option<&Ended>,
    nothing_left: bool,
    suspended: bool,
    plan: &mut Plan,
    now: Timestamp,
) {
    suspension(job, status, suspended, plan, now);
    let nothing_left = nothing_left && status.terminating.unwrap_or(0) == 0;
    match ended {
        None => {}
        Some(Ended::Complete) => {
            let (reason, message) = ("CompletionsReached", "Reached expected number of succeeded pods");
            set(status, "SuccessCriteriaMet", reason, message, now);
            if nothing_left {
                set(status, "Complete", reason, message, now);
                status.completion_time = Some(Time(now));
                plan.note(Note::normal(job, "Completed", "Job completed"));
            }
        }
        Some(Ended::Failed(reason, message)) => {
            set(status, "FailureTarget", reason, message, now);
            if nothing_left {
                set(status, "Failed", reason, message, now);
                plan.note(Note::warning(job, reason, message.clone()));
            }
        }
    }
}

fn suspension(job: &Job, status: &mut JobStatus, suspended: bool, plan: &mut Plan, now: Timestamp) {
    let standing = find(job, "Suspended").is_some();
    let (reason, message, value) = match (suspended, standing) {
        (true, false) => ("JobSuspended", "Job suspended", "True"),
        (false, true) => ("JobResumed", "Job resumed", "False"),
        _ => return,
    };
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|c| c.type_ != "Suspended");
    conditions.push(condition("Suspended", value, reason, message, now));
    // The deadline counts from the resumption.
    status.start_time = (!suspended).then_some(Time(now));
    let reason = if suspended { "Suspended" } else { "Resumed" };
    plan.note(Note::normal(job, reason, message));
}

fn set(status: &mut JobStatus, type_: &str, reason: &str, message: &str, now: Timestamp) {
    let conditions = status.conditions.get_or_insert_default();
    if !conditions.iter().any(|c| c.type_ == type_ && c.status == "True") {
        conditions.retain(|c| c.type_ != type_);
        conditions.push(condition(type_, "True", reason, message, now));
    }
}

fn condition(type_: &str, status: &str, reason: &str, message: &str, now: Timestamp) -> JobCondition {
    JobCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}
