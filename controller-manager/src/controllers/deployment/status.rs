//! Status and conditions of a Deployment: Available, Progressing, ReplicaFailure.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use keelson_controller::{Action, Plan};

use super::strategy::max_unavailable;
use super::{Sets, available, name_of, size, spec_of, total_size, wanted};

pub(super) const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";

/// The progress deadline; `None` when there is none.
pub(super) fn deadline_s(deployment: &Deployment) -> Option<i32> {
    spec_of(deployment)
        .progress_deadline_seconds
        .filter(|s| *s != i32::MAX)
}

pub(super) fn find<'a>(deployment: &'a Deployment, type_: &str) -> Option<&'a DeploymentCondition> {
    find_in(deployment.status.as_ref(), type_)
}

fn find_in<'a>(status: Option<&'a DeploymentStatus>, type_: &str) -> Option<&'a DeploymentCondition> {
    status?.conditions.as_ref()?.iter().find(|c| c.type_ == type_)
}

pub(super) fn condition(
    type_: &str,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) -> DeploymentCondition {
    DeploymentCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

/// Replaces a condition unless status and reason stay; a status that stays keeps its transition time.
pub(super) fn set(status: &mut DeploymentStatus, mut new: DeploymentCondition) {
    if let Some(standing) = find_in(Some(status), &new.type_) {
        if standing.status == new.status && standing.reason == new.reason {
            return;
        }
        if standing.status == new.status {
            new.last_transition_time
                .clone_from(&standing.last_transition_time);
        }
    }
    remove(status, &new.type_);
    status.conditions.get_or_insert_default().push(new);
}

fn remove(status: &mut DeploymentStatus, type_: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|c| c.type_ != type_);
        if conditions.is_empty() {
            status.conditions = None;
        }
    }
}

/// The deployment with the condition that says it was paused or resumed, when that is news.
pub(super) fn paused_condition(deployment: &Deployment, now: Timestamp) -> Option<Deployment> {
    deadline_s(deployment)?;
    let reason = find(deployment, PROGRESSING).and_then(|c| c.reason.as_deref());
    if reason == Some(TIMED_OUT) {
        return None;
    }
    let paused = spec_of(deployment).paused == Some(true);
    let (reason, message) = match (paused, reason == Some(PAUSED)) {
        (true, false) => (PAUSED, "Deployment is paused"),
        (false, true) => ("DeploymentResumed", "Deployment is resumed"),
        _ => return None,
    };
    let mut updated = deployment.clone();
    let new = condition(PROGRESSING, "Unknown", reason, message.to_owned(), now);
    set(updated.status.get_or_insert_default(), new);
    Some(updated)
}

/// The figures and the Available condition.
fn calculated(deployment: &Deployment, sets: &Sets, now: Timestamp) -> DeploymentStatus {
    let all = sets.all();
    let sum = |figure: &dyn Fn(&ReplicaSet) -> i32| all.iter().map(|set| figure(set)).sum::<i32>();
    let some = |number: i32| (number != 0).then_some(number);
    let total_available = sum(&available);
    let replicas = sum(&replicas);
    let terminating = |set: &ReplicaSet| set.status.as_ref().and_then(|s| s.terminating_replicas);
    let before = deployment.status.clone().unwrap_or_default();
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(replicas),
        updated_replicas: some(sets.new.as_ref().map_or(0, |set| self::replicas(set))),
        ready_replicas: some(sum(&|set| {
            set.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or(0)
        })),
        available_replicas: some(total_available),
        unavailable_replicas: some((total_size(&all) - total_available).max(0)),
        terminating_replicas: all.iter().map(|set| terminating(set)).sum(),
        collision_count: before.collision_count,
        conditions: before.conditions,
    };
    let enough = total_available >= wanted(deployment) - max_unavailable(deployment);
    let (value, reason, message) = if enough {
        (
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
        )
    } else {
        (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
    };
    set(
        &mut status,
        condition(AVAILABLE, value, reason, message.to_owned(), now),
    );
    status
}

fn replicas(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

/// Figures only: while paused, scaled or being deleted.
pub(super) fn synced(deployment: &Deployment, sets: &Sets, now: Timestamp) -> Plan {
    let status = calculated(deployment, sets, now);
    Plan {
        status: written(deployment, status),
        ..Plan::default()
    }
}

/// Figures and the rollout's progress; looks again when the deadline may have passed.
pub(super) fn rolled(deployment: &Deployment, sets: &Sets, now: Timestamp) -> Plan {
    let mut status = calculated(deployment, sets, now);
    let standing = find(deployment, PROGRESSING).cloned();
    let reason = standing.as_ref().and_then(|c| c.reason.as_deref());
    let settled = status.replicas == status.updated_replicas && reason == Some(NEW_SET_AVAILABLE);
    match deadline_s(deployment) {
        None => remove(&mut status, PROGRESSING),
        Some(deadline_s) if !settled => {
            progress(deployment, sets, &mut status, standing.as_ref(), deadline_s, now);
        }
        Some(_) => {}
    }
    match replica_failure(sets, now) {
        Some(failure) => set(&mut status, failure),
        None => remove(&mut status, REPLICA_FAILURE),
    }
    let retry_after = overdue_in(deployment, &status, now);
    Plan {
        status: written(deployment, status),
        retry_after,
        ..Plan::default()
    }
}

fn written(deployment: &Deployment, status: DeploymentStatus) -> Option<Action> {
    if deployment.status.as_ref() == Some(&status) {
        return None;
    }
    let mut updated = deployment.clone();
    updated.status = Some(status);
    Some(Action::update_status(&updated))
}

fn progress(
    deployment: &Deployment,
    sets: &Sets,
    status: &mut DeploymentStatus,
    standing: Option<&DeploymentCondition>,
    deadline_s: i32,
    now: Timestamp,
) {
    let subject = match &sets.new {
        Some(new) => format!("ReplicaSet \"{}\"", name_of(new)),
        None => format!(
            "Deployment \"{}\"",
            deployment.metadata.name.as_deref().unwrap_or_default()
        ),
    };
    if is_complete(deployment, Some(status)) {
        let message = format!("{subject} has successfully progressed.");
        set(
            status,
            condition(PROGRESSING, "True", NEW_SET_AVAILABLE, message, now),
        );
    } else if is_progressing(deployment, status) {
        let message = format!("{subject} is progressing.");
        let mut new = condition(PROGRESSING, "True", "ReplicaSetUpdated", message, now);
        if let Some(standing) = standing.filter(|c| c.status == "True") {
            new.last_transition_time
                .clone_from(&standing.last_transition_time);
        }
        // Progress restarts the deadline: the update time must move even when nothing else does.
        remove(status, PROGRESSING);
        set(status, new);
    } else if is_timed_out(status, deadline_s, now) {
        let message = format!("{subject} has timed out progressing.");
        set(status, condition(PROGRESSING, "False", TIMED_OUT, message, now));
    }
}

/// Whether everything wanted is updated and available, and nothing else is left.
pub(super) fn is_complete(deployment: &Deployment, status: Option<&DeploymentStatus>) -> bool {
    let wanted = wanted(deployment);
    status.is_some_and(|status| {
        status.updated_replicas.unwrap_or(0) == wanted
            && status.replicas.unwrap_or(0) == wanted
            && status.available_replicas.unwrap_or(0) == wanted
            && status.observed_generation >= deployment.metadata.generation
    })
}

fn is_progressing(deployment: &Deployment, new: &DeploymentStatus) -> bool {
    let before = deployment.status.clone().unwrap_or_default();
    let old_pods = |s: &DeploymentStatus| s.replicas.unwrap_or(0) - s.updated_replicas.unwrap_or(0);
    new.updated_replicas.unwrap_or(0) > before.updated_replicas.unwrap_or(0)
        || old_pods(new) < old_pods(&before)
        || new.ready_replicas.unwrap_or(0) > before.ready_replicas.unwrap_or(0)
        || new.available_replicas.unwrap_or(0) > before.available_replicas.unwrap_or(0)
}

fn is_timed_out(status: &DeploymentStatus, deadline_s: i32, now: Timestamp) -> bool {
    let Some(standing) = find_in(Some(status), PROGRESSING) else {
        return false;
    };
    match standing.reason.as_deref() {
        Some(NEW_SET_AVAILABLE) => false,
        Some(TIMED_OUT) => true,
        _ => standing
            .last_update_time
            .as_ref()
            .is_some_and(|t| t.0.as_second() + i64::from(deadline_s) < now.as_second()),
    }
}

/// When an unfinished rollout will have missed its deadline.
fn overdue_in(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> Option<Duration> {
    let deadline_s = i64::from(deadline_s(deployment)?);
    let standing = find_in(Some(status), PROGRESSING)?;
    let over = is_complete(deployment, Some(status)) || standing.reason.as_deref() == Some(TIMED_OUT);
    if over || standing.reason.as_deref() == Some(NEW_SET_AVAILABLE) {
        return None;
    }
    let since = standing.last_update_time.as_ref()?.0.as_second();
    let left = since + deadline_s - now.as_second() + 1;
    Some(Duration::from_secs(left.max(1).unsigned_abs()))
}

fn replica_failure(sets: &Sets, now: Timestamp) -> Option<DeploymentCondition> {
    let of_set = |set: &Arc<ReplicaSet>| {
        let conditions = set.status.as_ref()?.conditions.as_ref()?;
        conditions.iter().find(|c| c.type_ == REPLICA_FAILURE).cloned()
    };
    let mut others = sets.old.iter().filter(|set| size(set) > 0);
    let failure = sets
        .new
        .as_ref()
        .and_then(of_set)
        .or_else(|| others.find_map(of_set))?;
    Some(DeploymentCondition {
        type_: failure.type_,
        status: failure.status,
        reason: failure.reason,
        message: failure.message,
        last_transition_time: failure.last_transition_time.clone(),
        last_update_time: failure.last_transition_time.or(Some(Time(now))),
    })
}
