//! The steps of a rollout: RollingUpdate and Recreate, and the cleanup of history.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use keelson_controller::{Action, Plan};

use super::create::{created, is_used, revised};
use super::scale::scaled;
use super::{Observed, Sets, available, find, name_of, size, spec_of, status, total_size, wanted};
use crate::scaled::absolute;

pub(super) fn is_recreate(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    strategy.and_then(|s| s.type_.as_deref()) == Some("Recreate")
}

/// maxSurge and maxUnavailable as numbers; never both zero, or nothing could move.
fn fenceposts(deployment: &Deployment) -> (i32, i32) {
    let strategy = spec_of(deployment).strategy.as_ref();
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let total = wanted(deployment);
    let surge = absolute(rolling.and_then(|r| r.max_surge.as_ref()), total, true);
    let unavailable = absolute(rolling.and_then(|r| r.max_unavailable.as_ref()), total, false);
    match (surge, unavailable) {
        (0, 0) => (0, 1),
        other => other,
    }
}

/// Pods above the wanted number, at most.
pub(super) fn max_surge(deployment: &Deployment) -> i32 {
    if is_recreate(deployment) {
        0
    } else {
        fenceposts(deployment).0
    }
}

/// Pods that may be missing, at most.
pub(super) fn max_unavailable(deployment: &Deployment) -> i32 {
    let wanted = wanted(deployment);
    if is_recreate(deployment) || wanted == 0 {
        return 0;
    }
    fenceposts(deployment).1.min(wanted)
}

/// The size the new set, now at `new`, may have beside `others`.
pub(super) fn new_size(deployment: &Deployment, others: &[Arc<ReplicaSet>], new: i32) -> i32 {
    let wanted = wanted(deployment);
    if is_recreate(deployment) {
        return wanted;
    }
    let room = wanted + max_surge(deployment) - total_size(others) - new;
    if room <= 0 {
        new
    } else {
        new + room.min(wanted - new)
    }
}

/// One step of a rolling update: make or grow the new set, else shrink old ones, else finish.
pub(super) fn rolling_update(seen: &Observed, sets: &Sets, now: Timestamp) -> Plan {
    let deployment = seen.deployment;
    let Some(new) = &sets.new else {
        return created(seen, sets, now);
    };
    if let Some(plan) = revised(deployment, sets, now) {
        return plan;
    }
    let mut plan = status::rolled(deployment, sets, now);
    let target = match size(new) {
        current if current > wanted(deployment) => wanted(deployment),
        current => new_size(deployment, &sets.old, current),
    };
    if target != size(new) {
        plan.actions.extend(scaled(deployment, new, target));
        return plan;
    }
    let shrunk = shrink_old(deployment, new, &sets.old);
    if !shrunk.is_empty() {
        plan.actions = shrunk;
    } else if status::is_complete(deployment, deployment.status.as_ref()) {
        plan.actions = cleanup(deployment, &sets.old);
    }
    plan
}

/// Takes from old sets first what is unhealthy, then what availability allows, oldest first.
fn shrink_old(deployment: &Deployment, new: &ReplicaSet, old: &[Arc<ReplicaSet>]) -> Vec<Action> {
    let old_total = total_size(old);
    if old_total == 0 {
        return Vec::new();
    }
    let min_available = wanted(deployment) - max_unavailable(deployment);
    let new_unavailable = size(new) - available(new);
    let removable = old_total + size(new) - min_available - new_unavailable;
    if removable <= 0 {
        return Vec::new();
    }
    let mut sizes: HashMap<&str, i32> = HashMap::new();
    let mut unhealthy_left = removable;
    for set in old {
        let unhealthy = (size(set) - available(set)).max(0).min(unhealthy_left);
        unhealthy_left -= unhealthy;
        sizes.insert(name_of(set), size(set) - unhealthy);
    }
    let all_available: i32 = old.iter().map(|set| available(set)).sum::<i32>() + available(new);
    let mut surplus = (all_available - min_available).max(0);
    for set in old {
        if let Some(size) = sizes.get_mut(name_of(set)) {
            let taken = surplus.min(*size);
            *size -= taken;
            surplus -= taken;
        }
    }
    old.iter()
        .filter(|set| size(set) > 0)
        .filter_map(|set| {
            let to = sizes.get(name_of(set)).copied()?;
            (to != size(set)).then(|| scaled(deployment, set, to)).flatten()
        })
        .collect()
}

/// One step of a recreate: end all old pods, wait for them, then make the new set.
pub(super) fn recreate(seen: &Observed, sets: &Sets, now: Timestamp) -> Plan {
    let deployment = seen.deployment;
    if let Some(plan) = revised(deployment, sets, now) {
        return plan;
    }
    let mut plan = status::rolled(deployment, sets, now);
    let ended: Vec<Action> = sets
        .old
        .iter()
        .filter(|set| size(set) > 0)
        .filter_map(|set| scaled(deployment, set, 0))
        .collect();
    if !ended.is_empty() {
        plan.actions = ended;
        return plan;
    }
    let holds_pods =
        |set: &Arc<ReplicaSet>| set.status.as_ref().is_some_and(|s| s.replicas > 0) || (seen.old_pods)(set);
    if sets.old.iter().any(holds_pods) {
        plan.report.waiting = Some("old pods are still running".to_owned());
        return plan;
    }
    let Some(new) = &sets.new else {
        return created(seen, sets, now);
    };
    if size(new) != wanted(deployment) {
        plan.actions.extend(scaled(deployment, new, wanted(deployment)));
    } else if status::is_complete(deployment, deployment.status.as_ref()) {
        plan.actions = cleanup(deployment, &sets.old);
    }
    plan
}

/// Deletes the oldest unused ReplicaSets beyond the history limit.
pub(super) fn cleanup(deployment: &Deployment, old: &[Arc<ReplicaSet>]) -> Vec<Action> {
    let Some(limit) = spec_of(deployment)
        .revision_history_limit
        .filter(|l| *l != i32::MAX)
    else {
        return Vec::new();
    };
    let limit = usize::try_from(limit).unwrap_or(0);
    let mut standing: Vec<_> = old
        .iter()
        .filter(|set| set.metadata.deletion_timestamp.is_none())
        .collect();
    let surplus = standing.len().saturating_sub(limit);
    standing.sort_by_key(|set| find::revision(set));
    let settled = |set: &&&Arc<ReplicaSet>| {
        let observed = set.status.as_ref().and_then(|s| s.observed_generation);
        !is_used(set) && set.metadata.generation <= observed
    };
    standing
        .iter()
        .take(surplus)
        .filter(settled)
        .map(|set| Action::delete(set.as_ref()))
        .collect()
}
