//! The node's Lease in kube-node-lease: its renewal is the heartbeat the control plane watches.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use keelson_base::error::chain;
use keelson_client::Informer;
use kube::api::{Api, PostParams};
use std::time::Duration;

const NAMESPACE: &str = "kube-node-lease";
/// Pauses after failures, upstream's: the namespace or the server itself may come a moment after the node.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(7);

/// Renews for ever at a quarter of the duration.
pub async fn keep(client: kube::Client, node: Informer<Node>, name: String, duration_s: i32) {
    let api: Api<Lease> = Api::namespaced(client, NAMESPACE);
    let period = Duration::from_secs(u64::from(duration_s.max(4).unsigned_abs()) / 4);
    let mut held: Option<Lease> = None;
    let mut pause = RETRY_MIN;
    loop {
        let owner = node.get("", &name).and_then(|n| n.metadata.uid.clone());
        match renew(&api, held.take(), &name, owner.as_deref(), duration_s).await {
            Ok(lease) => {
                held = Some(lease);
                pause = RETRY_MIN;
                tokio::time::sleep(period).await;
            }
            Err(error) => {
                // A lease cannot be made before its namespace; that is the start of a cluster, not a fault.
                if pause == RETRY_MIN {
                    tracing::warn!(error = %chain(&error), "lease not renewed; retrying");
                } else {
                    tracing::debug!(error = %chain(&error), "lease not renewed; retrying");
                }
                tokio::time::sleep(pause.min(period)).await;
                pause = (pause * 2).min(RETRY_MAX);
            }
        }
    }
}

async fn renew(
    api: &Api<Lease>,
    held: Option<Lease>,
    name: &str,
    owner: Option<&str>,
    duration_s: i32,
) -> Result<Lease, kube::Error> {
    let current = match held {
        Some(lease) => Some(lease),
        None => api.get_opt(name).await?,
    };
    let fresh = current.is_none();
    let mut lease = current.unwrap_or_default();
    lease.metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(NAMESPACE.into()),
        resource_version: lease.metadata.resource_version,
        uid: lease.metadata.uid,
        owner_references: owner.map(|uid| {
            vec![OwnerReference {
                api_version: "v1".into(),
                kind: "Node".into(),
                name: name.to_owned(),
                uid: uid.to_owned(),
                ..OwnerReference::default()
            }]
        }),
        ..ObjectMeta::default()
    };
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(name.to_owned()),
        lease_duration_seconds: Some(duration_s),
        renew_time: Some(MicroTime(Timestamp::now())),
        ..LeaseSpec::default()
    });
    if fresh {
        api.create(&PostParams::default(), &lease).await
    } else {
        api.replace(name, &PostParams::default(), &lease).await
    }
}
