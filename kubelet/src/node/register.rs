//! Registers the node and keeps its status: looks every ten seconds, writes on change and every five minutes.

use super::conditions::Health;
use super::{machine, object};
use crate::cri::Cri;
use crate::host::Host;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeStatus, ObjectReference};
use keelson_base::error::chain;
use keelson_client::EventType;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Memory below which the node is under pressure (`memory.available<100Mi`).
const MEMORY_AVAILABLE_MIN: i64 = 100 << 20;

/// How the status is kept.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// `nodeStatusUpdateFrequency`.
    pub look_every: Duration,
    /// `nodeStatusReportFrequency`.
    pub report_every: Duration,
}

/// The object's reference in events: the kubelet uses the node's name as its uid.
pub fn reference(name: &str) -> ObjectReference {
    ObjectReference {
        kind: Some("Node".into()),
        name: Some(name.into()),
        uid: Some(name.into()),
        ..ObjectReference::default()
    }
}

/// Creates the node, or brings the labels of an existing one up to date. Tries until it works.
pub async fn register(client: &kube::Client, facts: &object::Facts) {
    let api: Api<Node> = Api::all(client.clone());
    let mut pause = Duration::from_millis(100);
    loop {
        let node = object::initial(facts);
        match api.create(&PostParams::default(), &node).await {
            Ok(_) => return tracing::info!(node = %facts.name, "node registered"),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let labels = json!({"metadata": {"labels": object::default_labels(facts)}});
                match api
                    .patch(&facts.name, &PatchParams::default(), &Patch::Strategic(labels))
                    .await
                {
                    Ok(_) => return tracing::info!(node = %facts.name, "node was registered before"),
                    Err(error) => {
                        tracing::warn!(error = %chain(&error), "labels of the node not updated; retrying")
                    }
                }
            }
            Err(error) => tracing::warn!(error = %chain(&error), "node not registered; retrying"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(7));
    }
}

/// Keeps the status for ever.
pub async fn keep(host: Arc<Host>, facts: object::Facts, schedule: Schedule) {
    let api: Api<Node> = Api::all(host.client.clone());
    let mut last: Option<(NodeStatus, Instant)> = None;
    let mut cidr = facts.pod_cidr.clone();
    loop {
        match update(&host, &api, &facts, &mut last, &schedule, &mut cidr).await {
            Ok(ready) => {
                // Until the network is up the node is looked at closely: it is not ready for the lack of it.
                let pause = if ready {
                    schedule.look_every
                } else {
                    Duration::from_millis(500)
                };
                tokio::time::sleep(pause).await;
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "node status not updated; retrying");
                last = None;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn update(
    host: &Host,
    api: &Api<Node>,
    facts: &object::Facts,
    last: &mut Option<(NodeStatus, Instant)>,
    schedule: &Schedule,
    cidr: &mut String,
) -> Result<bool, kube::Error> {
    let old = match last {
        Some((status, _)) => status.clone(),
        None => {
            let node = api.get(&facts.name).await?;
            node.status.unwrap_or_default()
        }
    };
    if let Some(assigned) = host
        .node
        .get("", &facts.name)
        .and_then(|n| n.spec.as_ref()?.pod_cidr.clone())
        && assigned != *cidr
        && host.cri.update_runtime_config(&assigned).await.is_ok()
    {
        *cidr = assigned;
    }
    let (health, handlers) = observe(&host.cri, facts).await;
    let images = host.cri.list_images().await.unwrap_or_default();
    let (mut status, events) = object::status(&old, facts, &health, &images, &handlers, Timestamp::now());
    let due = last
        .as_ref()
        .is_none_or(|(_, at)| at.elapsed() >= schedule.report_every);
    if due || object::differs(&old, &status) {
        let foreign = host.node.get("", &facts.name).and_then(|n| n.status.clone());
        adopt_foreign(&mut status, foreign);
        let body = json!({"status": {
            "addresses": status.addresses, "capacity": status.capacity, "allocatable": status.allocatable,
            "conditions": own_conditions(&status), "daemonEndpoints": status.daemon_endpoints,
            "nodeInfo": status.node_info, "images": status.images, "runtimeHandlers": status.runtime_handlers,
        }});
        api.patch_status(&facts.name, &PatchParams::default(), &Patch::Strategic(body))
            .await?;
        *last = Some((status, Instant::now()));
        for event in events {
            let message = format!("Node {} status is now: {event}", facts.name);
            host.event(reference(&facts.name), EventType::Normal, event, message);
        }
    }
    Ok(health.not_ready.is_empty())
}

/// Attached volumes and conditions are written by others; the newest of them is kept.
fn adopt_foreign(status: &mut NodeStatus, newest: Option<NodeStatus>) {
    if let Some(newest) = newest {
        status.volumes_attached = newest.volumes_attached;
    }
}

fn own_conditions(status: &NodeStatus) -> Vec<&k8s_openapi::api::core::v1::NodeCondition> {
    let own = ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"];
    status
        .conditions
        .iter()
        .flatten()
        .filter(|c| own.contains(&c.type_.as_str()))
        .collect()
}

async fn observe(cri: &Cri, facts: &object::Facts) -> (Health, Vec<keelson_proto::cri::v1::RuntimeHandler>) {
    let mut health = Health {
        memory_pressure: machine::meminfo("MemAvailable") < MEMORY_AVAILABLE_MIN,
        ..Health::default()
    };
    let fs = machine::filesystem(std::path::Path::new("/"));
    // nodefs.available<10%, nodefs.inodesFree<5%.
    health.disk_pressure = facts.fs.bytes > 0
        && (fs.bytes_available < fs.bytes / 10 || fs.inodes > 0 && fs.inodes_free < fs.inodes / 20);
    let (threads, threads_max) = machine::threads();
    health.pid_pressure = threads > threads_max / 100 * 95;
    let mut handlers = Vec::new();
    match cri.status().await {
        Err(status) => {
            let why = crate::cri::describe(&status);
            health.not_ready.push(format!("container runtime is down: {why}"));
        }
        Ok(answer) => {
            handlers = answer.runtime_handlers;
            let conditions = answer.status.map(|s| s.conditions).unwrap_or_default();
            for (type_, what) in [
                ("RuntimeReady", "container runtime not ready"),
                ("NetworkReady", "container runtime network not ready"),
            ] {
                match conditions.iter().find(|c| c.r#type == type_) {
                    Some(c) if c.status => {}
                    Some(c) => health.not_ready.push(format!(
                        "{what}: {type_}=false reason:{} message:{}",
                        c.reason, c.message
                    )),
                    None => health.not_ready.push(format!("{what}: {type_} is missing")),
                }
            }
        }
    }
    (health, handlers)
}
