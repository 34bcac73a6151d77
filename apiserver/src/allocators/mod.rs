//! What Services are given: cluster IPs (an IPAddress object each) and node ports (one bitmap in the store).
//!
//! Both are taken in the store before the Service is written, so two API servers cannot give out the same one; what a failed
//! write took is given back, and what a crash in between left is found at the next start (`repair`).

pub mod cluster_ip;
pub mod node_port;
pub mod repair;

use keelson_machinery::{FieldErrors, GroupKind, Path, Status, Value, meta};

use crate::options::{Options, port_range};
use crate::registry::Served;
use crate::server::Server;
use crate::storage::keys::Keys;
use cluster_ip::ClusterIps;
use node_port::NodePorts;

/// Where Services are stored.
pub const SERVICES: &str = "services/specs";

/// The allocators.
#[derive(Debug)]
pub struct Allocators {
    pub ips: ClusterIps,
    pub ports: NodePorts,
}

/// What one write took, and what it gave up.
#[derive(Debug, Default)]
#[must_use]
pub struct Reservation {
    taken: Held,
    given_up: Held,
}

/// Addresses and ports.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Held {
    pub ips: Vec<String>,
    pub ports: Vec<u16>,
}

impl Held {
    /// What a Service holds.
    pub fn by(service: &Value) -> Self {
        let spec = &service["spec"];
        let ips = spec["clusterIPs"].as_array().into_iter().flatten();
        let ports = spec["ports"].as_array().into_iter().flatten();
        let mut held = Self {
            ips: ips
                .filter_map(Value::as_str)
                .filter(|ip| *ip != "None" && !ip.is_empty())
                .map(str::to_owned)
                .collect(),
            ports: ports
                .map(|port| &port["nodePort"])
                .chain(std::iter::once(&spec["healthCheckNodePort"]))
                .filter_map(Value::as_u64)
                .filter_map(|port| u16::try_from(port).ok())
                .filter(|port| *port != 0)
                .collect(),
        };
        held.ports.sort_unstable();
        held.ports.dedup();
        held
    }

    fn without(&self, other: &Self) -> Self {
        Self {
            ips: self
                .ips
                .iter()
                .filter(|ip| !other.ips.contains(ip))
                .cloned()
                .collect(),
            ports: self
                .ports
                .iter()
                .filter(|port| !other.ports.contains(port))
                .copied()
                .collect(),
        }
    }

    async fn give_back(&self, server: &Server) {
        for ip in &self.ips {
            if let Err(error) = server.allocators.ips.release(server, ip).await {
                tracing::warn!(ip, %error, "a cluster IP could not be given back; the next repair does it");
            }
        }
        if !self.ports.is_empty()
            && let Err(error) = server.allocators.ports.release(server, &self.ports).await
        {
            tracing::warn!(ports = ?self.ports, %error, "node ports could not be given back; the next repair does it");
        }
    }
}

impl Reservation {
    /// The write goes ahead.
    pub async fn keep(self, server: &Server) {
        self.given_up.give_back(server).await;
    }

    /// The write failed.
    pub async fn release(self, server: &Server) {
        self.taken.give_back(server).await;
    }
}

impl Allocators {
    /// # Errors
    /// A range that is none.
    pub fn new(options: &Options, keys: &Keys) -> anyhow::Result<Self> {
        let range = port_range(&options.services.service_node_port_range).map_err(anyhow::Error::msg)?;
        Ok(Self {
            ips: ClusterIps::new(&options.services.service_cluster_ip_range)?,
            ports: NodePorts::new(range, keys.other("ranges/servicenodeports")),
        })
    }

    /// Gives a new Service what it needs.
    pub async fn before_create(
        &self,
        server: &Server,
        served: &Served,
        object: &mut Value,
        dry_run: bool,
    ) -> Result<Reservation, Status> {
        if served.hub.storage_prefix != SERVICES {
            return Ok(Reservation::default());
        }
        self.give(server, object, &Held::default(), dry_run).await
    }

    /// Gives a changed Service what it needs now; what it needs no more is freed once the change is kept.
    pub async fn before_update(
        &self,
        server: &Server,
        served: &Served,
        new: &mut Value,
        old: &Value,
        dry_run: bool,
    ) -> Result<Reservation, Status> {
        if served.hub.storage_prefix != SERVICES {
            return Ok(Reservation::default());
        }
        let before = Held::by(old);
        let mut reservation = self.give(server, new, &before, dry_run).await?;
        if !dry_run {
            reservation.given_up = before.without(&Held::by(new));
        }
        Ok(reservation)
    }

    /// Frees what a removed Service held.
    pub async fn after_delete(&self, server: &Server, json: &[u8]) {
        if let Ok(service) = serde_json::from_slice::<Value>(json) {
            Held::by(&service).give_back(server).await;
        }
    }

    async fn give(
        &self,
        server: &Server,
        service: &mut Value,
        before: &Held,
        dry_run: bool,
    ) -> Result<Reservation, Status> {
        let mut reservation = Reservation::default();
        match self
            .try_give(server, service, before, dry_run, &mut reservation.taken)
            .await
        {
            Ok(Ok(())) => Ok(reservation),
            Ok(Err(refused)) => {
                reservation.release(server).await;
                Err(refused.status(service))
            }
            Err(status) => {
                reservation.release(server).await;
                Err(status)
            }
        }
    }

    async fn try_give(
        &self,
        server: &Server,
        service: &mut Value,
        before: &Held,
        dry_run: bool,
        taken: &mut Held,
    ) -> Result<Result<(), Refused>, Status> {
        if needs_ips(&service["spec"])
            && let Err(why) = self.ips.give(server, service, before, dry_run, taken).await
        {
            return Ok(Err(Refused::Ip(why)));
        }
        if !needs_ports(&service["spec"]) {
            return Ok(Ok(()));
        }
        let given = self.ports.give(server, service, before, dry_run, taken).await?;
        Ok(given.map_err(|(index, port, why)| Refused::Port(index, port, why)))
    }
}

/// What cannot be given.
enum Refused {
    Ip(String),
    Port(usize, u16, String),
}

impl Refused {
    fn status(self, service: &Value) -> Status {
        let mut errors = FieldErrors::default();
        let spec = Path::new("spec");
        match self {
            Self::Ip(why) => errors.invalid(
                &spec.child("clusterIPs"),
                service["spec"]["clusterIPs"].clone(),
                why,
            ),
            Self::Port(index, port, why) => {
                errors.invalid(&spec.child("ports").index(index).child("nodePort"), port, why);
            }
        }
        Status::invalid(&GroupKind::new("", "Service"), meta::name(service), &errors)
    }
}

fn needs_ips(spec: &Value) -> bool {
    let headless = spec["clusterIPs"].get(0).is_some_and(|ip| ip == "None") || spec["clusterIP"] == "None";
    spec["type"] != "ExternalName" && !headless
}

fn needs_ports(spec: &Value) -> bool {
    spec["type"] == "NodePort"
        || (spec["type"] == "LoadBalancer" && spec["allocateLoadBalancerNodePorts"] != false)
        || needs_health_check(spec)
}

fn needs_health_check(spec: &Value) -> bool {
    spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_service_holds_its_addresses_and_ports() {
        let service = json!({"spec": {
            "clusterIPs": ["10.0.0.1"], "healthCheckNodePort": 31000,
            "ports": [{"nodePort": 30001}, {"nodePort": 30001}, {"port": 80}],
        }});
        let held = Held::by(&service);
        assert_eq!(
            (held.ips.as_slice(), held.ports.as_slice()),
            (&["10.0.0.1".to_owned()][..], &[30001, 31000][..])
        );
        assert_eq!(
            Held::by(&json!({"spec": {"clusterIPs": ["None"]}})),
            Held::default()
        );
        assert_eq!(held.without(&held), Held::default());
    }
}
