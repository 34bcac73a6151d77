//! Deployment controller: rolls ReplicaSets from one pod template to the next.
//!
//! Each plan takes one step of upstream's `syncDeployment`, in its order: revision bookkeeping and the new
//! ReplicaSet, then scaling (proportional when the Deployment itself was scaled or is paused), then the strategy's
//! step, then history cleanup and status. After the step's writes show in the cache the next plan is made.
//!
//! Files: `find` (which ReplicaSet is the new one, its name and annotations), `create` (making it), `scale`, `strategy`,
//! `status`. Left out: the `deprecated.deployment.rollback.to` annotation of extensions/v1beta1; kubectl's undo writes the template.

mod create;
mod find;
mod scale;
mod status;
mod strategy;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use keelson_client::{Event, Informer, Key};
use keelson_controller::{Action, Controller, Failure, Note, Plan, Queue};

use crate::context::Context;
use crate::{owner, pods, selector, triggers};

const NAME: &str = "deployment-controller";

/// Starts the controller.
pub fn start(context: &Context) {
    let deployments = context.informer::<Deployment>();
    let sets = context.informer::<ReplicaSet>();
    let pods = context.informer::<Pod>();
    sets.add_index(owner::INDEX, owner::index);
    pods.add_index(owner::INDEX, owner::index);
    let queue = Queue::default();
    triggers::on_self(&deployments, &queue);
    triggers::on_owned(&sets, &queue, "Deployment");
    let all = deployments.clone();
    triggers::on_orphans(&sets, &queue, move |set| {
        all.list_namespace(set.metadata.namespace.as_deref().unwrap_or_default())
            .into_iter()
            .filter(|deployment| selects(deployment, set))
            .map(|deployment| Key::of(deployment.as_ref()))
            .collect()
    });
    on_last_pod_gone(&deployments, &sets, &pods, &queue);
    let workers = context.config.concurrent.deployment_syncs;
    let controller = Deployments {
        deployments,
        sets,
        pods,
    };
    context.run(Arc::new(controller), queue, NAME, workers);
}

/// A Recreate rollout goes on when its last old pod is gone.
fn on_last_pod_gone(
    deployments: &Informer<Deployment>,
    sets: &Informer<ReplicaSet>,
    pods: &Informer<Pod>,
    queue: &Queue<Key>,
) {
    let (deployments, sets, queue) = (deployments.clone(), sets.clone(), queue.clone());
    pods.on(move |event| {
        let gone = match event {
            Event::Deleted(pod) => pod,
            Event::Modified { new, .. } if pods::is_finished(new) => new,
            _ => return,
        };
        let Some(set) = triggers::owner_key(gone.as_ref(), "ReplicaSet").and_then(|k| sets.get_key(&k))
        else {
            return;
        };
        let key = triggers::owner_key(set.as_ref(), "Deployment");
        let deployment = key.as_ref().and_then(|key| deployments.get_key(key));
        if deployment.is_some_and(|d| strategy::is_recreate(&d))
            && let Some(key) = key
        {
            queue.add(key);
        }
    });
}

struct Deployments {
    deployments: Informer<Deployment>,
    sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
}

impl Controller for Deployments {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, key: &Key, now: Timestamp, last_failure: Option<&Failure>) -> Plan {
        let Some(deployment) = self.deployments.get_key(key) else {
            return Plan::nothing();
        };
        let Some(uid) = &deployment.metadata.uid else {
            return Plan::nothing();
        };
        let mut candidates = self.sets.by_index(owner::INDEX, uid);
        candidates.extend(self.sets.by_index(owner::INDEX, &owner::orphans(&key.namespace)));
        let claimed = owner::claim(deployment.as_ref(), candidates, |set| selects(&deployment, set));
        if !claimed.actions.is_empty() {
            return Plan::of(claimed.actions);
        }
        let hash = find::template_hash(&deployment);
        let name = find::new_set_name(&deployment, &hash);
        let seen = Observed {
            deployment: &deployment,
            sets: &claimed.owned,
            hash,
            name_taken: self.sets.get(&key.namespace, &name).is_some(),
            old_pods: &|set| {
                let uid = set.metadata.uid.as_deref().unwrap_or_default();
                self.pods
                    .by_index(owner::INDEX, uid)
                    .iter()
                    .any(|pod| !pods::is_finished(pod))
            },
            last_failure,
        };
        reconcile(&seen, now)
    }
}

fn selects(deployment: &Deployment, set: &ReplicaSet) -> bool {
    let selector = deployment.spec.as_ref().map(|spec| &spec.selector);
    selector.is_some_and(|s| !selector::is_empty(s) && selector::matches(s, set.metadata.labels.as_ref()))
}

/// What a reconcile looks at.
struct Observed<'a> {
    deployment: &'a Deployment,
    /// The ReplicaSets it owns.
    sets: &'a [Arc<ReplicaSet>],
    /// pod-template-hash of the current template and collision count.
    hash: String,
    /// A ReplicaSet of the name the new one would get exists, whoever owns it.
    name_taken: bool,
    /// Whether a ReplicaSet still has pods that run or may run.
    old_pods: &'a dyn Fn(&ReplicaSet) -> bool,
    last_failure: Option<&'a Failure>,
}

/// The sets of a deployment, told apart.
struct Sets {
    new: Option<Arc<ReplicaSet>>,
    /// All others, oldest first.
    old: Vec<Arc<ReplicaSet>>,
}

impl Sets {
    fn all(&self) -> Vec<Arc<ReplicaSet>> {
        self.old.iter().chain(&self.new).cloned().collect()
    }
}

fn reconcile(seen: &Observed, now: Timestamp) -> Plan {
    let deployment = seen.deployment;
    let Some(spec) = &deployment.spec else {
        return Plan::nothing();
    };
    if selector::is_empty(&spec.selector) {
        return selects_all(deployment);
    }
    let sets = find::told_apart(deployment, seen.sets);
    if deployment.metadata.deletion_timestamp.is_some() {
        return status::synced(deployment, &sets, now);
    }
    if let Some(update) = status::paused_condition(deployment, now) {
        return Plan::of(vec![Action::update_status(&update)]);
    }
    let paused = spec.paused == Some(true);
    if paused || scale::is_scaling_event(deployment, seen.sets) {
        return sync(deployment, &sets, paused, now);
    }
    if strategy::is_recreate(deployment) {
        strategy::recreate(seen, &sets, now)
    } else {
        strategy::rolling_update(seen, &sets, now)
    }
}

/// Scaling and pausing: no new ReplicaSet is made, all existing ones keep their proportion.
fn sync(deployment: &Deployment, sets: &Sets, paused: bool, now: Timestamp) -> Plan {
    if let Some(plan) = create::revised(deployment, sets, now) {
        return plan;
    }
    let actions = scale::proportionally(deployment, sets);
    if !actions.is_empty() {
        return Plan::of(actions);
    }
    let mut plan = status::synced(deployment, sets, now);
    if paused {
        plan.actions = strategy::cleanup(deployment, &sets.old);
    }
    plan
}

fn selects_all(deployment: &Deployment) -> Plan {
    let message = "This deployment is selecting all pods. A non-empty selector is required.";
    let mut plan = Plan::nothing();
    let observed = deployment.status.as_ref().and_then(|s| s.observed_generation);
    if observed < deployment.metadata.generation {
        plan.note(Note::warning(deployment, "SelectingAll", message));
        let mut updated = deployment.clone();
        updated.status.get_or_insert_default().observed_generation = deployment.metadata.generation;
        plan.status = Some(Action::update_status(&updated));
    }
    plan
}

fn spec_of(deployment: &Deployment) -> &DeploymentSpec {
    deployment
        .spec
        .as_ref()
        .expect("reconcile returns early for a deployment without a spec")
}

fn wanted(deployment: &Deployment) -> i32 {
    spec_of(deployment).replicas.unwrap_or(1)
}

/// `spec.replicas` of a ReplicaSet.
fn size(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

fn total_size(sets: &[Arc<ReplicaSet>]) -> i32 {
    sets.iter().map(|set| size(set)).sum()
}

fn available(set: &ReplicaSet) -> i32 {
    set.status
        .as_ref()
        .and_then(|s| s.available_replicas)
        .unwrap_or(0)
}

fn name_of(set: &ReplicaSet) -> &str {
    set.metadata.name.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests;
