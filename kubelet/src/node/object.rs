//! The Node object this kubelet registers and the status it keeps. Pure.

use super::conditions::{self, Health};
use super::machine::{FsFigures, Machine};
use crate::limits;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeDaemonEndpoints, NodeRuntimeHandler,
    NodeRuntimeHandlerFeatures, NodeSpec, NodeStatus, NodeSwapStatus, NodeSystemInfo, Taint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use keelson_proto::cri::v1::{Image, RuntimeHandler};
use std::collections::BTreeMap;

/// Everything that goes into the object.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub name: String,
    pub hostname: String,
    pub addresses: Vec<String>,
    pub machine: Machine,
    pub fs: FsFigures,
    pub max_pods: usize,
    pub port: u16,
    pub runtime_version: String,
    pub kubelet_version: String,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub schedulable: bool,
    pub pod_cidr: String,
    /// Held back from pods, by resource.
    pub reserved: BTreeMap<String, Quantity>,
}

/// Labels every node has.
pub fn default_labels(facts: &Facts) -> BTreeMap<String, String> {
    let arch = facts.machine.architecture.to_owned();
    let mut labels = BTreeMap::from([
        ("kubernetes.io/hostname".to_owned(), facts.hostname.clone()),
        ("kubernetes.io/os".to_owned(), "linux".to_owned()),
        ("kubernetes.io/arch".to_owned(), arch.clone()),
        ("beta.kubernetes.io/os".to_owned(), "linux".to_owned()),
        ("beta.kubernetes.io/arch".to_owned(), arch),
    ]);
    labels.extend(facts.labels.clone());
    labels
}

/// The object to create.
pub fn initial(facts: &Facts) -> Node {
    let mut taints = facts.taints.clone();
    if !facts.schedulable {
        taints.push(Taint {
            key: "node.kubernetes.io/unschedulable".into(),
            effect: "NoSchedule".into(),
            ..Taint::default()
        });
    }
    Node {
        metadata: ObjectMeta {
            name: Some(facts.name.clone()),
            labels: Some(default_labels(facts)),
            annotations: Some(BTreeMap::from([(
                "volumes.kubernetes.io/controller-managed-attach-detach".to_owned(),
                "true".to_owned(),
            )])),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            taints: (!taints.is_empty()).then_some(taints),
            unschedulable: (!facts.schedulable).then_some(true),
            ..NodeSpec::default()
        }),
        status: None,
    }
}

pub fn capacity(facts: &Facts) -> BTreeMap<String, Quantity> {
    BTreeMap::from([
        ("cpu".to_owned(), Quantity(facts.machine.cpus.to_string())),
        (
            "memory".to_owned(),
            Quantity(format!("{}Ki", facts.machine.memory_bytes / 1024)),
        ),
        (
            "ephemeral-storage".to_owned(),
            Quantity(format!("{}Ki", facts.fs.bytes / 1024)),
        ),
        ("hugepages-1Gi".to_owned(), Quantity("0".into())),
        ("hugepages-2Mi".to_owned(), Quantity("0".into())),
        ("pods".to_owned(), Quantity(facts.max_pods.to_string())),
    ])
}

/// Capacity without what is reserved and what eviction would keep free (100 MiB of memory, a tenth of the disk).
pub fn allocatable(facts: &Facts) -> BTreeMap<String, Quantity> {
    let mut out = capacity(facts);
    let reserved = |name: &str| facts.reserved.get(name).map_or(0, crate::quantity::value);
    let reserved_cpu = facts.reserved.get("cpu").map_or(0, crate::quantity::milli);
    if reserved_cpu > 0 {
        let milli = facts.machine.cpus as i64 * 1000 - reserved_cpu;
        out.insert("cpu".into(), Quantity(format!("{}m", milli.max(0))));
    }
    let memory = facts.machine.memory_bytes - (100 << 20) - reserved("memory");
    out.insert("memory".into(), Quantity(format!("{}Ki", memory.max(0) / 1024)));
    let disk = facts.fs.bytes as i64 / 10 * 9 - reserved("ephemeral-storage");
    out.insert("ephemeral-storage".into(), Quantity(disk.max(0).to_string()));
    out
}

/// The status, and the events of conditions that changed.
pub fn status(
    old: &NodeStatus,
    facts: &Facts,
    health: &Health,
    images: &[Image],
    handlers: &[RuntimeHandler],
    now: Timestamp,
) -> (NodeStatus, Vec<&'static str>) {
    let (conditions, events) = conditions::render(old.conditions.as_deref().unwrap_or_default(), health, now);
    let machine = &facts.machine;
    let mut addresses: Vec<NodeAddress> = facts
        .addresses
        .iter()
        .map(|ip| NodeAddress {
            type_: "InternalIP".into(),
            address: ip.clone(),
        })
        .collect();
    addresses.push(NodeAddress {
        type_: "Hostname".into(),
        address: facts.hostname.clone(),
    });
    let status = NodeStatus {
        addresses: Some(addresses),
        capacity: Some(capacity(facts)),
        allocatable: Some(allocatable(facts)),
        conditions: Some(conditions),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint {
                port: i32::from(facts.port),
            }),
        }),
        node_info: Some(NodeSystemInfo {
            architecture: machine.architecture.into(),
            boot_id: machine.boot_id.clone(),
            container_runtime_version: facts.runtime_version.clone(),
            kernel_version: machine.kernel.clone(),
            kubelet_version: facts.kubelet_version.clone(),
            machine_id: machine.machine_id.clone(),
            operating_system: "linux".into(),
            os_image: machine.os_image.clone(),
            system_uuid: machine.system_uuid.clone(),
            swap: (machine.swap_bytes > 0).then_some(NodeSwapStatus {
                capacity: Some(machine.swap_bytes),
            }),
            ..NodeSystemInfo::default()
        }),
        images: Some(render_images(images)),
        runtime_handlers: render_handlers(handlers),
        ..old.clone()
    };
    (status, events)
}

/// The largest images first, names sorted with digests before tags as upstream lists them.
fn render_images(images: &[Image]) -> Vec<ContainerImage> {
    let mut out: Vec<ContainerImage> = images
        .iter()
        .filter(|i| !i.repo_tags.is_empty() || !i.repo_digests.is_empty())
        .map(|image| {
            let names: Vec<String> = image
                .repo_digests
                .iter()
                .chain(&image.repo_tags)
                .take(5)
                .cloned()
                .collect();
            ContainerImage {
                names: Some(names),
                size_bytes: i64::try_from(image.size).ok(),
            }
        })
        .collect();
    out.sort_by(|a, b| {
        b.size_bytes
            .cmp(&a.size_bytes)
            .then_with(|| a.names.cmp(&b.names))
    });
    out.truncate(limits::NODE_STATUS_IMAGES_MAX);
    out
}

fn render_handlers(handlers: &[RuntimeHandler]) -> Option<Vec<NodeRuntimeHandler>> {
    let mut out: Vec<NodeRuntimeHandler> = handlers
        .iter()
        .map(|h| NodeRuntimeHandler {
            name: Some(h.name.clone()),
            features: h.features.as_ref().map(|f| NodeRuntimeHandlerFeatures {
                recursive_read_only_mounts: Some(f.recursive_read_only_mounts),
                user_namespaces: Some(f.user_namespaces),
            }),
        })
        .collect();
    out.sort_by(|a, b| a.name.cmp(&b.name));
    (!out.is_empty()).then_some(out)
}

/// Whether two statuses differ in more than heartbeat times.
pub fn differs(a: &NodeStatus, b: &NodeStatus) -> bool {
    let timeless = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    timeless(a) != timeless(b)
}
