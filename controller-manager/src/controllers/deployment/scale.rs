//! Scaling ReplicaSets: one at a time, or all in proportion when the Deployment itself was scaled.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use keelson_controller::{Action, Note};

use super::find::{self, DESIRED, MAX, size_annotations};
use super::strategy::{is_recreate, max_surge};
use super::{Sets, available, name_of, size, total_size, wanted};

/// Whether `spec.replicas` of the Deployment changed since its sets were last sized.
pub(super) fn is_scaling_event(deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> bool {
    sets.iter()
        .filter(|set| size(set) > 0)
        .filter_map(|set| find::replicas_annotation(set, DESIRED))
        .any(|desired| desired != wanted(deployment))
}

/// Sets a ReplicaSet's size and the annotations that go with it; `None` when both are right.
pub(super) fn scaled(deployment: &Deployment, set: &ReplicaSet, to: i32) -> Option<Action> {
    let from = size(set);
    let annotations = set.metadata.annotations.as_ref();
    let sizes = size_annotations(deployment);
    let annotated = sizes
        .iter()
        .all(|(key, value)| annotations.and_then(|a| a.get(key)) == Some(value));
    if from == to && annotated {
        return None;
    }
    let mut updated = set.clone();
    updated.spec.get_or_insert_default().replicas = Some(to);
    updated.metadata.annotations.get_or_insert_default().extend(sizes);
    let action = Action::update(&updated);
    if from == to {
        return Some(action);
    }
    let direction = if from < to { "up" } else { "down" };
    let message = format!(
        "Scaled {direction} replica set {} from {from} to {to}",
        name_of(set)
    );
    Some(action.on_success(Note::normal(deployment, "ScalingReplicaSet", message)))
}

/// Follows a change of the Deployment's own size (or its pause): upstream's `scale`.
pub(super) fn proportionally(deployment: &Deployment, sets: &Sets) -> Vec<Action> {
    let wanted = wanted(deployment);
    if let Some(only) = active_or_latest(sets) {
        if size(&only) == wanted {
            return Vec::new();
        }
        return scaled(deployment, &only, wanted).into_iter().collect();
    }
    let active_old = sets.old.iter().filter(|set| size(set) > 0);
    if sets.new.as_ref().is_some_and(|new| is_saturated(deployment, new)) {
        return active_old.filter_map(|set| scaled(deployment, set, 0)).collect();
    }
    if is_recreate(deployment) {
        return Vec::new();
    }
    let mut active: Vec<_> = sets.all().into_iter().filter(|set| size(set) > 0).collect();
    let sizes = proportions(deployment, &mut active);
    active
        .iter()
        .zip(sizes)
        .filter_map(|(set, to)| scaled(deployment, set, to))
        .collect()
}

/// The one set to scale, when there is no choice to make.
fn active_or_latest(sets: &Sets) -> Option<Arc<ReplicaSet>> {
    let all = sets.all();
    let mut active = all.iter().filter(|set| size(set) > 0);
    match (active.next(), active.next()) {
        (None, _) => sets.new.clone().or_else(|| sets.old.last().cloned()),
        (Some(only), None) => Some(only.clone()),
        _ => None,
    }
}

fn is_saturated(deployment: &Deployment, new: &ReplicaSet) -> bool {
    let wanted = wanted(deployment);
    find::replicas_annotation(new, DESIRED) == Some(wanted) && size(new) == wanted && available(new) == wanted
}

/// Shares what is to be added or removed among active sets by their size; what rounding leaves goes to the first.
///
/// Example: 10 -> 15 with sets of 8 and 2 (no surge): +4 and +1.
fn proportions(deployment: &Deployment, active: &mut [Arc<ReplicaSet>]) -> Vec<i32> {
    let allowed = match wanted(deployment) {
        0 => 0,
        wanted => wanted + max_surge(deployment),
    };
    let to_add = allowed - total_size(active);
    let created = |set: &Arc<ReplicaSet>| set.metadata.creation_timestamp.as_ref().map(|t| t.0);
    active.sort_by(|a, b| {
        let by_age = created(a).cmp(&created(b));
        size(b)
            .cmp(&size(a))
            .then(if to_add > 0 { by_age.reverse() } else { by_age })
    });
    let mut added = 0;
    let mut sizes: Vec<i32> = active
        .iter()
        .map(|set| {
            let part = proportion(deployment, set, to_add, added);
            added += part;
            size(set) + part
        })
        .collect();
    if let Some(first) = sizes.first_mut()
        && to_add != 0
    {
        *first = (*first + to_add - added).max(0);
    }
    sizes
}

fn proportion(deployment: &Deployment, set: &ReplicaSet, to_add: i32, added: i32) -> i32 {
    if size(set) == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let fraction = fraction(deployment, set);
    let left = to_add - added;
    if to_add > 0 {
        fraction.min(left)
    } else {
        fraction.max(left)
    }
}

fn fraction(deployment: &Deployment, set: &ReplicaSet) -> i32 {
    if wanted(deployment) == 0 {
        return -size(set);
    }
    let most = f64::from(wanted(deployment) + max_surge(deployment));
    let most_before = find::replicas_annotation(set, MAX)
        .filter(|max| *max != 0)
        .or_else(|| deployment.status.as_ref()?.replicas)
        .unwrap_or(0);
    if most_before == 0 {
        return 0;
    }
    let scaled = f64::from(size(set)) * most / f64::from(most_before);
    scaled.round() as i32 - size(set)
}
