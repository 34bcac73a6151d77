//! Services and their endpoints as the proxy needs them. Made from API objects, free of I/O.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    pub namespace: String,
    pub name: String,
}

impl std::fmt::Display for ServiceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Address family of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// Transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    fn parse(text: Option<&str>) -> Option<Self> {
        match text.unwrap_or("TCP") {
            "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }

    /// nftables' name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// One port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
    /// 0 is none.
    pub node_port: u16,
}

/// A service that has addresses to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceInfo {
    pub name: ServiceName,
    /// One per family.
    pub cluster_ips: Vec<IpAddr>,
    pub external_ips: Vec<IpAddr>,
    /// Load balancers' addresses that are served here (`ipMode: VIP`).
    pub load_balancer_ips: Vec<IpAddr>,
    pub source_ranges: Vec<IpNet>,
    pub ports: Vec<Port>,
    /// Seconds a client stays with its endpoint.
    pub affinity_s: Option<u32>,
    pub internal_local: bool,
    pub external_local: bool,
    /// 0 is none.
    pub health_check_node_port: u16,
}

impl ServiceInfo {
    /// `None` for services the proxy has nothing to do with: headless, ExternalName, another proxy's.
    pub fn new(service: &Service) -> Option<Self> {
        let meta = &service.metadata;
        let spec = service.spec.as_ref()?;
        let labels = meta.labels.as_ref();
        if labels.is_some_and(|l| l.contains_key("service.kubernetes.io/service-proxy-name")) {
            return None;
        }
        if spec.type_.as_deref() == Some("ExternalName") {
            return None;
        }
        let single = spec.cluster_ip.iter().filter(|_| spec.cluster_ips.is_none());
        let cluster_ips = spec.cluster_ips.iter().flatten().chain(single);
        let cluster_ips: Vec<IpAddr> = cluster_ips.filter_map(|ip| ip.parse().ok()).collect();
        if cluster_ips.is_empty() {
            return None;
        }
        let ingress = service.status.as_ref().and_then(|s| s.load_balancer.as_ref());
        let ingress = ingress.and_then(|l| l.ingress.as_ref()).into_iter().flatten();
        let served = ingress.filter(|i| i.ip_mode.as_deref() != Some("Proxy"));
        let is_balancer = spec.type_.as_deref() == Some("LoadBalancer");
        let timeout = spec
            .session_affinity_config
            .as_ref()
            .and_then(|c| c.client_ip.as_ref());
        let timeout = timeout.and_then(|c| c.timeout_seconds).unwrap_or(10_800) as u32;
        let local = |policy: &Option<String>| policy.as_deref() == Some("Local");
        Some(Self {
            name: ServiceName {
                namespace: meta.namespace.clone()?,
                name: meta.name.clone()?,
            },
            cluster_ips,
            external_ips: spec
                .external_ips
                .iter()
                .flatten()
                .filter_map(|ip| ip.parse().ok())
                .collect(),
            load_balancer_ips: served
                .filter_map(|i| i.ip.as_ref()?.parse().ok())
                .filter(|_| is_balancer)
                .collect(),
            source_ranges: ranges(service),
            ports: spec.ports.iter().flatten().filter_map(port).collect(),
            affinity_s: (spec.session_affinity.as_deref() == Some("ClientIP")).then_some(timeout),
            internal_local: local(&spec.internal_traffic_policy),
            external_local: local(&spec.external_traffic_policy),
            health_check_node_port: spec.health_check_node_port.unwrap_or(0) as u16,
        })
    }
}

fn ranges(service: &Service) -> Vec<IpNet> {
    let spec = service.spec.as_ref();
    let listed = spec
        .and_then(|s| s.load_balancer_source_ranges.as_ref())
        .into_iter()
        .flatten();
    listed.filter_map(|range| range.trim().parse().ok()).collect()
}

fn port(port: &k8s_openapi::api::core::v1::ServicePort) -> Option<Port> {
    Some(Port {
        name: port.name.clone().unwrap_or_default(),
        protocol: Protocol::parse(port.protocol.as_deref())?,
        port: u16::try_from(port.port).ok()?,
        node_port: u16::try_from(port.node_port.unwrap_or(0)).ok()?,
    })
}

/// One endpoint of one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub ip: IpAddr,
    pub port: u16,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    /// On this node.
    pub local: bool,
    /// Nodes and zones whose clients should use it; empty is no hint.
    pub for_nodes: Vec<String>,
    pub for_zones: Vec<String>,
}

/// The endpoints of one EndpointSlice, by port name and protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    pub ports: Vec<(String, Protocol, Vec<Endpoint>)>,
}

impl Slice {
    /// The service a slice belongs to.
    pub fn owner(slice: &EndpointSlice) -> Option<ServiceName> {
        let meta = &slice.metadata;
        let name = meta.labels.as_ref()?.get("kubernetes.io/service-name")?;
        Some(ServiceName {
            namespace: meta.namespace.clone()?,
            name: name.clone(),
        })
    }

    /// From the API's form, seen from a node.
    pub fn new(slice: &EndpointSlice, own_node: &str) -> Self {
        if !matches!(slice.address_type.as_str(), "IPv4" | "IPv6") {
            return Self::default();
        }
        let ports = slice.ports.iter().flatten().filter_map(|p| {
            let number = u16::try_from(p.port?).ok()?;
            let protocol = Protocol::parse(p.protocol.as_deref())?;
            let endpoints = slice
                .endpoints
                .iter()
                .flatten()
                .filter_map(|e| endpoint(e, number, own_node));
            Some((p.name.clone().unwrap_or_default(), protocol, endpoints.collect()))
        });
        Self {
            ports: ports.collect(),
        }
    }
}

fn endpoint(
    endpoint: &k8s_openapi::api::discovery::v1::Endpoint,
    port: u16,
    own_node: &str,
) -> Option<Endpoint> {
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    let hints = endpoint.hints.as_ref();
    Some(Endpoint {
        // All addresses of an endpoint are of the same host; the first is the one to use.
        ip: endpoint.addresses.first()?.parse().ok()?,
        port,
        ready,
        serving: conditions.and_then(|c| c.serving).unwrap_or(ready),
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        local: endpoint.node_name.as_deref() == Some(own_node),
        for_nodes: hints
            .and_then(|h| h.for_nodes.as_ref())
            .into_iter()
            .flatten()
            .map(|n| n.name.clone())
            .collect(),
        for_zones: hints
            .and_then(|h| h.for_zones.as_ref())
            .into_iter()
            .flatten()
            .map(|z| z.name.clone())
            .collect(),
    })
}

/// This node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeInfo {
    pub name: String,
    pub addresses: Vec<IpAddr>,
    pub zone: Option<String>,
    /// May receive load balancers' traffic.
    pub eligible: bool,
}

impl NodeInfo {
    /// From the API's form.
    pub fn new(node: &Node) -> Self {
        let addresses = node
            .status
            .as_ref()
            .and_then(|s| s.addresses.as_ref())
            .into_iter()
            .flatten();
        let internal = addresses.filter(|a| a.type_ == "InternalIP");
        let taints = node
            .spec
            .as_ref()
            .and_then(|s| s.taints.as_ref())
            .into_iter()
            .flatten();
        let leaving = taints
            .into_iter()
            .any(|t| t.key == "ToBeDeletedByClusterAutoscaler");
        let labels = node.metadata.labels.as_ref();
        Self {
            name: node.metadata.name.clone().unwrap_or_default(),
            addresses: internal.filter_map(|a| a.address.parse().ok()).collect(),
            zone: labels.and_then(|l| l.get("topology.kubernetes.io/zone")).cloned(),
            eligible: !leaving && node.metadata.deletion_timestamp.is_none(),
        }
    }
}

/// A service with the slices it has.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    pub info: Option<ServiceInfo>,
    /// By slice name.
    pub slices: BTreeMap<String, Slice>,
}

impl Entry {
    /// The endpoints of a port, each address once; a ready one wins over its double.
    pub fn endpoints(&self, port: &Port, family: Family) -> Vec<Endpoint> {
        let mut found: BTreeMap<(IpAddr, u16), Endpoint> = BTreeMap::new();
        for (name, protocol, endpoints) in self.slices.values().flat_map(|s| &s.ports) {
            if *name != port.name || *protocol != port.protocol {
                continue;
            }
            for endpoint in endpoints.iter().filter(|e| Family::of(e.ip) == family) {
                let key = (endpoint.ip, endpoint.port);
                if !found.get(&key).is_some_and(|known| known.ready) {
                    found.insert(key, endpoint.clone());
                }
            }
        }
        found.into_values().collect()
    }
}
