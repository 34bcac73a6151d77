//! The `kubernetes` Service, and the endpoints behind it: the API servers that hold a lease.
//!
//! As upstream's lease reconciler: each server keeps a key below `masterleases/` alive, and writes what all such keys
//! say into Endpoints and EndpointSlice. A server that dies falls out when its lease runs out.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keelson_machinery::{GroupResource, Status, Value};
use serde_json::json;

use crate::server::Server;

const SERVICES: GroupResource = GroupResource::new("", "services");
const ENDPOINTS: GroupResource = GroupResource::new("", "endpoints");
const SLICES: GroupResource = GroupResource::new("discovery.k8s.io", "endpointslices");

/// How long a server counts as alive after it last said so.
const LEASE_TTL_S: i64 = 15;
/// Between two signs of life.
pub const INTERVAL: Duration = Duration::from_secs(10);

/// Where this server is reached.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub address: IpAddr,
    pub port: u16,
    pub node_port: u16,
}

/// The Service itself.
pub async fn service(server: &Server, place: Place) -> Result<(), Status> {
    let Some(ip) = server.allocators.ips.first() else {
        return Ok(());
    };
    let mut object = json!({
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "clusterIP": ip.to_string(), "clusterIPs": [ip.to_string()],
            "ipFamilies": [if ip.is_ipv6() { "IPv6" } else { "IPv4" }], "ipFamilyPolicy": "SingleStack",
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": place.port}],
            "sessionAffinity": "None", "type": "ClusterIP", "internalTrafficPolicy": "Cluster",
        },
        "status": {"loadBalancer": {}},
    });
    if place.node_port != 0 {
        object["spec"]["type"] = "NodePort".into();
        object["spec"]["ports"][0]["nodePort"] = place.node_port.into();
    }
    server.create_own(&SERVICES, object).await.map(drop)
}

/// Keeps this server among the endpoints until shutdown, then takes it out.
pub async fn keep(server: Arc<Server>, place: Place) {
    let key = server.keys.other(&format!("masterleases/{}", place.address));
    loop {
        if let Err(error) = beat(&server, &key, place).await {
            tracing::warn!(%error, "this server could not be kept among the kubernetes Service's endpoints");
        }
        tokio::select! {
            () = server.shutdown.wait() => break,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
    let leave = async {
        if let Some(kv) = server.store.get(&key).await? {
            server.store.delete_if(&key, kv.mod_revision).await?;
        }
        publish(&server, place, addresses(&server).await?).await
    };
    if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(2), leave).await {
        tracing::debug!(%error, "the endpoints of the kubernetes Service keep this server until its lease ends");
    }
}

async fn beat(server: &Server, key: &str, place: Place) -> Result<(), Status> {
    let lease = server.store.grant(LEASE_TTL_S).await?;
    let object = json!({
        "kind": "Endpoints", "apiVersion": "v1", "metadata": {"creationTimestamp": null},
        "subsets": [{"addresses": [{"ip": place.address.to_string()}]}],
    });
    server
        .store
        .put(key, Bytes::from(object.to_string()), lease)
        .await?;
    let addresses = addresses(server).await?;
    publish(server, place, addresses).await
}

/// The servers alive, by their keys.
async fn addresses(server: &Server) -> Result<Vec<String>, Status> {
    let prefix = server.keys.other("masterleases/");
    let (kvs, _) = server.store.list(&prefix).await?;
    let mut addresses: Vec<String> = kvs
        .iter()
        .filter_map(|kv| {
            std::str::from_utf8(&kv.key)
                .ok()?
                .strip_prefix(&prefix)
                .map(str::to_owned)
        })
        .collect();
    addresses.sort();
    Ok(addresses)
}

async fn publish(server: &Server, place: Place, addresses: Vec<String>) -> Result<(), Status> {
    let subsets = subsets(&addresses, place.port);
    server
        .update_own(&ENDPOINTS, "default", "kubernetes", |stored| match stored {
            Some(stored) => (stored["subsets"] != subsets).then(|| {
                let mut new = stored.clone();
                new["subsets"] = subsets.clone();
                new
            }),
            None => Some(json!({
                "metadata": {
                    "name": "kubernetes", "namespace": "default",
                    "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
                },
                "subsets": subsets,
            })),
        })
        .await?;
    let slice = slice(&addresses, place);
    server
        .update_own(&SLICES, "default", "kubernetes", |stored| match stored {
            Some(stored) => (stored["endpoints"] != slice["endpoints"] || stored["ports"] != slice["ports"])
                .then(|| {
                    let mut new = stored.clone();
                    new["endpoints"] = slice["endpoints"].clone();
                    new["ports"] = slice["ports"].clone();
                    new
                }),
            None => Some(slice.clone()),
        })
        .await
}

fn subsets(addresses: &[String], port: u16) -> Value {
    let addresses: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
    json!([{"addresses": addresses, "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}])
}

fn slice(addresses: &[String], place: Place) -> Value {
    let family = if place.address.is_ipv6() { "IPv6" } else { "IPv4" };
    json!({
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": family,
        "endpoints": addresses
            .iter()
            .map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}}))
            .collect::<Vec<_>>(),
        "ports": [{"name": "https", "port": place.port, "protocol": "TCP"}],
    })
}
