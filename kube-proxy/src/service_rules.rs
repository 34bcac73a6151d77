//! The rules of one service. Pure: the same service, endpoints and node give the same piece.

use std::net::IpAddr;

use ipnet::IpNet;
use sha2::{Digest, Sha256};

use crate::endpoints::{Chosen, choose};
use crate::frame::{MARK, REJECT};
use crate::model::{Endpoint, Entry, Family, NodeInfo, Port, ServiceInfo};
use crate::rules::{Action, Key, Map, Match, Piece, Rule, Verdict, commented, rule};

/// What rules depend on besides the service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    pub node: NodeInfo,
    /// The pods' addresses; traffic from outside to a cluster IP is masqueraded. Empty: none is.
    pub cluster_cidrs: Vec<IpNet>,
    /// Masquerade everything sent to a cluster IP.
    pub masquerade_all: bool,
}

impl Context {
    fn pods(&self, family: Family) -> Vec<IpNet> {
        self.cluster_cidrs
            .iter()
            .filter(|c| Family::of(c.addr()) == family)
            .copied()
            .collect()
    }
}

/// Longest name nftables takes.
const NAME_MAX: usize = 255;

/// The piece of one service in one family's table.
pub fn service_rules(entry: &Entry, context: &Context, family: Family) -> Piece {
    let mut piece = Piece::default();
    let Some(info) = &entry.info else { return piece };
    let Some(cluster_ip) = info
        .cluster_ips
        .iter()
        .copied()
        .find(|ip| Family::of(*ip) == family)
    else {
        return piece;
    };
    piece
        .elements
        .insert((Map::ClusterIps, Key::Ip(cluster_ip)), Verdict::Member);
    for port in &info.ports {
        let chosen = choose(&entry.endpoints(port, family), &context.node);
        PortRules {
            info,
            port,
            chosen,
            cluster_ip,
            family,
            context,
            piece: &mut piece,
        }
        .build();
    }
    piece
}

struct PortRules<'a> {
    info: &'a ServiceInfo,
    port: &'a Port,
    chosen: Chosen,
    cluster_ip: IpAddr,
    family: Family,
    context: &'a Context,
    piece: &'a mut Piece,
}

impl PortRules<'_> {
    fn build(&mut self) {
        let cluster_chain = self.name("service", None);
        let local_chain = self.name("local", None);
        let uses_local = self.info.internal_local || self.has_external() && self.info.external_local;
        let uses_cluster = !self.info.internal_local || self.has_external();
        for endpoint in self.used_endpoints(uses_cluster, uses_local) {
            self.endpoint(&endpoint);
        }
        let chosen = self.chosen.clone();
        if uses_cluster && !chosen.cluster.is_empty() {
            let rules = self.spread(&chosen.cluster);
            self.piece.chains.insert(cluster_chain.clone(), rules);
        }
        if uses_local && !chosen.local.is_empty() {
            let rules = self.spread(&chosen.local);
            self.piece.chains.insert(local_chain.clone(), rules);
        }
        self.internal(if self.info.internal_local {
            &local_chain
        } else {
            &cluster_chain
        });
        if self.has_external() {
            self.external(&cluster_chain, &local_chain);
        }
    }

    fn has_external(&self) -> bool {
        self.port.node_port > 0 || self.external_ips().next().is_some()
    }

    fn external_ips(&self) -> impl Iterator<Item = IpAddr> + use<'_> {
        let all = self.info.external_ips.iter().chain(&self.info.load_balancer_ips);
        all.copied().filter(|ip| Family::of(*ip) == self.family)
    }

    fn used_endpoints(&self, cluster: bool, local: bool) -> Vec<Endpoint> {
        let cluster = self.chosen.cluster.iter().filter(|_| cluster);
        let mut used: Vec<Endpoint> = cluster
            .chain(self.chosen.local.iter().filter(|_| local))
            .cloned()
            .collect();
        used.sort_by_key(|e| (e.ip, e.port));
        used.dedup_by_key(|e| (e.ip, e.port));
        used
    }

    /// Hairpin, affinity, DNAT.
    fn endpoint(&mut self, endpoint: &Endpoint) {
        let mut rules = vec![commented(
            [Match::Saddr(endpoint.ip)],
            Action::Jump(MARK.to_owned()),
            "masquerade hairpin traffic",
        )];
        if let Some(timeout) = self.info.affinity_s {
            let set = self.name("affinity", Some(endpoint));
            rules.push(rule([], Action::Remember(set.clone())));
            self.piece.affinity_sets.insert(set, timeout);
        }
        rules.push(rule(
            [Match::L4(self.port.protocol)],
            Action::Dnat(endpoint.ip, endpoint.port),
        ));
        let chain = self.name("endpoint", Some(endpoint));
        self.piece.chains.insert(chain, rules);
    }

    fn spread(&self, endpoints: &[Endpoint]) -> Vec<Rule> {
        let mut rules = Vec::new();
        if self.info.affinity_s.is_some() {
            rules.extend(endpoints.iter().map(|e| {
                let set = self.name("affinity", Some(e));
                rule(
                    [Match::SaddrIn(set)],
                    Action::Goto(self.name("endpoint", Some(e))),
                )
            }));
        }
        let chains = endpoints.iter().map(|e| self.name("endpoint", Some(e))).collect();
        rules.push(rule([], Action::Spread(chains)));
        rules
    }

    /// Traffic to the cluster IP.
    fn internal(&mut self, chain: &str) {
        let key = Key::Service(self.cluster_ip, self.port.protocol, self.port.port);
        let Some(rules) = self.piece.chains.get_mut(chain) else {
            let verdict = self.refusal();
            self.piece
                .elements
                .insert((Map::NoEndpointServices, key), verdict);
            return;
        };
        let to_it = [
            Match::Daddr(self.cluster_ip),
            Match::DestinationPort(self.port.protocol, self.port.port),
        ];
        let pods = self.context.pods(self.family);
        if self.context.masquerade_all {
            rules.insert(0, rule(to_it, Action::Jump(MARK.to_owned())));
        } else if !pods.is_empty() {
            let mut matches = to_it.to_vec();
            matches.push(Match::SaddrOutside(pods));
            let comment = "masquerade off-cluster traffic";
            rules.insert(0, commented(matches, Action::Jump(MARK.to_owned()), comment));
        }
        self.piece
            .elements
            .insert((Map::ServiceIps, key), Verdict::Goto(chain.to_owned()));
    }

    /// Without any endpoint connections are rejected; where only other nodes have some, they are dropped, so that a
    /// load balancer tries elsewhere.
    fn refusal(&self) -> Verdict {
        if self.chosen.any {
            Verdict::Drop
        } else {
            Verdict::Goto(REJECT.to_owned())
        }
    }

    /// Traffic to node ports, external and load balancer addresses.
    fn external(&mut self, cluster_chain: &str, local_chain: &str) {
        let chain = self.name("external", None);
        let target = if self.info.external_local {
            local_chain
        } else {
            cluster_chain
        };
        let mut rules = Vec::new();
        let has_cluster = self.piece.chains.contains_key(cluster_chain);
        if !self.info.external_local {
            rules.push(rule([], Action::Jump(MARK.to_owned())));
        } else if has_cluster {
            let pods = self.context.pods(self.family);
            if !pods.is_empty() {
                let to = Action::Goto(cluster_chain.to_owned());
                rules.push(commented(
                    [Match::SaddrWithin(pods)],
                    to,
                    "short-circuit pod traffic",
                ));
            }
            let mark = Action::Jump(MARK.to_owned());
            rules.push(commented([Match::SaddrLocal], mark, "masquerade local traffic"));
            let to = Action::Goto(cluster_chain.to_owned());
            rules.push(commented([Match::SaddrLocal], to, "short-circuit local traffic"));
        }
        let serves = self.piece.chains.contains_key(target);
        if serves {
            rules.push(rule([], Action::Goto(target.to_owned())));
        }
        let reachable = serves || (self.info.external_local && has_cluster);
        let (protocol, port, node_port) = (self.port.protocol, self.port.port, self.port.node_port);
        let refusal = self.refusal();
        let ips: Vec<IpAddr> = self.external_ips().collect();
        let keys = ips.into_iter().map(|ip| Key::Service(ip, protocol, port));
        let node_key = (node_port > 0).then_some(Key::NodePort(protocol, node_port));
        for key in keys.chain(node_key) {
            let on_node = matches!(key, Key::NodePort(..));
            if reachable {
                let map = if on_node {
                    Map::ServiceNodePorts
                } else {
                    Map::ServiceIps
                };
                self.piece
                    .elements
                    .insert((map, key.clone()), Verdict::Goto(chain.clone()));
            }
            if !serves {
                let map = if on_node {
                    Map::NoEndpointNodePorts
                } else {
                    Map::NoEndpointServices
                };
                self.piece.elements.insert((map, key), refusal.clone());
            }
        }
        if reachable {
            self.piece.chains.insert(chain, rules);
        }
        self.firewall();
    }

    /// `loadBalancerSourceRanges`.
    fn firewall(&mut self) {
        let ranges: Vec<IpNet> = self
            .info
            .source_ranges
            .iter()
            .filter(|r| Family::of(r.addr()) == self.family)
            .copied()
            .collect();
        let ips: Vec<IpAddr> = self
            .info
            .load_balancer_ips
            .iter()
            .filter(|ip| Family::of(**ip) == self.family)
            .copied()
            .collect();
        if self.info.source_ranges.is_empty() || ips.is_empty() {
            return;
        }
        let chain = self.name("firewall", None);
        let matches = if ranges.is_empty() {
            vec![]
        } else {
            vec![Match::SaddrOutside(ranges)]
        };
        self.piece
            .chains
            .insert(chain.clone(), vec![rule(matches, Action::Drop)]);
        for ip in ips {
            let key = Key::Service(ip, self.port.protocol, self.port.port);
            self.piece
                .elements
                .insert((Map::FirewallIps, key), Verdict::Goto(chain.clone()));
        }
    }

    /// `KIND-HASH-ns/name/proto/port[__ip/port]`, upstream's form.
    fn name(&self, kind: &str, endpoint: Option<&Endpoint>) -> String {
        let (info, protocol) = (self.info, self.port.protocol.as_str());
        let port_name = match self.port.name.as_str() {
            "" => info.name.to_string(),
            name => format!("{}:{name}", info.name),
        };
        let at = endpoint.map(|e| match e.ip {
            IpAddr::V4(ip) => format!("{ip}/{}", e.port),
            // Colons have a meaning of their own in nftables.
            IpAddr::V6(ip) => format!("{}/{}", ip.to_string().replace(':', "."), e.port),
        });
        let hash = hash(&format!(
            "{port_name}{protocol}{}",
            at.as_deref().unwrap_or_default()
        ));
        let mut name = format!("{kind}-{hash}-{}/{protocol}/{}", info.name, self.port.name);
        if let Some(at) = at {
            name.push_str("__");
            name.push_str(&at);
        }
        name.truncate(NAME_MAX);
        name
    }
}

/// The first eight characters of the base32 form of the SHA-256.
fn hash(text: &str) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let digest = Sha256::digest(text.as_bytes());
    let bits = digest[..5]
        .iter()
        .fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
    (0..8)
        .rev()
        .map(|at| ALPHABET[(bits >> (at * 5) & 31) as usize] as char)
        .collect()
}
