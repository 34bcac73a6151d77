//! StatefulSet controller: pods with names, storage and order.
//!
//! Each plan walks the ordinals in order and stops at the first that has to be waited for (unless pods are managed in
//! parallel): missing pods are made, failed ones replaced, superfluous ones ended from the top, and then, from the top
//! too, one pod at a time is moved to the update revision. `identity` is what makes a pod the one of its ordinal.
//! Left out: persistentVolumeClaimRetentionPolicy other than Retain, and rolling updates with maxUnavailable.

mod identity;
mod walk;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetSpec, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};
use keelson_client::{Informer, Key};
use keelson_controller::{Action, Controller, Failure, Note, Plan, Queue};

use crate::context::Context;
use crate::history::{self, Current, HASH_LABEL};
use crate::{owner, pods, selector, triggers};

const NAME: &str = "statefulset-controller";

/// Starts the controller.
pub fn start(context: &Context) {
    let sets = context.informer::<StatefulSet>();
    let pods = context.informer::<Pod>();
    let revisions = context.informer::<ControllerRevision>();
    let claims = context.informer::<PersistentVolumeClaim>();
    pods.add_index(owner::INDEX, owner::index);
    revisions.add_index(owner::INDEX, owner::index);
    let queue = Queue::default();
    triggers::on_self(&sets, &queue);
    triggers::on_owned(&pods, &queue, "StatefulSet");
    triggers::on_owned(&revisions, &queue, "StatefulSet");
    let all = sets.clone();
    triggers::on_orphans(&pods, &queue, move |pod| {
        all.list_namespace(pod.metadata.namespace.as_deref().unwrap_or_default())
            .into_iter()
            .filter(|set| selects(set, pod.metadata.labels.as_ref()))
            .map(|set| Key::of(set.as_ref()))
            .collect()
    });
    let workers = context.config.concurrent.statefulset_syncs;
    let controller = Sets {
        sets,
        pods,
        revisions,
        claims,
    };
    context.run(Arc::new(controller), queue, NAME, workers);
}

fn selects(set: &StatefulSet, labels: Option<&selector::Labels>) -> bool {
    let selector = set.spec.as_ref().map(|spec| &spec.selector);
    selector.is_some_and(|s| !selector::is_empty(s) && selector::matches(s, labels))
}

struct Sets {
    sets: Informer<StatefulSet>,
    pods: Informer<Pod>,
    revisions: Informer<ControllerRevision>,
    claims: Informer<PersistentVolumeClaim>,
}

impl Controller for Sets {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, key: &Key, now: Timestamp, _: Option<&Failure>) -> Plan {
        let Some(set) = self.sets.get_key(key) else {
            return Plan::nothing();
        };
        let Some(uid) = &set.metadata.uid else {
            return Plan::nothing();
        };
        let orphans = owner::orphans(&key.namespace);
        let mut candidates = self.pods.by_index(owner::INDEX, uid);
        candidates.extend(self.pods.by_index(owner::INDEX, &orphans));
        let pods = owner::claim(set.as_ref(), candidates, |pod| {
            selects(&set, pod.metadata.labels.as_ref()) && identity::ordinal(&set, pod).is_some()
        });
        let mut candidates = self.revisions.by_index(owner::INDEX, uid);
        candidates.extend(self.revisions.by_index(owner::INDEX, &orphans));
        let revisions = owner::claim(set.as_ref(), candidates, |r| {
            selects(&set, r.metadata.labels.as_ref())
        });
        let claims: Vec<Action> = pods.actions.into_iter().chain(revisions.actions).collect();
        if !claims.is_empty() {
            return Plan::of(claims);
        }
        reconcile(
            &Observed {
                set: &set,
                pods: &pods.owned,
                revisions: &revisions.owned,
                name_taken: &|name| self.revisions.get(&key.namespace, name).is_some(),
                claim_exists: &|name| self.claims.get(&key.namespace, name).is_some(),
            },
            now,
        )
    }
}

/// What a reconcile looks at.
struct Observed<'a> {
    set: &'a StatefulSet,
    pods: &'a [Arc<Pod>],
    revisions: &'a [Arc<ControllerRevision>],
    name_taken: &'a dyn Fn(&str) -> bool,
    claim_exists: &'a dyn Fn(&str) -> bool,
}

/// The two revisions between which a set may be.
struct Revisions {
    current: String,
    update: String,
    /// Template of the current revision, where it is not the set's own.
    current_template: PodTemplateSpec,
}

fn reconcile(seen: &Observed, now: Timestamp) -> Plan {
    let set = seen.set;
    let Some(spec) = &set.spec else {
        return Plan::nothing();
    };
    if set.metadata.deletion_timestamp.is_some() {
        return Plan::nothing();
    }
    let owner = history::Owner {
        meta: &set.metadata,
        reference: owner::reference(set),
        collisions: set.status.as_ref().and_then(|s| s.collision_count),
    };
    let update = match history::current(&owner, &spec.template, seen.revisions, seen.name_taken) {
        Current::Is(revision) => revision,
        Current::Write(action) => return Plan::of(vec![*action]),
        Current::Collision => {
            let mut updated = set.clone();
            let count = &mut updated.status.get_or_insert_default().collision_count;
            *count = Some(count.unwrap_or(0) + 1);
            return Plan::of(vec![Action::update_status(&updated)]);
        }
    };
    let revisions = revisions(seen, spec, &update);
    let mut plan = walk::step(seen, spec, &revisions, now);
    let mut live: HashSet<String> = seen
        .pods
        .iter()
        .filter_map(|pod| revision_of(pod))
        .filter_map(|name| {
            seen.revisions
                .iter()
                .find(|r| r.metadata.name.as_deref() == Some(name))
        })
        .map(|revision| history::hash(revision).to_owned())
        .collect();
    live.insert(history::hash(&update).to_owned());
    plan.actions.extend(history::cleanup(
        seen.revisions,
        &live,
        &[&revisions.current, &revisions.update],
        spec.revision_history_limit,
    ));
    status(seen, spec, &revisions, &mut plan, now);
    plan
}

fn revisions(seen: &Observed, spec: &StatefulSetSpec, update: &ControllerRevision) -> Revisions {
    let update_name = update.metadata.name.clone().unwrap_or_default();
    let recorded = seen.set.status.as_ref().and_then(|s| s.current_revision.clone());
    let current = seen
        .revisions
        .iter()
        .find(|r| r.metadata.name == recorded && recorded.is_some());
    let template = current.and_then(|revision| {
        let data = revision.data.as_ref()?.0.get("spec")?.get("template")?.clone();
        serde_json::from_value(data).ok()
    });
    Revisions {
        current: current
            .and_then(|r| r.metadata.name.clone())
            .unwrap_or_else(|| update_name.clone()),
        update: update_name,
        current_template: template.unwrap_or_else(|| spec.template.clone()),
    }
}

/// Name of the revision a pod is of.
fn revision_of(pod: &Pod) -> Option<&str> {
    pod.metadata.labels.as_ref()?.get(HASH_LABEL).map(String::as_str)
}

fn is_running_and_ready(pod: &Pod) -> bool {
    pods::phase(pod) == "Running" && pods::is_ready(pod)
}

fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

fn wanted(spec: &StatefulSetSpec) -> i32 {
    spec.replicas.unwrap_or(1)
}

fn partition(spec: &StatefulSetSpec) -> i32 {
    let rolling = spec
        .update_strategy
        .as_ref()
        .and_then(|s| s.rolling_update.as_ref());
    rolling.and_then(|r| r.partition).unwrap_or(0)
}

fn is_on_delete(spec: &StatefulSetSpec) -> bool {
    let strategy = spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref());
    strategy == Some("OnDelete")
}

fn status(seen: &Observed, spec: &StatefulSetSpec, revisions: &Revisions, plan: &mut Plan, now: Timestamp) {
    let set = seen.set;
    let before = set.status.clone().unwrap_or_default();
    let min_ready_s = spec.min_ready_seconds.unwrap_or(0);
    let of_revision = |name: &str| {
        let live = seen.pods.iter().filter(|pod| !is_terminating(pod));
        live.filter(|pod| revision_of(pod) == Some(name)).count() as i32
    };
    let ready: Vec<&Arc<Pod>> = seen.pods.iter().filter(|pod| is_running_and_ready(pod)).collect();
    let mut available = 0;
    for pod in &ready {
        match pods::available_in_s(pod, min_ready_s, now) {
            Some(0) => available += 1,
            Some(left) => plan.again_after(Duration::from_secs(left.unsigned_abs())),
            None => {}
        }
    }
    let mut status = StatefulSetStatus {
        observed_generation: set.metadata.generation,
        replicas: seen.pods.len() as i32,
        ready_replicas: some(ready.len() as i32),
        available_replicas: Some(available),
        current_replicas: some(of_revision(&revisions.current)),
        updated_replicas: some(of_revision(&revisions.update)),
        current_revision: Some(revisions.current.clone()),
        update_revision: Some(revisions.update.clone()),
        collision_count: before.collision_count.or(Some(0)),
        conditions: before.conditions,
    };
    let all = Some(status.replicas);
    let finished = status.updated_replicas.or(Some(0)) == all
        && status.ready_replicas.or(Some(0)) == all
        && status.replicas == wanted(spec);
    if !is_on_delete(spec) && finished {
        status.current_replicas = status.updated_replicas;
        status.current_revision.clone_from(&status.update_revision);
    }
    if set.status.as_ref() != Some(&status) {
        let mut updated = set.clone();
        updated.status = Some(status);
        plan.status = Some(Action::update_status(&updated));
    }
}

fn some(number: i32) -> Option<i32> {
    (number != 0).then_some(number)
}

/// The events of a write on a pod of the set.
fn told(set: &StatefulSet, action: Action, verb: &'static str, what: &str) -> Action {
    let (success, failure) = match verb {
        "create" => ("SuccessfulCreate", "FailedCreate"),
        "delete" => ("SuccessfulDelete", "FailedDelete"),
        _ => ("SuccessfulUpdate", "FailedUpdate"),
    };
    let name = set.metadata.name.as_deref().unwrap_or_default();
    action
        .on_success(Note::normal(
            set,
            success,
            format!("{verb} {what} in StatefulSet {name} successful"),
        ))
        .on_failure(Note::warning(
            set,
            failure,
            format!("{verb} {what} in StatefulSet {name} failed error: {{error}}"),
        ))
}

#[cfg(test)]
mod tests;
