//! Walks a virtual packet through the rules, as the kernel would: what becomes of it, without a kernel. For tests.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::model::Protocol;
use crate::rules::{Action, Key, Map, Match, Piece, Rule, Verdict};

/// A new connection's first packet.
#[derive(Clone, Debug)]
pub struct Packet {
    pub saddr: IpAddr,
    pub daddr: IpAddr,
    pub protocol: Protocol,
    pub port: u16,
    /// Sent by this host itself.
    pub from_host: bool,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Delivered to an address and port, with its source hidden or not.
    Delivered {
        to: (IpAddr, u16),
        masqueraded: bool,
    },
    Rejected,
    Dropped,
}

enum Flow {
    Continue,
    Return,
    Accept,
    Reject,
    Drop,
}

/// The rules of a whole table, on a host with these addresses.
pub struct Tracer {
    chains: BTreeMap<String, Vec<Rule>>,
    elements: BTreeMap<(Map, Key), Verdict>,
    host: Vec<IpAddr>,
    /// Which endpoint of a spread is taken.
    pub choice: usize,
    /// Affinity sets with their members.
    pub remembered: BTreeMap<String, Vec<IpAddr>>,
    packet: Packet,
    marked: bool,
    masqueraded: bool,
}

impl Tracer {
    /// A tracer of these pieces.
    pub fn new<'a>(pieces: impl Iterator<Item = &'a Piece>, host: &[IpAddr]) -> Self {
        let nowhere = Packet {
            saddr: host[0],
            daddr: host[0],
            protocol: Protocol::Tcp,
            port: 0,
            from_host: false,
        };
        let mut tracer = Self {
            chains: BTreeMap::new(),
            elements: BTreeMap::new(),
            host: host.to_vec(),
            choice: 0,
            remembered: BTreeMap::new(),
            packet: nowhere,
            marked: false,
            masqueraded: false,
        };
        for piece in pieces {
            tracer.chains.extend(piece.chains.clone());
            tracer.elements.extend(piece.elements.clone());
        }
        tracer
    }

    /// The fate of a packet.
    pub fn trace(&mut self, packet: Packet) -> Fate {
        (self.packet, self.marked, self.masqueraded) = (packet, false, false);
        let before: &[&str] = if self.packet.from_host {
            &["filter-output", "nat-output", "filter-output-post-dnat"]
        } else {
            &["filter-prerouting", "nat-prerouting"]
        };
        for chain in before {
            if let Some(fate) = self.hook(chain) {
                return fate;
            }
        }
        let to_host = self.host.contains(&self.packet.daddr);
        let after: &[&str] = match (to_host, self.packet.from_host) {
            (true, _) => &["filter-input"],
            (false, true) => &["nat-postrouting"],
            (false, false) => &["filter-forward", "nat-postrouting"],
        };
        for chain in after {
            if let Some(fate) = self.hook(chain) {
                return fate;
            }
        }
        Fate::Delivered {
            to: (self.packet.daddr, self.packet.port),
            masqueraded: self.masqueraded,
        }
    }

    fn hook(&mut self, chain: &str) -> Option<Fate> {
        match self.chain(chain) {
            Flow::Reject => Some(Fate::Rejected),
            Flow::Drop => Some(Fate::Dropped),
            Flow::Continue | Flow::Return | Flow::Accept => None,
        }
    }

    fn chain(&mut self, name: &str) -> Flow {
        let rules = self
            .chains
            .get(name)
            .unwrap_or_else(|| panic!("no chain {name}"))
            .clone();
        for rule in &rules {
            if !rule.matches.iter().all(|m| self.matches(m)) {
                continue;
            }
            match self.act(&rule.action) {
                Flow::Continue => {}
                end => return end,
            }
        }
        Flow::Continue
    }

    fn matches(&self, m: &Match) -> bool {
        let p = &self.packet;
        match m {
            Match::ConntrackNew => true,
            Match::Daddr(ip) => p.daddr == *ip,
            Match::DaddrIn(set) => {
                let map = Map::ALL
                    .into_iter()
                    .find(|map| map.name() == set)
                    .expect("a set of the frame");
                self.elements.contains_key(&(map, Key::Ip(p.daddr)))
            }
            Match::DestinationPort(protocol, port) => p.protocol == *protocol && p.port == *port,
            Match::Saddr(ip) => p.saddr == *ip,
            Match::SaddrIn(set) => self.remembered.get(set).is_some_and(|ips| ips.contains(&p.saddr)),
            Match::SaddrWithin(nets) => nets.iter().any(|n| n.contains(&p.saddr)),
            Match::SaddrOutside(nets) => !nets.iter().any(|n| n.contains(&p.saddr)),
            Match::SaddrLocal => self.host.contains(&p.saddr),
            Match::L4(protocol) => p.protocol == *protocol,
            Match::Unmarked => !self.marked,
        }
    }

    fn act(&mut self, action: &Action) -> Flow {
        let (ip, protocol, port) = (self.packet.daddr, self.packet.protocol, self.packet.port);
        match action {
            Action::Jump(chain) => match self.chain(chain) {
                Flow::Return => Flow::Continue,
                other => other,
            },
            Action::Goto(chain) => self.goto(chain),
            Action::Return => Flow::Return,
            Action::Reject => Flow::Reject,
            Action::Drop => Flow::Drop,
            Action::Dnat(to, port) => {
                (self.packet.daddr, self.packet.port) = (*to, *port);
                Flow::Accept
            }
            Action::Mark => {
                self.marked = true;
                Flow::Continue
            }
            Action::Unmark => {
                self.marked = false;
                Flow::Continue
            }
            Action::Masquerade => {
                self.masqueraded = true;
                Flow::Accept
            }
            Action::Spread(chains) => self.goto(&chains[self.choice % chains.len()]),
            Action::ByService(map) => self.look_up((*map, Key::Service(ip, protocol, port))),
            Action::ByNodePort(map) => self.look_up((*map, Key::NodePort(protocol, port))),
            Action::Remember(set) => {
                self.remembered
                    .entry(set.clone())
                    .or_default()
                    .push(self.packet.saddr);
                Flow::Continue
            }
        }
    }

    fn look_up(&mut self, key: (Map, Key)) -> Flow {
        match self.elements.get(&key).cloned() {
            None | Some(Verdict::Member) => Flow::Continue,
            Some(Verdict::Drop) => Flow::Drop,
            Some(Verdict::Goto(chain)) => self.goto(&chain),
        }
    }

    /// Falling off the end of the target ends this chain too.
    fn goto(&mut self, chain: &str) -> Flow {
        match self.chain(chain) {
            Flow::Continue => Flow::Return,
            other => other,
        }
    }
}

#[cfg(test)]
#[path = "trace_tests.rs"]
mod tests;
