//! Which ReplicaSet is the new one; revisions; the annotations ReplicaSets carry.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;

use super::{Sets, spec_of, wanted};
use crate::controllers::deployment::strategy::max_surge;

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";
pub(super) const HASH_LABEL: &str = "pod-template-hash";
/// Length of the revision history annotation, at most.
const HISTORY_CHARS_MAX: usize = 2000;
/// Annotations of a Deployment that its ReplicaSets do not get.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];

type Annotations = BTreeMap<String, String>;

/// The oldest ReplicaSet with the deployment's template is the new one; all others are old.
pub(super) fn told_apart(deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> Sets {
    let mut sorted = sets.to_vec();
    sorted.sort_by(|a, b| age_order(a).cmp(&age_order(b)));
    let template = &spec_of(deployment).template;
    let index = sorted
        .iter()
        .position(|set| same_template(set.spec.as_ref().and_then(|s| s.template.as_ref()), template));
    let new = index.map(|index| sorted.remove(index));
    Sets { new, old: sorted }
}

fn age_order(set: &ReplicaSet) -> (Option<jiff::Timestamp>, Option<&str>) {
    let meta = &set.metadata;
    (
        meta.creation_timestamp.as_ref().map(|t| t.0),
        meta.name.as_deref(),
    )
}

/// Equal but for the label that tells ReplicaSets apart.
fn same_template(theirs: Option<&PodTemplateSpec>, ours: &PodTemplateSpec) -> bool {
    theirs.is_some_and(|theirs| theirs.spec == ours.spec && without_hash(theirs) == without_hash(ours))
}

fn without_hash(template: &PodTemplateSpec) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
    let mut meta = template.metadata.clone().unwrap_or_default();
    if let Some(labels) = &mut meta.labels {
        labels.remove(HASH_LABEL);
        if labels.is_empty() {
            meta.labels = None;
        }
    }
    meta.creation_timestamp = None;
    meta
}

/// FNV-1a of the template as JSON and the collision count, in letters that form no words.
pub(super) fn template_hash(deployment: &Deployment) -> String {
    let Some(spec) = &deployment.spec else {
        return String::new();
    };
    let json =
        serde_json::to_vec(&spec.template).expect("k8s-openapi objects have string keys and finite numbers");
    let collisions = deployment.status.as_ref().and_then(|s| s.collision_count);
    crate::revision::hash_name(&json, collisions)
}

pub(super) fn new_set_name(deployment: &Deployment, hash: &str) -> String {
    format!(
        "{}-{hash}",
        deployment.metadata.name.as_deref().unwrap_or_default()
    )
}

/// The revision recorded on a ReplicaSet; 0 when none is.
pub(super) fn revision(set: &ReplicaSet) -> i64 {
    let annotations = set.metadata.annotations.as_ref();
    let value = annotations.and_then(|a| a.get(REVISION));
    value.and_then(|v| v.parse().ok()).unwrap_or(0)
}

pub(super) fn replicas_annotation(set: &ReplicaSet, name: &str) -> Option<i32> {
    set.metadata.annotations.as_ref()?.get(name)?.parse().ok()
}

/// The annotations the new ReplicaSet should have, given those it has.
pub(super) fn new_annotations(
    deployment: &Deployment,
    existing: Option<&ReplicaSet>,
    next_revision: i64,
) -> Annotations {
    let mut annotations = existing
        .and_then(|set| set.metadata.annotations.clone())
        .unwrap_or_default();
    let of_deployment = deployment.metadata.annotations.iter().flatten();
    for (key, value) in of_deployment.filter(|(key, _)| !NOT_COPIED.contains(&key.as_str())) {
        annotations.insert(key.clone(), value.clone());
    }
    let recorded = annotations.get(REVISION).cloned();
    let recorded_number = recorded.as_ref().and_then(|r| r.parse().ok()).unwrap_or(0);
    if recorded_number < next_revision {
        annotations.insert(REVISION.to_owned(), next_revision.to_string());
        if let Some(recorded) = recorded {
            let history = annotations.entry(REVISION_HISTORY.to_owned()).or_default();
            push_history(history, &recorded);
        }
    }
    if existing.is_none() {
        annotations.extend(size_annotations(deployment));
    }
    annotations
}

fn push_history(history: &mut String, revision: &str) {
    if !history.is_empty() {
        history.push(',');
    }
    history.push_str(revision);
    while history.len() > HISTORY_CHARS_MAX {
        match history.find(',') {
            Some(comma) => history.replace_range(..=comma, ""),
            None => history.clear(),
        }
    }
}

/// What tells scaling of the Deployment from the steps of a rollout.
pub(super) fn size_annotations(deployment: &Deployment) -> [(String, String); 2] {
    let wanted = wanted(deployment);
    [
        (DESIRED.to_owned(), wanted.to_string()),
        (MAX.to_owned(), (wanted + max_surge(deployment)).to_string()),
    ]
}
