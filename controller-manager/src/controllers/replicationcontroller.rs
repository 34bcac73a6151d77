//! ReplicationController controller: the older kind, read as a ReplicaSet and decided by its code.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    Pod, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use keelson_client::{Informer, Key};
use keelson_controller::{Action, Controller, Failure, Plan, Queue};

use crate::context::Context;
use crate::controllers::replicaset::{self, Observed};
use crate::{owner, pods, selector, triggers};

/// Upstream's event source; its controller name differs.
const SOURCE: &str = "replication-controller";
const NAME: &str = "replicationcontroller-controller";

/// Starts the controller.
pub fn start(context: &Context) {
    let controllers = context.informer::<ReplicationController>();
    let pods = context.informer::<Pod>();
    pods.add_index(owner::INDEX, owner::index);
    let queue = Queue::default();
    triggers::on_self(&controllers, &queue);
    triggers::on_owned(&pods, &queue, "ReplicationController");
    let all = controllers.clone();
    triggers::on_orphans(&pods, &queue, move |pod| {
        all.list_namespace(pod.metadata.namespace.as_deref().unwrap_or_default())
            .into_iter()
            .filter(|controller| selects(controller, pod))
            .map(|controller| Key::of(controller.as_ref()))
            .collect()
    });
    let workers = context.config.concurrent.rc_syncs;
    context.run(
        Arc::new(Controllers { controllers, pods }),
        queue,
        SOURCE,
        workers,
    );
}

struct Controllers {
    controllers: Informer<ReplicationController>,
    pods: Informer<Pod>,
}

impl Controller for Controllers {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, key: &Key, now: Timestamp, last_failure: Option<&Failure>) -> Plan {
        let Some(controller) = self.controllers.get_key(key) else {
            return Plan::nothing();
        };
        let Some(uid) = &controller.metadata.uid else {
            return Plan::nothing();
        };
        let mut candidates = self.pods.by_index(owner::INDEX, uid);
        candidates.extend(self.pods.by_index(owner::INDEX, &owner::orphans(&key.namespace)));
        candidates.retain(|pod| !pods::is_finished(pod));
        let claimed = owner::claim(controller.as_ref(), candidates, |pod| selects(&controller, pod));
        if !claimed.actions.is_empty() {
            return Plan::of(claimed.actions);
        }
        let set = as_replica_set(&controller);
        let seen = Observed {
            set: &set,
            owner: owner::reference(controller.as_ref()),
            about: keelson_client::events::reference(controller.as_ref()),
            pods: &claimed.owned,
            related: &claimed.owned,
            last_failure,
        };
        let decided = replicaset::reconcile(&seen, now);
        let wanted = decided.status.map(own_status);
        let status = wanted
            .filter(|s| controller.status.as_ref() != Some(s))
            .map(|status| {
                let mut updated = controller.as_ref().clone();
                updated.status = Some(status);
                Action::update_status(&updated)
            });
        Plan {
            actions: decided.actions,
            status,
            retry_after: decided.retry_after,
            ..Plan::default()
        }
    }
}

fn selects(controller: &ReplicationController, pod: &Pod) -> bool {
    let selector = controller.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|s| !s.is_empty() && selector::matches_map(s, pod.metadata.labels.as_ref()))
}

fn as_replica_set(controller: &ReplicationController) -> ReplicaSet {
    let spec = controller.spec.clone().unwrap_or_default();
    ReplicaSet {
        metadata: controller.metadata.clone(),
        spec: Some(ReplicaSetSpec {
            replicas: spec.replicas,
            min_ready_seconds: spec.min_ready_seconds,
            selector: LabelSelector {
                match_labels: spec.selector,
                match_expressions: None,
            },
            template: spec.template,
        }),
        status: controller.status.clone().map(|status| ReplicaSetStatus {
            replicas: status.replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            observed_generation: status.observed_generation,
            terminating_replicas: None,
            conditions: status.conditions.map(|conditions| {
                let all = conditions.into_iter().map(|c| ReplicaSetCondition {
                    last_transition_time: c.last_transition_time,
                    message: c.message,
                    reason: c.reason,
                    status: c.status,
                    type_: c.type_,
                });
                all.collect()
            }),
        }),
    }
}

fn own_status(status: ReplicaSetStatus) -> ReplicationControllerStatus {
    ReplicationControllerStatus {
        replicas: status.replicas,
        fully_labeled_replicas: status.fully_labeled_replicas,
        ready_replicas: status.ready_replicas,
        available_replicas: status.available_replicas,
        observed_generation: status.observed_generation,
        conditions: status.conditions.map(|conditions| {
            let all = conditions.into_iter().map(|c| ReplicationControllerCondition {
                last_transition_time: c.last_transition_time,
                message: c.message,
                reason: c.reason,
                status: c.status,
                type_: c.type_,
            });
            all.collect()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_survives_both_readings() {
        let status = ReplicationControllerStatus {
            replicas: 3,
            ready_replicas: Some(2),
            observed_generation: Some(7),
            conditions: Some(vec![ReplicationControllerCondition {
                type_: "ReplicaFailure".into(),
                status: "True".into(),
                ..ReplicationControllerCondition::default()
            }]),
            ..ReplicationControllerStatus::default()
        };
        let controller = ReplicationController {
            status: Some(status.clone()),
            ..ReplicationController::default()
        };
        let read = as_replica_set(&controller).status.unwrap();
        assert_eq!(own_status(read), status);
    }
}
