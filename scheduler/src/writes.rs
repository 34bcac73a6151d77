//! What decisions write to the API: bindings, conditions, nominations, preempted pods.

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::wait;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::limits::CLAIM_BIND_TIMEOUT;
use crate::model::pod::Pod;
use crate::scheduler::Nomination;

/// Why a pod could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("cannot choose the node of claim {claim}")]
    SelectNode { claim: Box<str>, source: kube::Error },
    #[error("claim {claim} was not bound to a volume in time")]
    ClaimUnbound { claim: Box<str> },
    #[error("cannot bind")]
    Binding(#[source] kube::Error),
}

/// Binds a pod to a node, its waiting claims first.
pub async fn bind(client: &Client, pod: &Pod, node: &str, claims: &[Box<str>]) -> Result<(), BindError> {
    for claim in claims {
        bind_claim(client, &pod.class.namespace, claim, node).await?;
    }
    let binding = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": pod.name, "namespace": pod.class.namespace, "uid": pod.uid.0},
        "target": {"kind": "Node", "name": node},
    });
    let pods: Api<api::Pod> = Api::namespaced(client.clone(), &pod.class.namespace);
    let created = pods
        .create_subresource("binding", &pod.name, &PostParams::default(), &binding)
        .await;
    created.map(|_: Value| ()).map_err(BindError::Binding)
}

/// Tells the volume controller the node and waits, by watch, for the volume.
async fn bind_claim(client: &Client, namespace: &str, claim: &str, node: &str) -> Result<(), BindError> {
    let claims: Api<api::PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let patch = json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": node}}});
    let patched = claims
        .patch(claim, &PatchParams::default(), &Patch::Merge(patch))
        .await;
    patched.map_err(|source| BindError::SelectNode {
        claim: claim.into(),
        source,
    })?;
    let bound = |claim: Option<&api::PersistentVolumeClaim>| {
        let phase = claim
            .and_then(|c| c.status.as_ref())
            .and_then(|s| s.phase.as_deref());
        phase == Some("Bound")
    };
    let waiting = wait::await_condition(claims, claim, bound);
    match tokio::time::timeout(CLAIM_BIND_TIMEOUT, waiting).await {
        Ok(Ok(_)) => Ok(()),
        _ => Err(BindError::ClaimUnbound { claim: claim.into() }),
    }
}

/// What a pod's status becomes when it is refused; `None` when it says so already.
pub fn refusal_patch(
    pod: &Pod,
    reason: &str,
    message: &str,
    nomination: &Nomination,
    now: Timestamp,
) -> Option<Value> {
    let said = pod
        .unscheduled
        .as_ref()
        .is_some_and(|(r, m)| **r == *reason && **m == *message);
    let mut status = serde_json::Map::new();
    if !said {
        let mut condition = json!({
            "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
            "lastProbeTime": null,
        });
        if pod.generation > 0 {
            condition["observedGeneration"] = pod.generation.into();
        }
        // The time of the last change of status, which stays False.
        if pod.unscheduled.is_none() {
            condition["lastTransitionTime"] = json!(Time(now));
        }
        status.insert("conditions".into(), json!([condition]));
    }
    let nominated = match nomination {
        Nomination::Keep => pod.nominated_node.as_deref(),
        Nomination::Clear => None,
        Nomination::Node(node) => Some(&**node),
    };
    if nominated != pod.nominated_node.as_deref() {
        status.insert("nominatedNodeName".into(), nominated.into());
    }
    (!status.is_empty()).then(|| json!({"metadata": {"uid": pod.uid.0}, "status": status}))
}

/// Patches a pod's status; a pod that is gone is no error.
pub async fn patch_status(client: &Client, pod: &Pod, patch: Value) -> Result<(), kube::Error> {
    let pods: Api<api::Pod> = Api::namespaced(client.clone(), &pod.class.namespace);
    let patched = pods
        .patch_status(&pod.name, &PatchParams::default(), &Patch::Strategic(patch))
        .await;
    ignore_missing(patched.map(|_| ()))
}

/// Deletes a victim, saying why in its status first.
pub async fn evict(client: &Client, preemptor: &Pod, victim: &Pod) -> Result<(), kube::Error> {
    let message = format!(
        "{}: preempting to accommodate a higher priority pod",
        preemptor.class.scheduler_name
    );
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": message,
        "lastProbeTime": null, "lastTransitionTime": Time(Timestamp::now()),
    });
    let patch = json!({"metadata": {"uid": victim.uid.0}, "status": {"conditions": [condition]}});
    patch_status(client, victim, patch).await?;
    let pods: Api<api::Pod> = Api::namespaced(client.clone(), &victim.class.namespace);
    let same = Preconditions {
        uid: Some(victim.uid.0.to_string()),
        resource_version: None,
    };
    let params = DeleteParams {
        preconditions: Some(same),
        ..DeleteParams::default()
    };
    ignore_missing(pods.delete(&victim.name, &params).await.map(|_| ()))
}

fn ignore_missing(result: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;

    #[test]
    fn a_refusal_is_written_once() {
        let now = Timestamp::from_second(0).unwrap();
        let mut pod = pod("a", "{}");
        let patch = refusal_patch(&pod, "Unschedulable", "no", &Nomination::Clear, now).unwrap();
        let condition = &patch["status"]["conditions"][0];
        assert_eq!(condition["lastTransitionTime"], "1970-01-01T00:00:00Z");
        assert_eq!(patch["status"].get("nominatedNodeName"), None);
        pod.unscheduled = Some(("Unschedulable".into(), "no".into()));
        assert_eq!(
            refusal_patch(&pod, "Unschedulable", "no", &Nomination::Clear, now),
            None
        );
        let nominated = Nomination::Node("n".into());
        let patch = refusal_patch(&pod, "Unschedulable", "no", &nominated, now).unwrap();
        assert_eq!(patch["status"], json!({"nominatedNodeName": "n"}));
        pod.nominated_node = Some("n".into());
        let patch = refusal_patch(&pod, "Unschedulable", "no", &Nomination::Clear, now).unwrap();
        assert_eq!(patch["status"], json!({"nominatedNodeName": null}));
    }
}
