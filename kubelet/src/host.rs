//! What every pod worker shares: the runtime, the API client, the node's settings and stores.

use crate::cgroups::Cgroups;
use crate::cri::Cri;
use crate::images::Images;
use crate::metrics::Metrics;
use crate::objects::Objects;
use crate::runtime::dns::ClusterDns;
use crate::runtime::resources::NodeLimits;
use crate::runtime::security;
use crate::status::sender::StatusSender;
use crate::volumes::Volumes;
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Service};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use keelson_client::{EventType, Informer, Recorder};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Settings that do not change while the kubelet runs.
#[derive(Clone, Debug)]
pub struct Settings {
    pub node_name: String,
    pub hostname: String,
    pub root_dir: PathBuf,
    pub pod_logs_dir: String,
    pub dns: ClusterDns,
    pub limits: NodeLimits,
    pub security: security::Defaults,
    pub host_ips: Vec<String>,
    pub allocatable: BTreeMap<String, Quantity>,
    pub max_pods: usize,
    /// Longest container log before it is rotated, and how many files are kept.
    pub log_bytes_max: i64,
    pub log_files_max: usize,
    pub runtime_name: String,
    pub image_marks: crate::images::collect::Marks,
}

/// Shared by reference; none of it belongs to one pod.
pub struct Host {
    pub settings: Settings,
    pub cri: Cri,
    pub client: kube::Client,
    pub recorder: Recorder,
    pub images: Images,
    pub volumes: Volumes,
    pub objects: Arc<Objects>,
    pub sender: StatusSender,
    pub cgroups: Cgroups,
    pub metrics: Metrics,
    pub services: Informer<Service>,
    pub node: Informer<Node>,
    /// Bounds how many pods create sandboxes and containers at once.
    pub starts: Semaphore,
    /// Bounds removals of what is dead already.
    pub removals: Semaphore,
}

impl Host {
    /// An event about something on this node.
    pub fn event(&self, on: ObjectReference, type_: EventType, reason: &str, message: impl Into<String>) {
        self.recorder.event_on(on, type_, reason, message);
    }

    /// An event about a pod.
    pub fn pod_event(&self, pod: &Pod, type_: EventType, reason: &str, message: impl Into<String>) {
        self.event(crate::pod::reference(pod, None), type_, reason, message);
    }
}
