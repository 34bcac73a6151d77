//! The answer to one question. Pure: a zone and a question in, records or "ask someone else" out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::limits::{ALIASES_MAX, TTL};
use crate::zone::{EndpointFacts, Key, Port, ServiceFacts, Target, Zone};

/// The schema's version, as `dns-version` says.
const SCHEMA: &str = "1.1.0";

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Records {
        code: ResponseCode,
        answers: Vec<Record>,
        authorities: Vec<Record>,
        additionals: Vec<Record>,
    },
    /// Not a name of the cluster: the node's resolvers know.
    Forward,
    /// The records so far lead to a name outside the cluster, which the node's resolvers know.
    ForwardAlias { answers: Vec<Record>, target: Name },
}

/// A question's name inside the cluster's domain, as what exists there.
struct Found {
    records: Vec<RData>,
    /// Names the records mention, with their addresses.
    additionals: Vec<(Name, RData)>,
    alias: Option<Name>,
}

/// Answers from a zone.
pub struct Resolver<'a> {
    pub zone: &'a Zone,
    /// `cluster.local.`
    pub domain: &'a Name,
    /// Of the SOA.
    pub serial: u32,
}

impl Resolver<'_> {
    /// The answer to a question.
    pub fn answer(&self, name: &Name, kind: RecordType) -> Answer {
        if let Ok(net) = name.parse_arpa_name() {
            return self.reverse(name, net, kind);
        }
        let (mut name, mut answers) = (name.clone(), Vec::new());
        for _ in 0..ALIASES_MAX {
            if !self.domain.zone_of(&name) {
                return if answers.is_empty() {
                    Answer::Forward
                } else {
                    Answer::ForwardAlias {
                        answers,
                        target: name,
                    }
                };
            }
            let Some(found) = self.find(&name, kind) else {
                return self.negative(ResponseCode::NXDomain, answers);
            };
            if let Some(alias) = found.alias {
                answers.push(record(&name, RData::CNAME(CNAME(alias.clone()))));
                if kind == RecordType::CNAME {
                    return positive(answers, vec![]);
                }
                name = alias;
                continue;
            }
            answers.extend(found.records.into_iter().map(|data| record(&name, data)));
            if answers.is_empty() {
                return self.negative(ResponseCode::NoError, answers);
            }
            let additionals = found
                .additionals
                .into_iter()
                .map(|(name, data)| record(&name, data));
            return positive(answers, additionals.collect());
        }
        self.negative(ResponseCode::ServFail, vec![])
    }

    /// What a name of the domain has of a type; `None` when the name does not exist.
    fn find(&self, name: &Name, kind: RecordType) -> Option<Found> {
        let labels: Vec<String> = self.labels(name);
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        match labels.as_slice() {
            [] => Some(self.apex(kind)),
            ["dns", "ns"] | ["svc"] | ["pod"] | ["dns"] => Some(found(vec![])),
            ["ns", "dns"] => Some(self.own_address(kind)),
            ["dns-version"] if kind == RecordType::TXT => {
                Some(found(vec![RData::TXT(TXT::new(vec![SCHEMA.to_owned()]))]))
            }
            ["dns-version"] => Some(found(vec![])),
            [namespace, "svc" | "pod"] => self.zone.has_namespace(namespace).then(|| found(vec![])),
            [ip, namespace, "pod"] => self.pod(ip, namespace, kind),
            [name, namespace, "svc"] => {
                let (key, service) = self.zone.service(namespace, name)?;
                self.service(key, service, kind)
            }
            [endpoint, name, namespace, "svc"] => {
                let (key, service) = self.zone.service(namespace, name)?;
                self.endpoint(key, service, endpoint, kind)
            }
            [port, protocol, name, namespace, "svc"] => {
                let (key, service) = self.zone.service(namespace, name)?;
                let (port, protocol) = (port.strip_prefix('_')?, protocol.strip_prefix('_')?);
                self.port(key, service, port, protocol, kind)
            }
            _ => None,
        }
    }

    /// The labels before the domain, lower case.
    fn labels(&self, name: &Name) -> Vec<String> {
        let own = usize::from(name.num_labels().saturating_sub(self.domain.num_labels()));
        name.iter()
            .take(own)
            .map(|l| String::from_utf8_lossy(l).to_ascii_lowercase())
            .collect()
    }

    fn apex(&self, kind: RecordType) -> Found {
        match kind {
            RecordType::SOA => found(vec![RData::SOA(self.soa())]),
            RecordType::NS => found(vec![RData::NS(NS(self.under(&["ns", "dns"])))]),
            _ => found(vec![]),
        }
    }

    /// `ns.dns`: the service that leads to us.
    fn own_address(&self, kind: RecordType) -> Found {
        let own = self.zone.service("kube-system", "kube-dns");
        match own.map(|(_, service)| &service.target) {
            Some(Target::Addresses(ips)) => found(addresses(ips.iter().copied(), kind)),
            _ => found(vec![]),
        }
    }

    fn service(&self, key: &Key, service: &ServiceFacts, kind: RecordType) -> Option<Found> {
        Some(match &service.target {
            Target::Alias(target) => Found {
                alias: Some(Name::from_ascii(format!("{target}.")).ok()?),
                ..found(vec![])
            },
            _ if kind == RecordType::SRV => self.srv(key, service, |_| true),
            Target::Addresses(ips) => found(addresses(ips.iter().copied(), kind)),
            Target::Headless => {
                let ips = self.endpoints(key).map(|e| e.ip);
                // A headless service without ready endpoints has no name.
                self.endpoints(key).next()?;
                found(addresses(ips, kind))
            }
        })
    }

    fn endpoint(&self, key: &Key, service: &ServiceFacts, name: &str, kind: RecordType) -> Option<Found> {
        if matches!(service.target, Target::Alias(_)) {
            return None;
        }
        if let Some(protocol) = name.strip_prefix('_') {
            let known = service.ports.iter().any(|p| *p.protocol == *protocol);
            return known.then(|| found(vec![]));
        }
        let mut ips = self
            .endpoints(key)
            .filter(|e| *e.name == *name)
            .map(|e| e.ip)
            .peekable();
        ips.peek()?;
        Some(found(addresses(ips, kind)))
    }

    fn port(
        &self,
        key: &Key,
        service: &ServiceFacts,
        port: &str,
        protocol: &str,
        kind: RecordType,
    ) -> Option<Found> {
        let wanted = |p: &Port| *p.name == *port && *p.protocol == *protocol;
        let srv = self.srv(key, service, wanted);
        if srv.records.is_empty() {
            return None;
        }
        Some(if kind == RecordType::SRV {
            srv
        } else {
            found(vec![])
        })
    }

    /// SRV records of the ports that are wanted: to the service itself, or to each endpoint of a headless one.
    fn srv(&self, key: &Key, service: &ServiceFacts, wanted: impl Fn(&Port) -> bool) -> Found {
        let mut result = found(vec![]);
        let (namespace, name) = (&*key.0, &*key.1);
        let mut add = |ports: Vec<u16>, target: Name, ips: Vec<IpAddr>, weight: u16| {
            let srv = |port| RData::SRV(SRV::new(0, weight, port, target.clone()));
            result.records.extend(ports.into_iter().map(srv));
            result
                .additionals
                .extend(ips.into_iter().map(|ip| (target.clone(), address(ip))));
        };
        let numbers = |ports: &[Port]| {
            ports
                .iter()
                .filter(|p| wanted(p))
                .map(|p| p.port)
                .collect::<Vec<_>>()
        };
        match &service.target {
            Target::Addresses(ips) => {
                let ports = numbers(&service.ports);
                if !ports.is_empty() {
                    let weight = 100 / ports.len().clamp(1, 100) as u16;
                    add(ports, self.under(&[name, namespace, "svc"]), ips.clone(), weight);
                }
            }
            Target::Headless => {
                let count = self.endpoints(key).count().clamp(1, 100) as u16;
                for slice in self.zone.slices(key) {
                    let ports = numbers(&slice.ports);
                    for endpoint in slice.endpoints.iter().filter(|_| !ports.is_empty()) {
                        let target = self.under(&[&endpoint.name, name, namespace, "svc"]);
                        add(ports.clone(), target, vec![endpoint.ip], 100 / count);
                    }
                }
            }
            Target::Alias(_) => {}
        }
        result
    }

    /// `A-B-C-D.ns.pod`: any address may be asked for, as CoreDNS' `pods insecure` does.
    fn pod(&self, ip: &str, namespace: &str, kind: RecordType) -> Option<Found> {
        if !self.zone.has_namespace(namespace) {
            return None;
        }
        let v4 = ip.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::V4);
        let ip = v4
            .or_else(|_| ip.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::V6))
            .ok()?;
        Some(found(addresses(std::iter::once(ip), kind)))
    }

    fn reverse(&self, name: &Name, net: ipnet::IpNet, kind: RecordType) -> Answer {
        if net.prefix_len() != net.max_prefix_len() {
            return Answer::Forward;
        }
        let mut names = Vec::new();
        if let Some(key) = self.zone.service_at(net.addr()) {
            names.push(self.under(&[&key.1, &key.0, "svc"]));
        }
        for (key, endpoint) in self.zone.endpoints_at(net.addr()) {
            names.push(self.under(&[endpoint, &key.1, &key.0, "svc"]));
        }
        match kind {
            _ if names.is_empty() => Answer::Forward,
            RecordType::PTR => positive(
                names
                    .into_iter()
                    .map(|n| record(name, RData::PTR(PTR(n))))
                    .collect(),
                vec![],
            ),
            _ => self.negative(ResponseCode::NoError, vec![]),
        }
    }

    fn endpoints(&self, key: &Key) -> impl Iterator<Item = &EndpointFacts> {
        self.zone.slices(key).flat_map(|s| &s.endpoints)
    }

    /// A name under the domain. Labels come from names the API checked, so that this cannot fail but for length.
    fn under(&self, labels: &[&str]) -> Name {
        let name = Name::from_labels(labels.iter().map(|l| l.as_bytes()));
        name.and_then(|n| n.append_domain(self.domain))
            .unwrap_or_else(|_| self.domain.clone())
    }

    fn soa(&self) -> SOA {
        let (server, person) = (self.under(&["ns", "dns"]), self.under(&["hostmaster"]));
        SOA::new(server, person, self.serial, 7200, 1800, 86_400, TTL)
    }

    fn negative(&self, code: ResponseCode, answers: Vec<Record>) -> Answer {
        let authorities = vec![record(self.domain, RData::SOA(self.soa()))];
        Answer::Records {
            code,
            answers,
            authorities,
            additionals: vec![],
        }
    }
}

fn positive(answers: Vec<Record>, additionals: Vec<Record>) -> Answer {
    Answer::Records {
        code: ResponseCode::NoError,
        answers,
        authorities: vec![],
        additionals,
    }
}

fn found(records: Vec<RData>) -> Found {
    Found {
        records,
        additionals: vec![],
        alias: None,
    }
}

fn record(name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), TTL, data)
}

fn address(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    }
}

/// The addresses of the family a question is about.
fn addresses(ips: impl Iterator<Item = IpAddr>, kind: RecordType) -> Vec<RData> {
    let wanted = |ip: &IpAddr| match kind {
        RecordType::A => ip.is_ipv4(),
        RecordType::AAAA => ip.is_ipv6(),
        RecordType::ANY => true,
        _ => false,
    };
    ips.filter(wanted).map(address).collect()
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
