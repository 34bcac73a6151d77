//! UDP has no connections, so the kernel keeps sending a flow where its first packet went: after endpoints change,
//! entries that lead nowhere are deleted.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use crate::model::{Endpoint, Entry, Family, Port, Protocol, ServiceInfo};

/// Entries to delete.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    pub to: Destination,
    /// Only those that were sent to this endpoint; all where absent.
    pub endpoint: Option<IpAddr>,
}

/// Where a flow's packets were addressed to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    Address(SocketAddr),
    NodePort(u16),
}

/// The flows that are stale after a service changed. Pure.
pub fn stale(old: &Entry, new: Option<&Entry>) -> Vec<Flow> {
    let Some(info) = &old.info else { return Vec::new() };
    let mut flows = BTreeSet::new();
    for port in info.ports.iter().filter(|p| p.protocol == Protocol::Udp) {
        for family in [Family::V4, Family::V6] {
            let usable = |entry: &Entry| -> BTreeSet<IpAddr> {
                let all = entry.endpoints(port, family);
                all.into_iter()
                    .filter(|e: &Endpoint| e.serving)
                    .map(|e| e.ip)
                    .collect()
            };
            let before = usable(old);
            let after = new.filter(|n| n.info.is_some()).map(usable).unwrap_or_default();
            for to in destinations(info, port, family) {
                // Packets that came while nothing answered were let through untranslated.
                if before.is_empty() && !after.is_empty() {
                    flows.insert(Flow {
                        to: to.clone(),
                        endpoint: None,
                    });
                }
                let gone = before.difference(&after);
                flows.extend(gone.map(|ip| Flow {
                    to: to.clone(),
                    endpoint: Some(*ip),
                }));
            }
        }
    }
    flows.into_iter().collect()
}

fn destinations(info: &ServiceInfo, port: &Port, family: Family) -> Vec<Destination> {
    let ips = info
        .cluster_ips
        .iter()
        .chain(&info.external_ips)
        .chain(&info.load_balancer_ips);
    let ips = ips.filter(|ip| Family::of(**ip) == family);
    let mut all: Vec<Destination> = ips
        .map(|ip| Destination::Address(SocketAddr::new(*ip, port.port)))
        .collect();
    if port.node_port > 0 {
        all.push(Destination::NodePort(port.node_port));
    }
    all
}

/// The `conntrack` program's arguments.
pub fn arguments(flow: &Flow) -> Vec<String> {
    let mut args: Vec<String> = ["-D", "-p", "udp"].map(str::to_owned).to_vec();
    match &flow.to {
        Destination::Address(to) => {
            if to.is_ipv6() {
                args.extend(["-f", "ipv6"].map(str::to_owned));
            }
            args.extend(["--orig-dst".to_owned(), to.ip().to_string()]);
            args.extend(["--dport".to_owned(), to.port().to_string()]);
        }
        Destination::NodePort(port) => args.extend(["--dport".to_owned(), port.to_string()]),
    }
    if let Some(ip) = flow.endpoint {
        args.extend(["--dst-nat".to_owned(), ip.to_string()]);
    }
    args
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Slice;

    fn entry(endpoints: &[&str]) -> Entry {
        let service = json!({"metadata": {"namespace": "ns", "name": "dns"}, "spec": {"clusterIP": "10.96.0.10",
            "ports": [{"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053}]}});
        let endpoints: Vec<_> = endpoints.iter().map(|ip| json!({"addresses": [ip]})).collect();
        let slice = json!({"addressType": "IPv4", "metadata": {}, "endpoints": endpoints,
            "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}]});
        let slice = Slice::new(&serde_json::from_value(slice).unwrap(), "n");
        let info = ServiceInfo::new(&serde_json::from_value(service).unwrap());
        Entry {
            info,
            slices: [("s".to_owned(), slice)].into(),
        }
    }

    fn commands(old: &[&str], new: Option<&[&str]>) -> Vec<String> {
        let flows = stale(&entry(old), new.map(entry).as_ref());
        flows.iter().map(|f| arguments(f)[3..].join(" ")).collect()
    }

    #[test]
    fn flows_to_endpoints_that_left_are_deleted() {
        assert_eq!(
            commands(&["10.0.0.1", "10.0.0.2"], Some(&["10.0.0.2", "10.0.0.3"])),
            [
                "--orig-dst 10.96.0.10 --dport 53 --dst-nat 10.0.0.1",
                "--dport 30053 --dst-nat 10.0.0.1"
            ]
        );
        assert_eq!(commands(&["10.0.0.1"], None).len(), 2);
        assert_eq!(commands(&["10.0.0.1"], Some(&["10.0.0.1"])).len(), 0);
    }

    #[test]
    fn the_first_endpoint_frees_flows_that_led_nowhere() {
        assert_eq!(
            commands(&[], Some(&["10.0.0.1"])),
            ["--orig-dst 10.96.0.10 --dport 53", "--dport 30053"]
        );
    }
}
