//! DaemonSet controller: one pod on each node that fits.
//!
//! `placement` decides which nodes fit and how a pod is bound to its node (by node affinity, so that the scheduler
//! still places it); `rollout` decides which pods are replaced. One plan: the revision, then missing and superfluous
//! pods, then a step of the rolling update, then history and status.
//! Left out: the growing pause before a failed pod is replaced; it is replaced once it is `FAILED_KEPT_S` old.

mod placement;
mod rollout;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetSpec, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod};
use keelson_client::{Event, Informer, Key};
use keelson_controller::{Action, Controller, Failure, Note, Plan, Queue};

use crate::context::Context;
use crate::history::{self, Current, HASH_LABEL};
use crate::{owner, pods, selector, triggers};

const NAME: &str = "daemonset-controller";
/// Pods created or deleted per plan, at most.
const BURST: usize = 250;
/// A failed pod is replaced no sooner than this after it was made, so that a crash loop stays slow.
const FAILED_KEPT_S: i64 = 5;

/// Starts the controller.
pub fn start(context: &Context) {
    let sets = context.informer::<DaemonSet>();
    let pods = context.informer::<Pod>();
    let nodes = context.informer::<Node>();
    let revisions = context.informer::<ControllerRevision>();
    pods.add_index(owner::INDEX, owner::index);
    revisions.add_index(owner::INDEX, owner::index);
    let queue = Queue::default();
    triggers::on_self(&sets, &queue);
    triggers::on_owned(&pods, &queue, "DaemonSet");
    triggers::on_owned(&revisions, &queue, "DaemonSet");
    let all = sets.clone();
    triggers::on_orphans(&pods, &queue, move |pod| {
        all.list_namespace(pod.metadata.namespace.as_deref().unwrap_or_default())
            .into_iter()
            .filter(|set| selects(set, pod.metadata.labels.as_ref()))
            .map(|set| Key::of(set.as_ref()))
            .collect()
    });
    let (all, changed) = (sets.clone(), queue.clone());
    nodes.on(move |event| {
        if !matches!(event, Event::Modified { old, new } if placement::same(old, new)) {
            all.list()
                .iter()
                .for_each(|set| changed.add(Key::of(set.as_ref())));
        }
    });
    let workers = context.config.concurrent.daemonset_syncs;
    let controller = Sets {
        sets,
        pods,
        nodes,
        revisions,
    };
    context.run(Arc::new(controller), queue, NAME, workers);
}

fn selects(set: &DaemonSet, labels: Option<&selector::Labels>) -> bool {
    let selector = set.spec.as_ref().map(|spec| &spec.selector);
    selector.is_some_and(|s| !selector::is_empty(s) && selector::matches(s, labels))
}

struct Sets {
    sets: Informer<DaemonSet>,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    revisions: Informer<ControllerRevision>,
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
            selects(&set, pod.metadata.labels.as_ref())
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
                nodes: &self.nodes.list(),
                revisions: &revisions.owned,
                name_taken: &|name| self.revisions.get(&key.namespace, name).is_some(),
            },
            now,
        )
    }
}

/// What a reconcile looks at.
struct Observed<'a> {
    set: &'a DaemonSet,
    pods: &'a [Arc<Pod>],
    nodes: &'a [Arc<Node>],
    revisions: &'a [Arc<ControllerRevision>],
    name_taken: &'a dyn Fn(&str) -> bool,
}

/// A node, whether it fits, and the set's pods there.
struct Place {
    node: String,
    should_run: bool,
    should_continue: bool,
    /// Oldest first.
    pods: Vec<Arc<Pod>>,
}

fn reconcile(seen: &Observed, now: Timestamp) -> Plan {
    let set = seen.set;
    let Some(spec) = &set.spec else {
        return Plan::nothing();
    };
    if selector::is_empty(&spec.selector) {
        let message = "This daemon set is selecting all pods. A non-empty selector is required.";
        let mut plan = Plan::nothing();
        plan.note(Note::warning(set, "SelectingAll", message));
        return plan;
    }
    if set.metadata.deletion_timestamp.is_some() {
        return Plan::nothing();
    }
    let owner = history::Owner {
        meta: &set.metadata,
        reference: owner::reference(set),
        collisions: set.status.as_ref().and_then(|s| s.collision_count),
    };
    let current = match history::current(&owner, &spec.template, seen.revisions, seen.name_taken) {
        Current::Is(revision) => revision,
        Current::Write(action) => return Plan::of(vec![*action]),
        Current::Collision => {
            let mut updated = set.clone();
            let count = &mut updated.status.get_or_insert_default().collision_count;
            *count = Some(count.unwrap_or(0) + 1);
            return Plan::of(vec![Action::update_status(&updated)]);
        }
    };
    let hash = history::hash(&current);
    let places = places(seen, spec);
    let mut plan = Plan::nothing();
    let (mut create, mut delete) = manage(seen, &places, hash, &mut plan, now);
    if create.is_empty() && delete.is_empty() {
        (create, delete) = rollout::step(spec, &places, hash, now);
    }
    let failed = |verb: &str| format!("Error {verb}: {{error}}");
    plan.actions.extend(delete.iter().take(BURST).map(|pod| {
        Action::delete(pod.as_ref())
            .on_success(Note::normal(set, "SuccessfulDelete", "Deleted pod: {name}"))
            .on_failure(Note::warning(set, "FailedDelete", failed("deleting")))
    }));
    plan.actions.extend(create.iter().take(BURST).map(|node| {
        let pod = placement::pod_for(set, spec, node, hash);
        Action::create(&pod)
            .on_success(Note::normal(set, "SuccessfulCreate", "Created pod: {name}"))
            .on_failure(Note::warning(set, "FailedCreate", failed("creating")))
    }));
    let live: HashSet<String> = seen
        .pods
        .iter()
        .filter_map(|pod| hash_of(pod).map(str::to_owned))
        .collect();
    let name = current.metadata.name.as_deref().unwrap_or_default();
    plan.actions.extend(history::cleanup(
        seen.revisions,
        &live,
        &[name],
        spec.revision_history_limit,
    ));
    status(seen, spec, &places, hash, &mut plan, now);
    plan
}

/// The revision hash a pod is of.
fn hash_of(pod: &Pod) -> Option<&str> {
    pod.metadata.labels.as_ref()?.get(HASH_LABEL).map(String::as_str)
}

fn places(seen: &Observed, spec: &DaemonSetSpec) -> Vec<Place> {
    let mut by_node: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
    for pod in seen.pods {
        by_node
            .entry(placement::target(pod))
            .or_default()
            .push(pod.clone());
    }
    let order = |pod: &Arc<Pod>| {
        let meta = &pod.metadata;
        (
            pods::node_name(pod).is_empty(),
            meta.creation_timestamp.as_ref().map(|t| t.0),
            meta.name.clone(),
        )
    };
    let pod_spec = placement::spec_with_tolerations(spec);
    seen.nodes
        .iter()
        .map(|node| {
            let name = node.metadata.name.clone().unwrap_or_default();
            let (should_run, should_continue) = placement::fits(&pod_spec, node);
            let mut pods = by_node.remove(&name).unwrap_or_default();
            pods.sort_by_key(order);
            Place {
                node: name,
                should_run,
                should_continue,
                pods,
            }
        })
        .collect()
}

/// Nodes that miss their pod, and pods that are too many or at the wrong place.
fn manage(
    seen: &Observed,
    places: &[Place],
    hash: &str,
    plan: &mut Plan,
    now: Timestamp,
) -> (Vec<String>, Vec<Arc<Pod>>) {
    let (mut create, mut delete) = (Vec::new(), Vec::new());
    let surges = seen
        .set
        .spec
        .as_ref()
        .is_some_and(|spec| rollout::max_surge(spec, places) > 0);
    for place in places {
        if place.should_run && place.pods.is_empty() {
            create.push(place.node.clone());
        } else if !place.should_continue {
            delete.extend(
                place
                    .pods
                    .iter()
                    .filter(|p| p.metadata.deletion_timestamp.is_none())
                    .cloned(),
            );
        } else {
            let (finished, running): (Vec<_>, Vec<_>) = place
                .pods
                .iter()
                .filter(|pod| pod.metadata.deletion_timestamp.is_none())
                .cloned()
                .partition(|pod| pods::is_finished(pod));
            for pod in finished {
                replace_finished(seen.set, &pod, &place.node, plan, &mut delete, now);
            }
            // While surging, the oldest of each revision stays: `rollout` ends the old one.
            let is_new = |pod: &Arc<Pod>| hash_of(pod) == Some(hash);
            let (new, old): (Vec<_>, Vec<_>) = running.into_iter().partition(|pod| surges && is_new(pod));
            delete.extend(old.into_iter().skip(1));
            delete.extend(new.into_iter().skip(1));
        }
    }
    (create, delete)
}

fn replace_finished(
    set: &DaemonSet,
    pod: &Arc<Pod>,
    node: &str,
    plan: &mut Plan,
    delete: &mut Vec<Arc<Pod>>,
    now: Timestamp,
) {
    let made = pod
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(0, |t| t.0.as_second());
    let left = made + FAILED_KEPT_S - now.as_second();
    if left > 0 {
        plan.again_after(Duration::from_secs(left.unsigned_abs()));
        return;
    }
    let key = Key::of(pod.as_ref());
    plan.note(if pods::phase(pod) == "Failed" {
        let message = format!("Found failed daemon pod {key} on node {node}, will try to kill it");
        Note::warning(set, "FailedDaemonPod", message)
    } else {
        let message = format!("Found succeeded daemon pod {key} on node {node}, will try to delete it");
        Note::normal(set, "SucceededDaemonPod", message)
    });
    delete.push(pod.clone());
}

fn status(
    seen: &Observed,
    spec: &DaemonSetSpec,
    places: &[Place],
    hash: &str,
    plan: &mut Plan,
    now: Timestamp,
) {
    let min_ready_s = spec.min_ready_seconds.unwrap_or(0);
    let mut status = DaemonSetStatus {
        observed_generation: seen.set.metadata.generation,
        ..seen.set.status.clone().unwrap_or_default()
    };
    let (mut desired, mut current, mut misplaced, mut ready, mut available, mut updated) = (0, 0, 0, 0, 0, 0);
    for place in places {
        let first = place.pods.first();
        desired += i32::from(place.should_run);
        misplaced += i32::from(!place.should_run && first.is_some());
        let Some(first) = first.filter(|_| place.should_run) else {
            continue;
        };
        current += 1;
        updated += i32::from(hash_of(first) == Some(hash));
        if pods::is_ready(first) {
            ready += 1;
            match pods::available_in_s(first, min_ready_s, now) {
                Some(0) => available += 1,
                Some(left) => plan.again_after(Duration::from_secs(left.unsigned_abs())),
                None => {}
            }
        }
    }
    let some = |number: i32| (number != 0).then_some(number);
    status.desired_number_scheduled = desired;
    status.current_number_scheduled = current;
    status.number_misscheduled = misplaced;
    status.number_ready = ready;
    status.updated_number_scheduled = some(updated);
    status.number_available = some(available);
    status.number_unavailable = some(desired - available);
    if seen.set.status.as_ref() != Some(&status) {
        let mut changed = seen.set.clone();
        changed.status = Some(status);
        plan.status = Some(Action::update_status(&changed));
    }
}

#[cfg(test)]
mod tests;
