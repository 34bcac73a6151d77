//! Registers the node and keeps its status: looks every ten seconds, writes on change and every five minutes.
//!
//! While the runtime or its network is not ready the runtime is asked for its status several times a second (CRI has
//! no event for it), and a change is written at once; after a minute of that, at the usual pace.

use super::conditions::Health;
use super::{machine, object};
use crate::cri::Cri;
use crate::host::Host;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeStatus, ObjectReference};
use keelson_base::error::chain;
use keelson_client::EventType;
use keelson_proto::cri::v1::{RuntimeHandler, StatusResponse};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Memory below which the node is under pressure (`memory.available<100Mi`).
const MEMORY_AVAILABLE_MIN: i64 = 100 << 20;

/// Pause between looks at a runtime that is not ready, and for how long it is looked at so often.
const CLOSE_LOOK_EVERY: Duration = Duration::from_millis(150);
const CLOSE_LOOKS_FOR: Duration = Duration::from_secs(60);

/// Pauses after a failed write.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(7);

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
    let mut not_ready_since: Option<Instant> = None;
    let mut pause = RETRY_MIN;
    loop {
        match update(&host, &api, &facts, &mut last, &schedule, &mut cidr).await {
            Ok(not_ready) if not_ready.is_empty() => {
                not_ready_since = None;
                pause = RETRY_MIN;
                tokio::time::sleep(schedule.look_every).await;
            }
            Ok(not_ready) => {
                pause = RETRY_MIN;
                let since = *not_ready_since.get_or_insert_with(Instant::now);
                runtime_changed(&host, &facts.name, &not_ready, &cidr, since, schedule.look_every).await;
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "node status not updated; retrying");
                last = None;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_MAX);
            }
        }
    }
}

/// Returns when the runtime gives other reasons than `not_ready`, when the node has another pod CIDR than `cidr`, or
/// when it is time to look at everything again.
async fn runtime_changed(
    host: &Host,
    name: &str,
    not_ready: &[String],
    cidr: &str,
    since: Instant,
    look_every: Duration,
) {
    let began = Instant::now();
    while began.elapsed() < look_every {
        tokio::time::sleep(close_look(since.elapsed(), look_every)).await;
        let assigned = pod_cidr(host, name).is_some_and(|assigned| assigned != cidr);
        if assigned || runtime_problems(&host.cri.status().await) != not_ready {
            return;
        }
    }
}

/// How soon to ask a runtime again that has not been ready for `not_ready_for`. Pure.
fn close_look(not_ready_for: Duration, look_every: Duration) -> Duration {
    if not_ready_for < CLOSE_LOOKS_FOR {
        CLOSE_LOOK_EVERY.min(look_every)
    } else {
        look_every
    }
}

fn pod_cidr(host: &Host, name: &str) -> Option<String> {
    host.node.get("", name)?.spec.as_ref()?.pod_cidr.clone()
}

/// Looks, and writes what is due; tells why the node is not ready.
async fn update(
    host: &Host,
    api: &Api<Node>,
    facts: &object::Facts,
    last: &mut Option<(NodeStatus, Instant)>,
    schedule: &Schedule,
    cidr: &mut String,
) -> Result<Vec<String>, kube::Error> {
    let old = match last {
        Some((status, _)) => status.clone(),
        None => {
            let node = api.get(&facts.name).await?;
            node.status.unwrap_or_default()
        }
    };
    if let Some(assigned) = pod_cidr(host, &facts.name)
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
    Ok(health.not_ready)
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

async fn observe(cri: &Cri, facts: &object::Facts) -> (Health, Vec<RuntimeHandler>) {
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
    let answer = cri.status().await;
    health.not_ready = runtime_problems(&answer);
    (health, answer.map(|a| a.runtime_handlers).unwrap_or_default())
}

/// Why a runtime that answers so keeps the node from being ready. Pure.
fn runtime_problems(answer: &Result<StatusResponse, tonic::Status>) -> Vec<String> {
    let conditions = match answer {
        Err(status) => {
            let why = crate::cri::describe(status);
            return vec![format!("container runtime is down: {why}")];
        }
        Ok(answer) => answer.status.iter().flat_map(|status| &status.conditions),
    };
    let kinds = [
        ("RuntimeReady", "container runtime not ready"),
        ("NetworkReady", "container runtime network not ready"),
    ];
    let problem = |(type_, what): (&str, &str)| match conditions.clone().find(|c| c.r#type == type_) {
        Some(c) if c.status => None,
        Some(c) => Some(format!(
            "{what}: {type_}=false reason:{} message:{}",
            c.reason, c.message
        )),
        None => Some(format!("{what}: {type_} is missing")),
    };
    kinds.into_iter().filter_map(problem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use keelson_proto::cri::v1::{RuntimeCondition, RuntimeStatus};

    fn answer(conditions: &[(&str, bool)]) -> Result<StatusResponse, tonic::Status> {
        let condition = |(type_, status): &(&str, bool)| RuntimeCondition {
            r#type: (*type_).into(),
            status: *status,
            reason: "NetworkPluginNotReady".into(),
            message: "cni plugin not initialized".into(),
        };
        Ok(StatusResponse {
            status: Some(RuntimeStatus {
                conditions: conditions.iter().map(condition).collect(),
            }),
            ..StatusResponse::default()
        })
    }

    #[test]
    fn a_runtime_keeps_the_node_from_being_ready() {
        let network = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady \
                       message:cni plugin not initialized";
        let ready = answer(&[("RuntimeReady", true), ("NetworkReady", true)]);
        assert!(runtime_problems(&ready).is_empty());
        let without = answer(&[("RuntimeReady", true), ("NetworkReady", false)]);
        assert_eq!(runtime_problems(&without), [network]);
        let silent = runtime_problems(&answer(&[("NetworkReady", true)]));
        assert_eq!(silent, ["container runtime not ready: RuntimeReady is missing"]);
        let down = runtime_problems(&Err(tonic::Status::unavailable("gone")));
        assert!(down[0].starts_with("container runtime is down"), "{down:?}");
    }

    #[test]
    fn a_runtime_is_looked_at_closely_for_a_minute() {
        let every = Duration::from_secs(10);
        for (seconds, expected) in [(0, CLOSE_LOOK_EVERY), (59, CLOSE_LOOK_EVERY), (60, every)] {
            assert_eq!(
                close_look(Duration::from_secs(seconds), every),
                expected,
                "{seconds}"
            );
        }
    }
}
