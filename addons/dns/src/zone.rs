//! What is known of the cluster: services, their endpoints, namespaces. Compact values made from API objects.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

/// Namespace and name, lower case as the API demands.
pub type Key = (Box<str>, Box<str>);

/// A named port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub name: Box<str>,
    /// `tcp`, `udp`, `sctp`.
    pub protocol: Box<str>,
    pub port: u16,
}

/// What a service's name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Addresses(Vec<IpAddr>),
    /// Its endpoints.
    Headless,
    Alias(Box<str>),
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFacts {
    pub target: Target,
    pub ports: Vec<Port>,
}

impl ServiceFacts {
    /// From the API's form.
    pub fn new(service: &Service) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        let single = spec.cluster_ip.iter().filter(|_| spec.cluster_ips.is_none());
        let ips: Vec<&String> = spec.cluster_ips.iter().flatten().chain(single).collect();
        let target = if spec.type_.as_deref() == Some("ExternalName") {
            Target::Alias(spec.external_name.as_deref()?.trim_end_matches('.').into())
        } else if ips.iter().any(|ip| *ip == "None") {
            Target::Headless
        } else {
            Target::Addresses(ips.into_iter().filter_map(|ip| ip.parse().ok()).collect())
        };
        let ports = spec
            .ports
            .iter()
            .flatten()
            .filter_map(|p| port(p.name.as_deref(), p.protocol.as_deref(), Some(p.port)));
        Some(Self {
            target,
            ports: ports.collect(),
        })
    }
}

fn port(name: Option<&str>, protocol: Option<&str>, port: Option<i32>) -> Option<Port> {
    Some(Port {
        name: name.unwrap_or_default().into(),
        protocol: protocol.unwrap_or("TCP").to_ascii_lowercase().into(),
        port: u16::try_from(port?).ok()?,
    })
}

/// One ready endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointFacts {
    pub ip: IpAddr,
    /// Its name under the service: the hostname it asks for, or its address with dashes.
    pub name: Box<str>,
}

/// One EndpointSlice; endpoints that are not ready are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SliceFacts {
    pub endpoints: Vec<EndpointFacts>,
    pub ports: Vec<Port>,
}

impl SliceFacts {
    /// The service a slice belongs to.
    pub fn owner(slice: &EndpointSlice) -> Option<Key> {
        let meta = &slice.metadata;
        let name = meta.labels.as_ref()?.get("kubernetes.io/service-name")?;
        Some((meta.namespace.as_deref()?.into(), name.as_str().into()))
    }

    /// From the API's form.
    pub fn new(slice: &EndpointSlice) -> Self {
        let ready = |e: &&k8s_openapi::api::discovery::v1::Endpoint| {
            e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true)
        };
        let endpoints = slice
            .endpoints
            .iter()
            .flatten()
            .filter(ready)
            .flat_map(|endpoint| {
                endpoint.addresses.iter().filter_map(|address| {
                    let ip: IpAddr = address.parse().ok()?;
                    let hostname = endpoint.hostname.as_deref().filter(|h| !h.is_empty());
                    Some(EndpointFacts {
                        ip,
                        name: hostname.map_or_else(|| dashed(ip).into(), Into::into),
                    })
                })
            });
        let ports = slice.ports.iter().flatten();
        let ports = ports.filter_map(|p| port(p.name.as_deref(), p.protocol.as_deref(), p.port));
        Self {
            endpoints: endpoints.collect(),
            ports: ports.collect(),
        }
    }
}

/// An address as a label: `10-244-0-2`, `fd00--1`.
pub fn dashed(ip: IpAddr) -> String {
    ip.to_string().replace(['.', ':'], "-")
}

/// Everything.
#[derive(Debug, Default)]
pub struct Zone {
    services: HashMap<Key, ServiceFacts>,
    slices: HashMap<Key, BTreeMap<Box<str>, SliceFacts>>,
    namespaces: HashSet<Box<str>>,
    /// Services by cluster address.
    by_address: HashMap<IpAddr, Key>,
    /// Services that have an endpoint of an address.
    by_endpoint: HashMap<IpAddr, Vec<Key>>,
}

impl Zone {
    /// A service appeared, changed or went.
    pub fn set_service(&mut self, key: Key, facts: Option<ServiceFacts>) {
        if let Some(ServiceFacts {
            target: Target::Addresses(old),
            ..
        }) = self.services.remove(&key)
        {
            for ip in old {
                if self.by_address.get(&ip) == Some(&key) {
                    self.by_address.remove(&ip);
                }
            }
        }
        let Some(facts) = facts else { return };
        if let Target::Addresses(ips) = &facts.target {
            self.by_address.extend(ips.iter().map(|ip| (*ip, key.clone())));
        }
        self.services.insert(key, facts);
    }

    /// A slice appeared, changed or went.
    pub fn set_slice(&mut self, owner: Key, name: &str, facts: Option<SliceFacts>) {
        let slices = self.slices.entry(owner.clone()).or_default();
        let old = slices.remove(name);
        for endpoint in old.iter().flat_map(|s| &s.endpoints) {
            if let Some(owners) = self.by_endpoint.get_mut(&endpoint.ip) {
                if let Some(at) = owners.iter().position(|o| *o == owner) {
                    owners.swap_remove(at);
                }
                if owners.is_empty() {
                    self.by_endpoint.remove(&endpoint.ip);
                }
            }
        }
        if let Some(facts) = facts {
            for endpoint in &facts.endpoints {
                self.by_endpoint
                    .entry(endpoint.ip)
                    .or_default()
                    .push(owner.clone());
            }
            slices.insert(name.into(), facts);
        }
        if slices.is_empty() {
            self.slices.remove(&owner);
        }
    }

    /// A namespace appeared or went.
    pub fn set_namespace(&mut self, name: &str, present: bool) {
        if present {
            self.namespaces.insert(name.into());
        } else {
            self.namespaces.remove(name);
        }
    }

    /// Whether a namespace exists.
    pub fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.contains(name)
    }

    /// A service by name.
    pub fn service(&self, namespace: &str, name: &str) -> Option<(&Key, &ServiceFacts)> {
        self.services.get_key_value(&(namespace.into(), name.into()))
    }

    /// The slices of a service.
    pub fn slices(&self, key: &Key) -> impl Iterator<Item = &SliceFacts> {
        self.slices.get(key).into_iter().flat_map(BTreeMap::values)
    }

    /// The service that has an address.
    pub fn service_at(&self, ip: IpAddr) -> Option<&Key> {
        self.by_address.get(&ip)
    }

    /// Headless services with an endpoint of an address, and the endpoint's name there.
    pub fn endpoints_at(&self, ip: IpAddr) -> impl Iterator<Item = (&Key, &str)> {
        let owners = self.by_endpoint.get(&ip).into_iter().flatten();
        let headless = owners.filter(|key| {
            self.services
                .get(*key)
                .is_some_and(|s| s.target == Target::Headless)
        });
        headless.filter_map(move |key| {
            let mut endpoints = self.slices(key).flat_map(|s| &s.endpoints);
            Some((key, &*endpoints.find(|e| e.ip == ip)?.name))
        })
    }
}
