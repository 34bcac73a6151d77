//! Disruption controller: how many pods of a PodDisruptionBudget may be evicted now.
//!
//! What is expected comes from the pods' controllers (their size), asked through known kinds; maxUnavailable and
//! percentages need it. An eviction the API server allowed is remembered in `disruptedPods` until the pod is seen
//! leaving, or for two minutes. Left out: controllers of kinds of custom resources (their /scale).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use keelson_client::{Event, Informer, Key};
use keelson_controller::{Action, Controller, Failure, Note, Plan, Queue};

use crate::context::Context;
use crate::scaled::absolute;
use crate::{owner, pods, selector, triggers};

const NAME: &str = "disruption-controller";
/// Source of its events.
const SOURCE: &str = "controllermanager";
/// How long an allowed eviction is waited for.
const EVICTION_WAIT_S: i64 = 120;

/// Starts the controller.
pub fn start(context: &Context) {
    let budgets = context.informer::<PodDisruptionBudget>();
    let pods = context.informer::<Pod>();
    let queue = Queue::default();
    triggers::on_self(&budgets, &queue);
    let (all, changed) = (budgets.clone(), queue.clone());
    pods.on(move |event| {
        let (before, after) = match event {
            Event::Modified { old, new } => (Some(old), new),
            Event::Added(pod) | Event::Deleted(pod) => (None, pod),
        };
        for budget in all.list_namespace(after.metadata.namespace.as_deref().unwrap_or_default()) {
            if selects(&budget, after) || before.is_some_and(|pod| selects(&budget, pod)) {
                changed.add(Key::of(budget.as_ref()));
            }
        }
    });
    let controller = Budgets {
        budgets,
        pods,
        sets: context.informer::<ReplicaSet>(),
        deployments: context.informer::<Deployment>(),
        stateful: context.informer::<StatefulSet>(),
        replication: context.informer::<ReplicationController>(),
    };
    follow_sizes(&controller, &queue);
    context.run(Arc::new(controller), queue, SOURCE, 2);
}

/// A controller that was scaled changes what its pods' budgets expect.
fn follow_sizes(controller: &Budgets, queue: &Queue<Key>) {
    let all = controller.budgets.clone();
    let queue = queue.clone();
    let in_namespace = move |namespace: Option<&String>| {
        let budgets = all.list_namespace(namespace.map_or("", String::as_str));
        budgets
            .iter()
            .for_each(|budget| queue.add(Key::of(budget.as_ref())));
    };
    let deployments = in_namespace.clone();
    controller.deployments.on(move |event| {
        let size = |d: &Deployment| d.spec.as_ref().and_then(|s| s.replicas);
        if matches!(event, Event::Modified { old, new } if size(old) != size(new)) {
            deployments(event.object().metadata.namespace.as_ref());
        }
    });
    controller.stateful.on(move |event| {
        let size = |s: &StatefulSet| s.spec.as_ref().and_then(|s| s.replicas);
        if matches!(event, Event::Modified { old, new } if size(old) != size(new)) {
            in_namespace(event.object().metadata.namespace.as_ref());
        }
    });
}

fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|s| selector::matches(s, pod.metadata.labels.as_ref()))
}

struct Budgets {
    budgets: Informer<PodDisruptionBudget>,
    pods: Informer<Pod>,
    sets: Informer<ReplicaSet>,
    deployments: Informer<Deployment>,
    stateful: Informer<StatefulSet>,
    replication: Informer<ReplicationController>,
}

impl Budgets {
    /// uid and size of the controller that decides on a pod's number.
    fn size_of(&self, meta: &ObjectMeta) -> Option<(String, i32)> {
        let owner = owner::controller_of(meta)?;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let size = match owner.kind.as_str() {
            "ReplicaSet" => {
                let set = self.sets.get(namespace, &owner.name)?;
                let above = owner::controller_of(&set.metadata).filter(|o| o.kind == "Deployment");
                if let Some(above) = above {
                    let deployment = self.deployments.get(namespace, &above.name)?;
                    return Some((above.uid.clone(), deployment.spec.as_ref()?.replicas.unwrap_or(1)));
                }
                set.spec.as_ref()?.replicas
            }
            "StatefulSet" => self.stateful.get(namespace, &owner.name)?.spec.as_ref()?.replicas,
            "ReplicationController" => {
                self.replication
                    .get(namespace, &owner.name)?
                    .spec
                    .as_ref()?
                    .replicas
            }
            _ => return None,
        };
        Some((owner.uid.clone(), size.unwrap_or(1)))
    }
}

impl Controller for Budgets {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, key: &Key, now: Timestamp, _: Option<&Failure>) -> Plan {
        let Some(budget) = self.budgets.get_key(key) else {
            return Plan::nothing();
        };
        let mut selected = self.pods.list_namespace(&key.namespace);
        selected.retain(|pod| selects(&budget, pod));
        reconcile(&budget, &selected, &|pod| self.size_of(&pod.metadata), now)
    }
}

type SizeOf<'a> = &'a dyn Fn(&Pod) -> Option<(String, i32)>;

fn reconcile(budget: &PodDisruptionBudget, selected: &[Arc<Pod>], size_of: SizeOf, now: Timestamp) -> Plan {
    let Some(spec) = &budget.spec else {
        return Plan::nothing();
    };
    let mut plan = Plan::nothing();
    if selected.is_empty() {
        plan.note(Note::normal(budget, "NoPods", "No matching pods found"));
    }
    let status = match expected(spec, selected, size_of) {
        Ok((expected, desired)) => {
            let (disrupted, due) = still_disrupted(budget, selected, now);
            if let Some(due_s) = due {
                plan.again_after(Duration::from_secs(due_s.unsigned_abs()));
            }
            counted(budget, selected, expected, desired, disrupted, now)
        }
        Err(unmanaged) => {
            let message = format!("Failed to calculate the number of expected pods: {unmanaged}");
            plan.note(Note::warning(
                budget,
                "CalculateExpectedPodCountFailed",
                message.clone(),
            ));
            failed(budget, message, now)
        }
    };
    if budget.status.as_ref() != Some(&status) {
        let mut updated = budget.clone();
        updated.status = Some(status);
        plan.status = Some(Action::update_status(&updated));
    } else {
        plan.report.notes.clear();
    }
    plan
}

/// How many pods there should be, and how many must stay healthy.
fn expected(
    spec: &PodDisruptionBudgetSpec,
    selected: &[Arc<Pod>],
    size_of: SizeOf,
) -> Result<(i32, i32), String> {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    if let Some(IntOrString::Int(least)) = &spec.min_available {
        return Ok((selected.len() as i32, *least));
    }
    let mut sizes: HashMap<String, i32> = HashMap::new();
    for pod in selected {
        if owner::controller_of(&pod.metadata).is_none() {
            // A pod of nobody counts for itself alone.
            continue;
        }
        let (uid, size) = size_of(pod).ok_or_else(|| {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            format!("found no controllers for pod {name:?}")
        })?;
        sizes.insert(uid, size);
    }
    let total: i32 = sizes.values().sum();
    if let Some(most) = &spec.max_unavailable {
        return Ok((total, (total - absolute(Some(most), total, true)).max(0)));
    }
    Ok((total, absolute(spec.min_available.as_ref(), total, true)))
}

/// Evictions that were allowed and whose pods have not been seen leaving; seconds until the next is given up.
fn still_disrupted(
    budget: &PodDisruptionBudget,
    selected: &[Arc<Pod>],
    now: Timestamp,
) -> (BTreeMap<String, Time>, Option<i64>) {
    let before = budget
        .status
        .as_ref()
        .and_then(|s| s.disrupted_pods.clone())
        .unwrap_or_default();
    let mut due: Option<i64> = None;
    let standing = before
        .into_iter()
        .filter(|(name, since)| {
            let here = selected.iter().any(|pod| {
                pod.metadata.name.as_ref() == Some(name) && pod.metadata.deletion_timestamp.is_none()
            });
            let left = since.0.as_second() + EVICTION_WAIT_S - now.as_second();
            if here && left > 0 {
                due = Some(due.map_or(left, |due| due.min(left)));
            }
            here && left > 0
        })
        .collect();
    (standing, due)
}

fn counted(
    budget: &PodDisruptionBudget,
    selected: &[Arc<Pod>],
    expected: i32,
    desired: i32,
    disrupted: BTreeMap<String, Time>,
    now: Timestamp,
) -> PodDisruptionBudgetStatus {
    let healthy = selected
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none() && pods::is_ready(pod))
        .filter(|pod| !disrupted.contains_key(pod.metadata.name.as_deref().unwrap_or_default()))
        .count() as i32;
    let allowed = if expected <= 0 {
        0
    } else {
        (healthy - desired).max(0)
    };
    let (value, reason) = if allowed > 0 {
        ("True", "SufficientPods")
    } else {
        ("False", "InsufficientPods")
    };
    PodDisruptionBudgetStatus {
        observed_generation: budget.metadata.generation,
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        expected_pods: Some(expected),
        disruptions_allowed: Some(allowed),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        conditions: Some(vec![condition(budget, value, reason, String::new(), now)]),
    }
}

/// When nothing is known, nothing is allowed.
fn failed(budget: &PodDisruptionBudget, message: String, now: Timestamp) -> PodDisruptionBudgetStatus {
    PodDisruptionBudgetStatus {
        disruptions_allowed: Some(0),
        observed_generation: budget.metadata.generation,
        conditions: Some(vec![condition(budget, "False", "SyncFailed", message, now)]),
        ..budget.status.clone().unwrap_or_default()
    }
}

fn condition(
    budget: &PodDisruptionBudget,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) -> Condition {
    let conditions = budget.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let standing = conditions
        .into_iter()
        .find(|c| c.type_ == "DisruptionAllowed" && c.status == status);
    Condition {
        type_: "DisruptionAllowed".to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: budget.metadata.generation,
        last_transition_time: standing.map_or(Time(now), |c| c.last_transition_time.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{PodCondition, PodStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

    fn pod(name: &str, ready: bool) -> Arc<Pod> {
        let mut pod = Pod::default();
        pod.metadata.name = Some(name.into());
        pod.metadata.owner_references = Some(vec![OwnerReference {
            controller: Some(true),
            ..OwnerReference::default()
        }]);
        pod.status = Some(PodStatus {
            conditions: ready.then(|| {
                vec![PodCondition {
                    type_: "Ready".into(),
                    status: "True".into(),
                    ..PodCondition::default()
                }]
            }),
            ..PodStatus::default()
        });
        Arc::new(pod)
    }

    fn budget(min: Option<IntOrString>, max: Option<IntOrString>) -> PodDisruptionBudget {
        PodDisruptionBudget {
            spec: Some(PodDisruptionBudgetSpec {
                min_available: min,
                max_unavailable: max,
                ..PodDisruptionBudgetSpec::default()
            }),
            ..PodDisruptionBudget::default()
        }
    }

    fn allowed(
        budget: &PodDisruptionBudget,
        pods: &[Arc<Pod>],
        size: Option<i32>,
    ) -> PodDisruptionBudgetStatus {
        let size_of = |_: &Pod| size.map(|size| ("u".to_owned(), size));
        let plan = reconcile(budget, pods, &size_of, Timestamp::from_second(1000).unwrap());
        serde_json::from_value(plan.status.unwrap().body["status"].clone()).unwrap()
    }

    #[test]
    fn budgets_are_counted() {
        let pods = [pod("a", true), pod("b", true), pod("c", false)];
        let int = |n| Some(IntOrString::Int(n));
        let percent = |t: &str| Some(IntOrString::String(t.into()));
        let table = [
            (budget(int(1), None), Some(3), (2, 1, 1)),
            (budget(int(2), None), None, (2, 2, 0)),
            (budget(None, int(1)), Some(3), (2, 2, 0)),
            (budget(None, int(2)), Some(3), (2, 1, 1)),
            (budget(percent("50%"), None), Some(3), (2, 2, 0)),
        ];
        for (budget, size, (healthy, desired, expected)) in table {
            let status = allowed(&budget, &pods, size);
            let seen = (
                status.current_healthy,
                status.desired_healthy,
                status.disruptions_allowed,
            );
            assert_eq!(
                seen,
                (Some(healthy), Some(desired), Some(expected)),
                "{:?}",
                budget.spec
            );
        }
        let status = allowed(&budget(None, int(1)), &pods, None);
        assert_eq!(status.disruptions_allowed, Some(0));
        assert_eq!(status.conditions.unwrap()[0].reason, "SyncFailed");
    }

    #[test]
    fn an_allowed_eviction_counts_until_seen_or_given_up() {
        let mut budget = budget(Some(IntOrString::Int(1)), None);
        let since = |s| Time(Timestamp::from_second(s).unwrap());
        budget.status = Some(PodDisruptionBudgetStatus {
            disrupted_pods: Some([("a".to_owned(), since(990)), ("b".to_owned(), since(10))].into()),
            ..PodDisruptionBudgetStatus::default()
        });
        let status = allowed(&budget, &[pod("a", true), pod("b", true)], Some(2));
        assert_eq!(
            (status.current_healthy, status.disruptions_allowed),
            (Some(1), Some(0))
        );
        assert_eq!(status.disrupted_pods.unwrap().len(), 1);
    }
}
