//! Making the new ReplicaSet, and keeping its annotations and the deployment's revision right.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use keelson_controller::{Action, Note, Plan};

use super::find::{self, HASH_LABEL, REVISION};
use super::status::{self, condition};
use super::{Observed, Sets, size, spec_of, strategy};
use crate::owner;

/// Brings revision, annotations and condition of an existing new ReplicaSet in order; `None` when they are.
pub(super) fn revised(deployment: &Deployment, sets: &Sets, now: Timestamp) -> Option<Plan> {
    let new = sets.new.as_ref()?;
    let annotations = find::new_annotations(deployment, Some(new), next_revision(sets));
    let min_ready = spec_of(deployment).min_ready_seconds;
    let set_min_ready = new.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
    let stale = new.metadata.annotations.clone().unwrap_or_default() != annotations;
    if stale || set_min_ready.unwrap_or(0) != min_ready.unwrap_or(0) {
        let mut updated = new.as_ref().clone();
        updated.metadata.annotations = Some(annotations);
        updated.spec.get_or_insert_default().min_ready_seconds = min_ready;
        return Some(Plan::of(vec![Action::update(&updated)]));
    }
    let mut updated = deployment.clone();
    let mut changed = set_revision(&mut updated, annotations.get(REVISION));
    let standing = status::find(deployment, status::PROGRESSING);
    if standing.is_none() && status::deadline_s(deployment).is_some() {
        let message = format!("Found new replica set \"{}\"", super::name_of(new));
        let found = condition(status::PROGRESSING, "True", "FoundNewReplicaSet", message, now);
        status::set(updated.status.get_or_insert_default(), found);
        changed = true;
    }
    changed.then(|| Plan::of(vec![Action::update_status(&updated)]))
}

/// Creates the new ReplicaSet, sized as the strategy allows, and records it in the deployment.
pub(super) fn created(seen: &Observed, sets: &Sets, now: Timestamp) -> Plan {
    let deployment = seen.deployment;
    if seen.name_taken {
        // Another template hashed to the same name: the count makes the next hash differ.
        let mut updated = deployment.clone();
        let collisions = &mut updated.status.get_or_insert_default().collision_count;
        *collisions = Some(collisions.unwrap_or(0) + 1);
        return Plan::of(vec![Action::update_status(&updated)]);
    }
    let mut set = new_set(deployment, &seen.hash, next_revision(sets));
    let replicas = strategy::new_size(deployment, &sets.old, 0);
    set.spec.get_or_insert_default().replicas = Some(replicas);
    let name = super::name_of(&set).to_owned();
    let mut create = Action::create(&set).on_failure(Note::warning(
        deployment,
        "ReplicaSetCreateError",
        format!("Failed to create new replica set \"{name}\": {{error}}"),
    ));
    if replicas > 0 {
        let message = format!("Scaled up replica set {name} from 0 to {replicas}");
        create = create.on_success(Note::normal(deployment, "ScalingReplicaSet", message));
    }
    let mut updated = deployment.clone();
    let annotations = set.metadata.annotations.as_ref();
    set_revision(&mut updated, annotations.and_then(|a| a.get(REVISION)));
    if status::deadline_s(deployment).is_some() {
        let message = format!("Created new replica set \"{name}\"");
        let fresh = condition(status::PROGRESSING, "True", "NewReplicaSetCreated", message, now);
        status::set(updated.status.get_or_insert_default(), fresh);
    }
    let mut plan = Plan::of(vec![create, Action::update_status(&updated)]);
    plan.status = failed_before(seen, &name, now);
    plan
}

/// When creating failed the last time, the condition that says so.
fn failed_before(seen: &Observed, name: &str, now: Timestamp) -> Option<Action> {
    let failure = seen
        .last_failure
        .filter(|f| f.kind == "ReplicaSet" && f.code != 409)?;
    status::deadline_s(seen.deployment)?;
    let message = format!("Failed to create new replica set \"{name}\": {}", failure.message);
    let failed = condition(
        status::PROGRESSING,
        "False",
        "ReplicaSetCreateError",
        message,
        now,
    );
    let mut updated = seen.deployment.clone();
    status::set(updated.status.get_or_insert_default(), failed);
    (updated.status != seen.deployment.status).then(|| Action::update_status(&updated))
}

fn next_revision(sets: &Sets) -> i64 {
    sets.old.iter().map(|set| find::revision(set)).max().unwrap_or(0) + 1
}

fn set_revision(deployment: &mut Deployment, revision: Option<&String>) -> bool {
    let Some(revision) = revision else {
        return false;
    };
    let annotations = deployment.metadata.annotations.get_or_insert_default();
    annotations.insert(REVISION.to_owned(), revision.clone()).as_ref() != Some(revision)
}

fn new_set(deployment: &Deployment, hash: &str, revision: i64) -> ReplicaSet {
    let spec = spec_of(deployment);
    let labelled = |labels: &mut Option<std::collections::BTreeMap<String, String>>| {
        let labels = labels.get_or_insert_default();
        labels.insert(HASH_LABEL.to_owned(), hash.to_owned());
    };
    let mut template = spec.template.clone();
    labelled(&mut template.metadata.get_or_insert_default().labels);
    let mut selector = spec.selector.clone();
    labelled(&mut selector.match_labels);
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(find::new_set_name(deployment, hash)),
            namespace: deployment.metadata.namespace.clone(),
            labels: template.metadata.as_ref().and_then(|m| m.labels.clone()),
            annotations: Some(find::new_annotations(deployment, None, revision)),
            owner_references: Some(vec![owner::reference(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(0),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    }
}

/// Whether a set holds any pod or is told to.
pub(super) fn is_used(set: &ReplicaSet) -> bool {
    size(set) != 0 || set.status.as_ref().is_some_and(|status| status.replicas != 0)
}
