//! A pod as the scheduler keeps it: its class, and the little that is its own.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as api;

use super::class::{Class, Classes, Requirements};

/// A pod's uid.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(pub Box<str>);

/// A pod.
#[derive(Clone, Debug)]
pub struct Pod {
    pub uid: Uid,
    pub name: Box<str>,
    pub class: Arc<Class>,
    pub resource_version: Box<str>,
    /// Where it runs; `None` while pending.
    pub node: Option<Box<str>>,
    pub nominated_node: Option<Box<str>>,
    pub deleting: bool,
    /// Succeeded or Failed: it no longer takes anything from its node.
    pub finished: bool,
    pub gates: Box<[Box<str>]>,
    /// Creation, in seconds since the epoch.
    pub created_s: i64,
    /// Start as the kubelet reports it, in seconds since the epoch.
    pub started_s: Option<i64>,
    /// `reason` and `message` of a PodScheduled condition that is False.
    pub unscheduled: Option<(Box<str>, Box<str>)>,
    pub generation: i64,
}

impl Pod {
    /// From the API's form.
    pub fn new(pod: &api::Pod, classes: &mut Classes) -> Self {
        let (meta, spec, status) = (&pod.metadata, pod.spec.as_ref(), pod.status.as_ref());
        let text = |t: Option<&String>| t.filter(|t| !t.is_empty()).map(|t| t.as_str().into());
        let phase = status.and_then(|s| s.phase.as_deref());
        let gates = spec
            .and_then(|s| s.scheduling_gates.as_ref())
            .into_iter()
            .flatten();
        let conditions = status.and_then(|s| s.conditions.as_ref()).into_iter().flatten();
        let unscheduled = conditions
            .into_iter()
            .find(|c| c.type_ == "PodScheduled" && c.status == "False");
        Self {
            uid: Uid(meta.uid.as_deref().unwrap_or_default().into()),
            name: meta.name.as_deref().unwrap_or_default().into(),
            class: classes.intern(Requirements::new(pod)),
            resource_version: meta.resource_version.as_deref().unwrap_or_default().into(),
            node: text(spec.and_then(|s| s.node_name.as_ref())),
            nominated_node: text(status.and_then(|s| s.nominated_node_name.as_ref())),
            deleting: meta.deletion_timestamp.is_some(),
            finished: matches!(phase, Some("Succeeded" | "Failed")),
            gates: gates.map(|g| g.name.as_str().into()).collect(),
            created_s: meta.creation_timestamp.as_ref().map_or(0, |t| t.0.as_second()),
            started_s: status
                .and_then(|s| s.start_time.as_ref())
                .map(|t| t.0.as_second()),
            unscheduled: unscheduled.map(|c| {
                let text = |t: &Option<String>| t.as_deref().unwrap_or_default().into();
                (text(&c.reason), text(&c.message))
            }),
            generation: meta.generation.unwrap_or(0),
        }
    }

    /// `namespace/name`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.class.namespace, self.name)
    }
}
