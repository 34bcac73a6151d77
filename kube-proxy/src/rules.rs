//! nftables as values: chains of rules, elements of maps and sets. What the proxy wants is a `Piece` per service and
//! one for the frame around them; pieces can be compared, rendered and traced.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::Protocol;

/// A chain's name.
pub type Chain = String;
/// A set's name.
pub type Set = String;

/// A condition of a rule; all of them must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    ConntrackNew,
    Daddr(IpAddr),
    DaddrIn(Set),
    DestinationPort(Protocol, u16),
    Saddr(IpAddr),
    SaddrIn(Set),
    SaddrWithin(Vec<IpNet>),
    SaddrOutside(Vec<IpNet>),
    /// The source is an address of this host.
    SaddrLocal,
    L4(Protocol),
    /// The packet is not marked for masquerading.
    Unmarked,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Jump(Chain),
    Goto(Chain),
    Return,
    Reject,
    Drop,
    Dnat(IpAddr, u16),
    Mark,
    Unmark,
    Masquerade,
    /// One of these chains at random, all equally likely.
    Spread(Vec<Chain>),
    /// The verdict a map has for destination address, protocol and port.
    ByService(Map),
    /// The verdict a map has for protocol and port.
    ByNodePort(Map),
    /// Remembers the source in a set, for the set's timeout.
    Remember(Set),
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub matches: Vec<Match>,
    pub action: Action,
    pub comment: Option<&'static str>,
}

/// A rule without a comment.
pub fn rule(matches: impl Into<Vec<Match>>, action: Action) -> Rule {
    Rule {
        matches: matches.into(),
        action,
        comment: None,
    }
}

/// A rule with one.
pub fn commented(matches: impl Into<Vec<Match>>, action: Action, comment: &'static str) -> Rule {
    Rule {
        matches: matches.into(),
        action,
        comment: Some(comment),
    }
}

/// The maps and sets of the frame, which services put elements into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Map {
    ClusterIps,
    NodePortIps,
    FirewallIps,
    NoEndpointServices,
    NoEndpointNodePorts,
    ServiceIps,
    ServiceNodePorts,
}

impl Map {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::ClusterIps,
        Self::NodePortIps,
        Self::FirewallIps,
        Self::NoEndpointServices,
        Self::NoEndpointNodePorts,
        Self::ServiceIps,
        Self::ServiceNodePorts,
    ];

    /// Upstream's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClusterIps => "cluster-ips",
            Self::NodePortIps => "nodeport-ips",
            Self::FirewallIps => "firewall-ips",
            Self::NoEndpointServices => "no-endpoint-services",
            Self::NoEndpointNodePorts => "no-endpoint-nodeports",
            Self::ServiceIps => "service-ips",
            Self::ServiceNodePorts => "service-nodeports",
        }
    }
}

/// What an element is found by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    Ip(IpAddr),
    Service(IpAddr, Protocol, u16),
    NodePort(Protocol, u16),
}

/// What an element says; sets have none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Member,
    Goto(Chain),
    Drop,
}

/// A base chain's hook and priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    pub kind: &'static str,
    pub hook: &'static str,
    pub priority: &'static str,
}

/// A part of the table that is computed and compared on its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    pub chains: BTreeMap<Chain, Vec<Rule>>,
    pub hooks: BTreeMap<Chain, Hook>,
    pub elements: BTreeMap<(Map, Key), Verdict>,
    /// Sets of client addresses, with their timeout in seconds.
    pub affinity_sets: BTreeMap<Set, u32>,
}
