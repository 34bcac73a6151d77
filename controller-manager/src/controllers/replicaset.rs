//! ReplicaSet controller: as many pods as the ReplicaSet asks for.
//!
//! Also the whole logic of ReplicationControllers, which are read as ReplicaSets (see `replicationcontroller.rs`).
//! Invariant: at most `BURST` pods are created or deleted per plan; which pods go is `pods::sort_for_deletion`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use keelson_client::{EventType, Informer, Key};
use keelson_controller::{Action, Controller, Failure, Note, Plan, Queue, Verb};

use crate::context::Context;
use crate::{owner, pods, selector, triggers};

/// Pods created or deleted per plan, at most.
pub const BURST: usize = 500;

const NAME: &str = "replicaset-controller";

/// Starts the controller.
pub fn start(context: &Context) {
    let sets = context.informer::<ReplicaSet>();
    let pods = context.informer::<Pod>();
    sets.add_index(owner::INDEX, owner::index);
    pods.add_index(owner::INDEX, owner::index);
    let queue = Queue::default();
    triggers::on_self(&sets, &queue);
    triggers::on_owned(&pods, &queue, "ReplicaSet");
    let all = sets.clone();
    triggers::on_orphans(&pods, &queue, move |pod| {
        all.list_namespace(pod.metadata.namespace.as_deref().unwrap_or_default())
            .into_iter()
            .filter(|set| selects(set, pod))
            .map(|set| Key::of(set.as_ref()))
            .collect()
    });
    let workers = context.config.concurrent.replicaset_syncs;
    context.run(Arc::new(Sets { sets, pods }), queue, NAME, workers);
}

struct Sets {
    sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
}

impl Controller for Sets {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, key: &Key, now: Timestamp, last_failure: Option<&Failure>) -> Plan {
        let Some(set) = self.sets.get_key(key) else {
            return Plan::nothing();
        };
        let Some(uid) = &set.metadata.uid else {
            return Plan::nothing();
        };
        let mut candidates = self.pods.by_index(owner::INDEX, uid);
        candidates.extend(self.pods.by_index(owner::INDEX, &owner::orphans(&key.namespace)));
        candidates.retain(|pod| !pods::is_finished(pod));
        let claimed = owner::claim(set.as_ref(), candidates, |pod| selects(&set, pod));
        if !claimed.actions.is_empty() {
            return Plan::of(claimed.actions);
        }
        let siblings: Vec<Arc<Pod>> = owner::controller_of(&set.metadata)
            .map(|parent| self.sets.by_index(owner::INDEX, &parent.uid))
            .unwrap_or_default()
            .iter()
            .filter_map(|sibling| sibling.metadata.uid.as_ref())
            .flat_map(|uid| self.pods.by_index(owner::INDEX, uid))
            .collect();
        let plan = reconcile(
            &Observed {
                set: &set,
                owner: owner::reference(set.as_ref()),
                about: keelson_client::events::reference(set.as_ref()),
                pods: &claimed.owned,
                related: &siblings,
                last_failure,
            },
            now,
        );
        let status = plan.status.map(|status| {
            let mut updated = set.as_ref().clone();
            updated.status = Some(status);
            Action::update_status(&updated)
        });
        Plan {
            actions: plan.actions,
            status,
            retry_after: plan.retry_after,
            ..Plan::default()
        }
    }
}

fn selects(set: &ReplicaSet, pod: &Pod) -> bool {
    let selector = set.spec.as_ref().map(|spec| &spec.selector);
    selector.is_some_and(|s| !selector::is_empty(s) && selector::matches(s, pod.metadata.labels.as_ref()))
}

/// What a reconcile looks at.
pub struct Observed<'a> {
    /// The set, or a ReplicationController read as one.
    pub set: &'a ReplicaSet,
    /// How its pods refer to it.
    pub owner: OwnerReference,
    /// What its events are about.
    pub about: k8s_openapi::api::core::v1::ObjectReference,
    /// The pods it owns, in any state.
    pub pods: &'a [Arc<Pod>],
    /// Pods of all sets with the same parent, itself included.
    pub related: &'a [Arc<Pod>],
    /// What went wrong the last time.
    pub last_failure: Option<&'a Failure>,
}

/// A plan whose status is not yet an action, because two kinds share it.
#[derive(Debug, Default)]
pub struct SetPlan {
    /// Pods to create and delete.
    pub actions: Vec<Action>,
    /// The new status, when it differs.
    pub status: Option<ReplicaSetStatus>,
    /// When a ready pod becomes available.
    pub retry_after: Option<Duration>,
}

/// Decides on pods and status.
pub fn reconcile(seen: &Observed, now: Timestamp) -> SetPlan {
    let default = ReplicaSetSpec::default();
    let spec = seen.set.spec.as_ref().unwrap_or(&default);
    let active: Vec<Arc<Pod>> = seen
        .pods
        .iter()
        .filter(|pod| pods::is_active(pod))
        .cloned()
        .collect();
    let mut plan = SetPlan::default();
    if seen.set.metadata.deletion_timestamp.is_none() {
        plan.actions = replicas_actions(seen, spec, &active, now);
    }
    let status = next_status(seen, spec, &active, now);
    plan.retry_after = availability_due(spec, &status, &active, now);
    if seen.set.status.as_ref() != Some(&status) {
        plan.status = Some(status);
    }
    plan
}

fn replicas_actions(
    seen: &Observed,
    spec: &ReplicaSetSpec,
    active: &[Arc<Pod>],
    now: Timestamp,
) -> Vec<Action> {
    let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    if active.len() < wanted {
        let Some(template) = &spec.template else {
            return Vec::new();
        };
        let namespace = seen.set.metadata.namespace.as_deref().unwrap_or_default();
        let pod = pods::from_template(template, namespace, seen.owner.clone());
        let create = Action::create(&pod)
            .on_success(note(
                seen,
                EventType::Normal,
                "SuccessfulCreate",
                "Created pod: {name}",
            ))
            .on_failure(note(
                seen,
                EventType::Warning,
                "FailedCreate",
                "Error creating: {error}",
            ));
        return vec![create; (wanted - active.len()).min(BURST)];
    }
    let mut ranked = active.to_vec();
    let surplus = (active.len() - wanted).min(BURST);
    if surplus < active.len() {
        let mut on_node: HashMap<String, usize> = HashMap::new();
        for pod in seen.related.iter().filter(|pod| pods::is_active(pod)) {
            *on_node.entry(pods::node_name(pod).to_owned()).or_default() += 1;
        }
        pods::sort_for_deletion(&mut ranked, &on_node, now);
    }
    ranked
        .iter()
        .take(surplus)
        .map(|pod| {
            Action::delete(pod.as_ref())
                .on_success(note(
                    seen,
                    EventType::Normal,
                    "SuccessfulDelete",
                    "Deleted pod: {name}",
                ))
                .on_failure(note(
                    seen,
                    EventType::Warning,
                    "FailedDelete",
                    "Error deleting: {error}",
                ))
        })
        .collect()
}

fn note(seen: &Observed, type_: EventType, reason: &'static str, message: &str) -> Note {
    Note {
        object: seen.about.clone(),
        type_,
        reason,
        message: message.to_owned(),
    }
}

fn next_status(
    seen: &Observed,
    spec: &ReplicaSetSpec,
    active: &[Arc<Pod>],
    now: Timestamp,
) -> ReplicaSetStatus {
    let min_ready_s = spec.min_ready_seconds.unwrap_or(0);
    let template_labels = spec
        .template
        .as_ref()
        .and_then(|template| template.metadata.as_ref()?.labels.clone())
        .unwrap_or_default();
    let count = |test: &dyn Fn(&Pod) -> bool| active.iter().filter(|pod| test(pod)).count() as i32;
    let labeled = count(&|pod| selector::matches_map(&template_labels, pod.metadata.labels.as_ref()));
    let leaving = |pod: &&Arc<Pod>| pod.metadata.deletion_timestamp.is_some() && !pods::is_finished(pod);
    let before = seen.set.status.clone().unwrap_or_default();
    ReplicaSetStatus {
        replicas: active.len() as i32,
        fully_labeled_replicas: positive(labeled),
        ready_replicas: positive(count(&pods::is_ready)),
        available_replicas: positive(count(&|pod| pods::is_available(pod, min_ready_s, now))),
        terminating_replicas: Some(seen.pods.iter().filter(leaving).count() as i32),
        observed_generation: seen.set.metadata.generation,
        conditions: failure_condition(before.conditions, seen.last_failure, now),
    }
}

/// Zero is left out, as the API server leaves it out.
fn positive(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

fn failure_condition(
    before: Option<Vec<ReplicaSetCondition>>,
    failure: Option<&Failure>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = before.unwrap_or_default();
    let reason = match failure.map(|failure| failure.verb) {
        Some(Verb::Create) => Some("FailedCreate"),
        Some(Verb::Delete) => Some("FailedDelete"),
        _ => None,
    };
    let standing = conditions.iter().position(|c| c.type_ == "ReplicaFailure");
    match (reason, standing) {
        (Some(reason), None) => conditions.push(ReplicaSetCondition {
            type_: "ReplicaFailure".to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: failure.map(|failure| failure.message.clone()),
            last_transition_time: Some(Time(now)),
        }),
        (None, Some(index)) => {
            conditions.remove(index);
        }
        _ => {}
    }
    (!conditions.is_empty()).then_some(conditions)
}

/// When the next ready pod becomes available, if all are ready and some are not yet available.
fn availability_due(
    spec: &ReplicaSetSpec,
    status: &ReplicaSetStatus,
    active: &[Arc<Pod>],
    now: Timestamp,
) -> Option<Duration> {
    let min_ready_s = spec.min_ready_seconds.unwrap_or(0);
    if min_ready_s == 0 || status.ready_replicas == status.available_replicas {
        return None;
    }
    let due = active
        .iter()
        .filter_map(|pod| pods::available_in_s(pod, min_ready_s, now))
        .filter(|seconds| *seconds > 0)
        .min()?;
    Some(Duration::from_secs(due.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{PodCondition, PodStatus, PodTemplateSpec};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    fn pod(name: &str, phase: &str, ready: bool) -> Arc<Pod> {
        Arc::new(Pod {
            metadata: ObjectMeta {
                name: Some(name.into()),
                ..ObjectMeta::default()
            },
            status: Some(PodStatus {
                phase: Some(phase.into()),
                conditions: ready.then(|| {
                    vec![PodCondition {
                        type_: "Ready".into(),
                        status: "True".into(),
                        last_transition_time: Some(Time(Timestamp::UNIX_EPOCH)),
                        ..PodCondition::default()
                    }]
                }),
                ..PodStatus::default()
            }),
            ..Pod::default()
        })
    }

    fn set(replicas: i32, min_ready_s: i32) -> ReplicaSet {
        ReplicaSet {
            spec: Some(ReplicaSetSpec {
                replicas: Some(replicas),
                min_ready_seconds: Some(min_ready_s),
                template: Some(PodTemplateSpec::default()),
                ..ReplicaSetSpec::default()
            }),
            ..ReplicaSet::default()
        }
    }

    fn decide(set: &ReplicaSet, pods: &[Arc<Pod>], failure: Option<&Failure>, at_s: i64) -> SetPlan {
        let seen = Observed {
            set,
            owner: owner::reference(set),
            about: keelson_client::events::reference(set),
            pods,
            related: &[],
            last_failure: failure,
        };
        reconcile(&seen, Timestamp::from_second(at_s).unwrap())
    }

    #[test]
    fn counts_are_met() {
        let running = [
            pod("a", "Running", true),
            pod("b", "Running", false),
            pod("c", "Failed", false),
        ];
        let table = [(4, 2, 0), (2, 0, 0), (1, 0, 1), (0, 0, 2)];
        for (replicas, created, deleted) in table {
            let plan = decide(&set(replicas, 0), &running, None, 10);
            let of = |verb| plan.actions.iter().filter(|a| a.verb == verb).count();
            assert_eq!(
                (of(Verb::Create), of(Verb::Delete)),
                (created, deleted),
                "{replicas}"
            );
        }
        let plan = decide(&set(1, 0), &running, None, 10);
        assert_eq!(plan.actions[0].target.name, "b", "the unready one goes");
        let status = plan.status.unwrap();
        assert_eq!((status.replicas, status.ready_replicas), (2, Some(1)));
    }

    #[test]
    fn a_burst_is_bounded() {
        assert_eq!(decide(&set(2000, 0), &[], None, 0).actions.len(), BURST);
    }

    #[test]
    fn availability_is_waited_for() {
        let plan = decide(&set(1, 30), &[pod("a", "Running", true)], None, 10);
        assert_eq!(plan.retry_after, Some(Duration::from_secs(20)));
        assert_eq!(plan.status.unwrap().available_replicas, None);
        let plan = decide(&set(1, 30), &[pod("a", "Running", true)], None, 30);
        assert_eq!(
            (plan.retry_after, plan.status.unwrap().available_replicas),
            (None, Some(1))
        );
    }

    #[test]
    fn a_failure_becomes_a_condition_and_leaves() {
        let failure = Failure {
            verb: Verb::Create,
            kind: "Pod".into(),
            code: 403,
            message: "exceeded quota".into(),
            namespace_terminating: false,
        };
        let mut failing = set(1, 0);
        failing.status = decide(&failing, &[], Some(&failure), 10).status;
        let condition = failing.status.clone().unwrap().conditions.unwrap().remove(0);
        assert_eq!(condition.reason.as_deref(), Some("FailedCreate"));
        assert!(
            decide(&failing, &[], Some(&failure), 20).status.is_none(),
            "settled"
        );
        assert!(
            decide(&failing, &[], None, 30)
                .status
                .unwrap()
                .conditions
                .is_none()
        );
    }
}
