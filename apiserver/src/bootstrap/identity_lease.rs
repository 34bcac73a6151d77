//! This server's identity: a Lease in kube-system that says it is alive.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use keelson_machinery::{GroupResource, Status, time};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::server::Server;

const LEASES: GroupResource = GroupResource::new("coordination.k8s.io", "leases");
/// `leaseDurationSeconds`, as upstream.
const DURATION_S: i64 = 3_600;
/// Between renewals: well within the duration, and seldom enough to cost nothing.
const INTERVAL: Duration = Duration::from_secs(60);

/// Keeps the Lease until shutdown.
pub async fn keep(server: Arc<Server>, hostname: String, id: String) {
    let name = name(&hostname);
    loop {
        if let Err(error) = renew(&server, &name, &hostname, &id).await {
            tracing::warn!(%error, lease = name, "this server's identity Lease could not be renewed");
        }
        tokio::select! {
            () = server.shutdown.wait() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

/// `apiserver-` and a hash of the host's name, so that a restart takes its own Lease over.
fn name(hostname: &str) -> String {
    let hash: String = Sha256::digest(hostname)
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("apiserver-{}", &hash[..26])
}

async fn renew(server: &Server, name: &str, hostname: &str, id: &str) -> Result<(), Status> {
    let now = time::format_micro(Timestamp::now());
    let holder = format!("{name}_{id}");
    server
        .update_own(&LEASES, "kube-system", name, |stored| {
            let mut lease = stored.cloned().unwrap_or_else(|| {
                json!({"metadata": {
                    "name": name, "namespace": "kube-system",
                    "labels": {
                        "apiserver.kubernetes.io/identity": "kube-apiserver",
                        "kubernetes.io/hostname": hostname,
                    },
                }})
            });
            lease["spec"]["holderIdentity"] = holder.clone().into();
            lease["spec"]["leaseDurationSeconds"] = DURATION_S.into();
            lease["spec"]["renewTime"] = now.clone().into();
            Some(lease)
        })
        .await
}
