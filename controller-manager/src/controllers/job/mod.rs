//! Job controller: pods that run to their end, counted exactly once.
//!
//! Each pod carries the finalizer `batch.kubernetes.io/job-tracking`, so that none disappears uncounted. A finished
//! pod's uid is first written to `uncountedTerminatedPods`, then its finalizer is taken off, and when that shows it
//! moves into the counters: a crash between any two steps repeats or continues, and never counts twice.
//! `progress` decides when a job has succeeded or failed; `indexes` writes and reads lists of completion indexes.
//! Left out: podFailurePolicy, successPolicy, backoffLimitPerIndex and jobs managed by others.

mod indexes;
mod progress;

pub use progress::finished;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::{EnvVar, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use keelson_client::{Informer, Key};
use keelson_controller::{Action, Controller, Failure, Note, Plan, Queue, Verb};
use serde_json::json;

use crate::context::Context;
use crate::{owner, pods, selector, triggers};

const NAME: &str = "job-controller";
/// Finalizer of pods not yet counted.
pub const TRACKING: &str = "batch.kubernetes.io/job-tracking";
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// Pods created or deleted per plan, at most.
const BURST: usize = 500;
/// uids in `uncountedTerminatedPods`, at most.
const UNCOUNTED_MAX: usize = 500;
/// First pause before a failed pod is replaced; doubles with each failure.
const BACKOFF_S: i64 = 10;
/// Longest such pause.
const BACKOFF_MAX_S: i64 = 600;

/// Starts the controller.
pub fn start(context: &Context) {
    let jobs = context.informer::<Job>();
    let pods = context.informer::<Pod>();
    pods.add_index(owner::INDEX, owner::index);
    let queue = Queue::default();
    triggers::on_self(&jobs, &queue);
    triggers::on_owned(&pods, &queue, "Job");
    let all = jobs.clone();
    triggers::on_orphans(&pods, &queue, move |pod| {
        all.list_namespace(pod.metadata.namespace.as_deref().unwrap_or_default())
            .into_iter()
            .filter(|job| selects(job, pod))
            .map(|job| Key::of(job.as_ref()))
            .collect()
    });
    let workers = context.config.concurrent.job_syncs;
    context.run(Arc::new(Jobs { jobs, pods }), queue, NAME, workers);
}

fn selects(job: &Job, pod: &Pod) -> bool {
    let selector = job.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|s| !selector::is_empty(s) && selector::matches(s, pod.metadata.labels.as_ref()))
}

struct Jobs {
    jobs: Informer<Job>,
    pods: Informer<Pod>,
}

impl Controller for Jobs {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, key: &Key, now: Timestamp, _: Option<&Failure>) -> Plan {
        let Some(job) = self.jobs.get_key(key) else {
            // Its pods are being collected: nobody will count them.
            return Plan::nothing();
        };
        let Some(uid) = &job.metadata.uid else {
            return Plan::nothing();
        };
        let mut candidates = self.pods.by_index(owner::INDEX, uid);
        candidates.extend(self.pods.by_index(owner::INDEX, &owner::orphans(&key.namespace)));
        let claimed = owner::claim(job.as_ref(), candidates, |pod| selects(&job, pod));
        if !claimed.actions.is_empty() {
            return Plan::of(claimed.actions);
        }
        reconcile(&job, &claimed.owned, now)
    }
}

fn is_tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|f| f == TRACKING)
}

fn untracked(pod: &Pod) -> Action {
    let patch = json!({ "metadata": { "$deleteFromPrimitiveList/finalizers": [TRACKING] } });
    Action::patch(Verb::StrategicPatch, pod, patch).tolerating(&[404])
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// A pod that counts as failed: it failed, or it is being deleted before its end.
fn is_failed(pod: &Pod) -> bool {
    match pods::phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        _ => pod.metadata.deletion_timestamp.is_some(),
    }
}

fn reconcile(job: &Job, owned: &[Arc<Pod>], now: Timestamp) -> Plan {
    let Some(spec) = &job.spec else {
        return Plan::nothing();
    };
    let own = spec
        .managed_by
        .as_deref()
        .is_none_or(|by| by == "kubernetes.io/job-controller");
    if !own {
        return Plan::nothing();
    }
    if progress::finished(job).is_some() || job.metadata.deletion_timestamp.is_some() {
        // Nothing more is counted; pods must not be held back.
        return Plan::of(
            owned
                .iter()
                .filter(|pod| is_tracked(pod))
                .map(|pod| untracked(pod))
                .collect(),
        );
    }
    let mut status = counted(job, spec, owned, now);
    let active: Vec<Arc<Pod>> = owned.iter().filter(|pod| pods::is_active(pod)).cloned().collect();
    let mut plan = Plan::nothing();
    let ended = progress::ended(job, spec, &status, now);
    let suspended = spec.suspend == Some(true);
    if let Some(due_s) = progress::deadline_in_s(spec, &status, now) {
        plan.again_after(Duration::from_secs(due_s.max(1).unsigned_abs()));
    }
    if ended.is_some() || suspended {
        plan.actions
            .extend(active.iter().take(BURST).map(|pod| deleted(job, pod)));
    } else {
        manage(job, spec, &status, owned, &active, &mut plan, now);
    }
    let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
    let waits = uncounted
        .failed
        .iter()
        .chain(&uncounted.succeeded)
        .flatten()
        .count()
        > 0;
    progress::conditions(
        job,
        &mut status,
        ended.as_ref(),
        active.is_empty() && !waits,
        suspended,
        &mut plan,
        now,
    );
    if job.status.as_ref() != Some(&status) {
        // Counted first, released after: the finalizers go in the plan that finds this status in the cache.
        let mut updated = job.clone();
        updated.status = Some(status);
        plan.status = Some(Action::update_status(&updated));
        return plan;
    }
    let listed: Vec<&String> = uncounted
        .failed
        .iter()
        .chain(&uncounted.succeeded)
        .flatten()
        .collect();
    let releasable = owned
        .iter()
        .filter(|pod| is_tracked(pod) && listed.iter().any(|u| *u == uid(pod)));
    plan.actions.extend(releasable.map(|pod| untracked(pod)));
    plan
}

/// The counters, moved by one step for each finished pod.
fn counted(job: &Job, spec: &JobSpec, owned: &[Arc<Pod>], now: Timestamp) -> JobStatus {
    let mut status = job.status.clone().unwrap_or_default();
    let mut uncounted = status.uncounted_terminated_pods.take().unwrap_or_default();
    let held = |u: &String| owned.iter().any(|pod| uid(pod) == u && is_tracked(pod));
    let settle = |list: &mut Option<Vec<String>>, counter: &mut Option<i32>| {
        let all = list.take().unwrap_or_default();
        let (waiting, done): (Vec<String>, Vec<String>) = all.into_iter().partition(|u| held(u));
        *counter = Some(counter.unwrap_or(0) + done.len() as i32).filter(|n| *n != 0);
        *list = Some(waiting);
    };
    settle(&mut uncounted.failed, &mut status.failed);
    settle(&mut uncounted.succeeded, &mut status.succeeded);
    let indexed = spec.completion_mode.as_deref() == Some("Indexed");
    let mut completed = indexes::parse(status.completed_indexes.as_deref().unwrap_or_default());
    for pod in owned.iter().filter(|pod| is_tracked(pod)) {
        let list = if pods::phase(pod) == "Succeeded" {
            if indexed {
                // An index counts once, however many of its pods succeed.
                match index_of(pod) {
                    Some(index) if !completed.contains(&index) => completed.insert(index),
                    _ => false,
                };
            }
            uncounted.succeeded.get_or_insert_default()
        } else if is_failed(pod) && (pods::phase(pod) == "Failed" || pods::node_name(pod).is_empty()) {
            uncounted.failed.get_or_insert_default()
        } else {
            continue;
        };
        if list.len() < UNCOUNTED_MAX && !list.iter().any(|u| u == uid(pod)) {
            list.push(uid(pod).to_owned());
        }
    }
    if indexed {
        status.succeeded = Some(completed.len() as i32).filter(|n| *n != 0);
        status.completed_indexes = Some(indexes::format(&completed)).filter(|text| !text.is_empty());
    }
    for list in [&mut uncounted.failed, &mut uncounted.succeeded] {
        *list = list.take().filter(|l| !l.is_empty());
    }
    let active: Vec<_> = owned.iter().filter(|pod| pods::is_active(pod)).collect();
    status.active = Some(active.len() as i32).filter(|n| *n != 0);
    status.ready = Some(active.iter().filter(|pod| pods::is_ready(pod)).count() as i32);
    let leaving = |pod: &&Arc<Pod>| pod.metadata.deletion_timestamp.is_some() && !pods::is_finished(pod);
    status.terminating = Some(owned.iter().filter(leaving).count() as i32);
    status.uncounted_terminated_pods = Some(uncounted);
    if status.start_time.is_none() && spec.suspend != Some(true) {
        status.start_time = Some(Time(now));
    }
    status
}

/// Successes and failures, with those found but not yet settled.
fn totals(status: &JobStatus, indexed: bool) -> (i32, i32) {
    let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
    let waiting = |list: &Option<Vec<String>>| list.as_ref().map_or(0, Vec::len) as i32;
    let succeeded = status.succeeded.unwrap_or(0) + if indexed { 0 } else { waiting(&uncounted.succeeded) };
    (succeeded, status.failed.unwrap_or(0) + waiting(&uncounted.failed))
}

fn index_of(pod: &Pod) -> Option<i32> {
    pod.metadata.annotations.as_ref()?.get(INDEX)?.parse().ok()
}

/// Makes what is missing, ends what is too much.
fn manage(
    job: &Job,
    spec: &JobSpec,
    status: &JobStatus,
    owned: &[Arc<Pod>],
    active: &[Arc<Pod>],
    plan: &mut Plan,
    now: Timestamp,
) {
    let indexed = spec.completion_mode.as_deref() == Some("Indexed");
    let (succeeded, failed) = totals(status, indexed);
    let parallelism = spec.parallelism.unwrap_or(1);
    let wanted = match spec.completions {
        // Without completions, any success means no more pods are started.
        None if succeeded > 0 => active.len() as i32,
        None => parallelism,
        Some(completions) => parallelism.min(completions - succeeded),
    };
    let wanted = usize::try_from(wanted).unwrap_or(0);
    if active.len() > wanted {
        let mut ranked = active.to_vec();
        pods::sort_for_deletion(&mut ranked, &std::collections::HashMap::new(), now);
        let surplus = (active.len() - wanted).min(BURST);
        plan.actions
            .extend(ranked.iter().take(surplus).map(|pod| deleted(job, pod)));
        return;
    }
    let leaving = match spec.pod_replacement_policy.as_deref() {
        Some("Failed") => status.terminating.unwrap_or(0),
        _ => 0,
    };
    let missing = (wanted - active.len()).saturating_sub(usize::try_from(leaving).unwrap_or(0));
    if missing == 0 {
        return;
    }
    let pause_s = pause_s(owned, failed, now);
    if pause_s > 0 {
        plan.again_after(Duration::from_secs(pause_s.unsigned_abs()));
        return;
    }
    let completed = indexes::parse(status.completed_indexes.as_deref().unwrap_or_default());
    let taken =
        |index: &i32| completed.contains(index) || active.iter().any(|pod| index_of(pod) == Some(*index));
    let free: Vec<Option<i32>> = if indexed {
        (0..spec.completions.unwrap_or(0))
            .filter(|index| !taken(index))
            .map(Some)
            .take(missing)
            .collect()
    } else {
        vec![None; missing]
    };
    plan.actions.extend(free.into_iter().take(BURST).map(|index| {
        Action::create(&pod(job, spec, index))
            .on_success(Note::normal(job, "SuccessfulCreate", "Created pod: {name}"))
            .on_failure(Note::warning(job, "FailedCreate", "Error creating: {error}"))
    }));
}

/// Seconds until a failed pod may be replaced: 10 s after the last failure, doubling with each.
fn pause_s(owned: &[Arc<Pod>], failed: i32, now: Timestamp) -> i64 {
    let ended = |pod: &Arc<Pod>| {
        let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
        let ends = statuses
            .iter()
            .filter_map(|c| c.state.as_ref()?.terminated.as_ref()?.finished_at.clone());
        ends.map(|t| t.0.as_second()).max()
    };
    let last = owned
        .iter()
        .filter(|pod| pods::phase(pod) == "Failed")
        .filter_map(ended)
        .max();
    let Some(last) = last.filter(|_| failed > 0) else {
        return 0;
    };
    let factor = 1_i64 << (failed - 1).clamp(0, 10);
    last + (BACKOFF_S * factor).min(BACKOFF_MAX_S) - now.as_second()
}

fn deleted(job: &Job, pod: &Pod) -> Action {
    Action::delete(pod)
        .on_success(Note::normal(job, "SuccessfulDelete", "Deleted pod: {name}"))
        .on_failure(Note::warning(job, "FailedDelete", "Error deleting: {error}"))
}

fn pod(job: &Job, spec: &JobSpec, index: Option<i32>) -> Pod {
    let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
    let mut pod = pods::from_template(&spec.template, namespace, owner::reference(job));
    pod.metadata
        .finalizers
        .get_or_insert_default()
        .push(TRACKING.to_owned());
    let Some(index) = index else {
        return pod;
    };
    let name = job.metadata.name.as_deref().unwrap_or_default();
    pod.metadata.generate_name = Some(format!("{name}-{index}-"));
    pod.metadata
        .annotations
        .get_or_insert_default()
        .insert(INDEX.to_owned(), index.to_string());
    pod.metadata
        .labels
        .get_or_insert_default()
        .insert(INDEX.to_owned(), index.to_string());
    let pod_spec = pod.spec.get_or_insert_default();
    pod_spec.hostname = Some(format!("{name}-{index}"));
    let containers = pod_spec
        .init_containers
        .iter_mut()
        .flatten()
        .chain(&mut pod_spec.containers);
    for container in containers {
        let env = container.env.get_or_insert_default();
        if !env.iter().any(|e| e.name == "JOB_COMPLETION_INDEX") {
            env.push(EnvVar {
                name: "JOB_COMPLETION_INDEX".to_owned(),
                value: Some(index.to_string()),
                value_from: None,
            });
        }
    }
    pod
}

#[cfg(test)]
mod tests;
