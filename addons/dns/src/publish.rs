//! Tells the cluster where DNS is: the `kube-dns` Service, and this node's EndpointSlice of it.
//!
//! The Service has no selector, since DNS runs as a process of the node and not as a pod. Every node keeps one slice
//! with its own address, hinted to itself: pods ask their own node's process while it is there and any other when it
//! is not. The slice is owned by the Node, so it goes with it.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

/// Where Service and slices are.
pub const NAMESPACE: &str = "kube-system";
/// The Service's name, which every Kubernetes cluster uses.
pub const SERVICE: &str = "kube-dns";
/// Who keeps the slices.
const MANAGER: &str = "cluster-dns.keelson";

/// What this node publishes.
#[derive(Clone, Debug)]
pub struct Publication {
    pub node: String,
    pub address: IpAddr,
    pub cluster_ip: IpAddr,
    pub port: u16,
    pub metrics_port: u16,
}

impl Publication {
    /// The name of this node's slice.
    pub fn slice_name(&self) -> String {
        format!("{SERVICE}-{}", self.node)
    }

    fn ports(&self) -> serde_json::Value {
        let mut ports = vec![
            json!({"name": "dns", "protocol": "UDP", "port": self.port}),
            json!({"name": "dns-tcp", "protocol": "TCP", "port": self.port}),
        ];
        if self.metrics_port > 0 {
            ports.push(json!({"name": "metrics", "protocol": "TCP", "port": self.metrics_port}));
        }
        ports.into()
    }

    fn service(&self) -> Result<Service, serde_json::Error> {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": SERVICE, "namespace": NAMESPACE,
                "labels": {
                    "k8s-app": "kube-dns",
                    "kubernetes.io/cluster-service": "true",
                    "kubernetes.io/name": "CoreDNS",
                },
                "annotations": {"prometheus.io/port": "9153", "prometheus.io/scrape": "true"},
            },
            "spec": {
                "clusterIP": self.cluster_ip.to_string(),
                "ports": [
                    {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": self.port},
                    {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": self.port},
                    {"name": "metrics", "port": 9153, "protocol": "TCP", "targetPort": self.metrics_port.max(1)},
                ],
            },
        }))
    }

    fn slice(&self, node_uid: Option<&str>) -> Result<EndpointSlice, serde_json::Error> {
        let owner =
            node_uid.map(|uid| json!([{"apiVersion": "v1", "kind": "Node", "name": self.node, "uid": uid}]));
        serde_json::from_value(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": self.slice_name(), "namespace": NAMESPACE,
                "labels": {
                    "k8s-app": "kube-dns",
                    "kubernetes.io/service-name": SERVICE,
                    "endpointslice.kubernetes.io/managed-by": MANAGER,
                },
                "ownerReferences": owner,
            },
            "addressType": if self.address.is_ipv4() { "IPv4" } else { "IPv6" },
            "ports": self.ports(),
            "endpoints": [{
                "addresses": [self.address.to_string()],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": self.node,
                "hints": {"forNodes": [{"name": self.node}]},
            }],
        }))
    }

    /// Writes both as far as they are not as they shall be.
    pub async fn publish(&self, client: &Client) -> anyhow::Result<()> {
        let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
        if services.get_opt(SERVICE).await?.is_none() {
            ignore_present(services.create(&PostParams::default(), &self.service()?).await)?;
        }
        let nodes: Api<Node> = Api::all(client.clone());
        let uid = nodes.get_opt(&self.node).await?.and_then(|n| n.metadata.uid);
        let mut wanted = self.slice(uid.as_deref())?;
        let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), NAMESPACE);
        match slices.get_opt(&self.slice_name()).await? {
            None => {
                slices.create(&PostParams::default(), &wanted).await?;
            }
            Some(present) => {
                let same = present.endpoints == wanted.endpoints
                    && present.ports == wanted.ports
                    && present.metadata.labels == wanted.metadata.labels
                    && present.metadata.owner_references == wanted.metadata.owner_references;
                if !same {
                    wanted.metadata.resource_version = present.metadata.resource_version;
                    slices
                        .replace(&self.slice_name(), &PostParams::default(), &wanted)
                        .await?;
                }
            }
        }
        Ok(())
    }

    /// Takes this node's slice away.
    pub async fn withdraw(&self, client: &Client) -> Result<(), kube::Error> {
        let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), NAMESPACE);
        match slices.delete(&self.slice_name(), &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(|_| ()),
        }
    }
}

/// Another node was faster.
fn ignore_present<T>(created: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match created {
        Err(kube::Error::Api(status))
            if status.code == 409 || status.message.contains("already allocated") =>
        {
            Ok(())
        }
        other => other.map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_well_formed() {
        let publication = Publication {
            node: "n1".into(),
            address: "10.0.0.1".parse().unwrap(),
            cluster_ip: "10.96.0.10".parse().unwrap(),
            port: 53,
            metrics_port: 9153,
        };
        let service = publication.service().unwrap();
        assert_eq!(service.spec.unwrap().cluster_ip.as_deref(), Some("10.96.0.10"));
        let slice = publication.slice(Some("uid")).unwrap();
        assert_eq!(slice.metadata.name.as_deref(), Some("kube-dns-n1"));
        assert_eq!(slice.ports.unwrap().len(), 3);
        assert_eq!(slice.metadata.owner_references.unwrap()[0].uid, "uid");
        assert_eq!(publication.slice(None).unwrap().metadata.owner_references, None);
    }
}
