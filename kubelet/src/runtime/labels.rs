//! Labels and annotations the kubelet puts on sandboxes and containers, exactly upstream's, so that either kubelet
//! recognises what the other one started.

use super::container_hash;
use crate::pod;
use k8s_openapi::api::core::v1::{Container, Pod};
use std::collections::HashMap;

pub const POD_NAME: &str = "io.kubernetes.pod.name";
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub const POD_UID: &str = "io.kubernetes.pod.uid";
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";

pub const HASH: &str = "io.kubernetes.container.hash";
pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
pub const TERMINATION_MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
pub const TERMINATION_MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
pub const PRE_STOP_HANDLER: &str = "io.kubernetes.container.preStopHandler";
pub const PORTS: &str = "io.kubernetes.container.ports";
pub const DELETION_GRACE_PERIOD: &str = "io.kubernetes.pod.deletionGracePeriod";
pub const TERMINATION_GRACE_PERIOD: &str = "io.kubernetes.pod.terminationGracePeriod";

/// Labels of a sandbox: the pod's own and the three that identify it.
pub fn sandbox_labels(pod: &Pod) -> HashMap<String, String> {
    let mut labels: HashMap<_, _> = pod
        .metadata
        .labels
        .clone()
        .unwrap_or_default()
        .into_iter()
        .collect();
    identify(pod, &mut labels);
    labels
}

/// Annotations of a sandbox: the pod's own.
pub fn sandbox_annotations(pod: &Pod) -> HashMap<String, String> {
    pod.metadata
        .annotations
        .clone()
        .unwrap_or_default()
        .into_iter()
        .collect()
}

pub fn container_labels(pod: &Pod, container: &Container) -> HashMap<String, String> {
    let mut labels = HashMap::with_capacity(4);
    identify(pod, &mut labels);
    labels.insert(CONTAINER_NAME.into(), container.name.clone());
    labels
}

/// Annotations of a container: what a kubelet that lost its memory needs to go on.
pub fn container_annotations(
    pod: &Pod,
    container: &Container,
    restart_count: u32,
) -> HashMap<String, String> {
    let mut out = HashMap::with_capacity(8);
    out.insert(HASH.into(), format!("{:x}", container_hash::of(container)));
    out.insert(RESTART_COUNT.into(), restart_count.to_string());
    out.insert(
        TERMINATION_MESSAGE_PATH.into(),
        container.termination_message_path.clone().unwrap_or_default(),
    );
    out.insert(
        TERMINATION_MESSAGE_POLICY.into(),
        container.termination_message_policy.clone().unwrap_or_default(),
    );
    if let Some(grace) = pod.metadata.deletion_grace_period_seconds {
        out.insert(DELETION_GRACE_PERIOD.into(), grace.to_string());
    }
    if let Some(grace) = pod::spec(pod).termination_grace_period_seconds {
        out.insert(TERMINATION_GRACE_PERIOD.into(), grace.to_string());
    }
    if let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref())
        && let Ok(json) = serde_json::to_string(hook)
    {
        out.insert(PRE_STOP_HANDLER.into(), json);
    }
    if let Some(ports) = container.ports.as_ref().filter(|p| !p.is_empty())
        && let Ok(json) = serde_json::to_string(ports)
    {
        out.insert(PORTS.into(), json);
    }
    out
}

fn identify(pod: &Pod, labels: &mut HashMap<String, String>) {
    labels.insert(POD_NAME.into(), pod::name(pod).into());
    labels.insert(POD_NAMESPACE.into(), pod::namespace(pod).into());
    labels.insert(POD_UID.into(), pod::uid(pod).into());
}
