//! The fixed part of the table: base chains, the dispatch by maps, masquerading. Upstream's structure and names.

use std::net::IpAddr;

use crate::rules::{Action, Hook, Key, Map, Match, Piece, Rule, Verdict, commented, rule};

/// Chain that marks a packet to be masqueraded.
pub const MARK: &str = "mark-for-masquerade";
/// Chain that rejects.
pub const REJECT: &str = "reject-chain";

const fn hook(kind: &'static str, hook: &'static str, priority: &'static str) -> Hook {
    Hook { kind, hook, priority }
}

/// Base chains. Filters before DNAT see the service's address, those after it the endpoint's.
const HOOKS: [(&str, Hook); 8] = [
    ("filter-prerouting", hook("filter", "prerouting", "dstnat - 10")),
    ("filter-input", hook("filter", "input", "-110")),
    ("filter-forward", hook("filter", "forward", "-110")),
    ("filter-output", hook("filter", "output", "-110")),
    ("filter-output-post-dnat", hook("filter", "output", "-90")),
    ("nat-prerouting", hook("nat", "prerouting", "dstnat")),
    ("nat-output", hook("nat", "output", "-100")),
    ("nat-postrouting", hook("nat", "postrouting", "srcnat")),
];

/// The frame, for a host with these node port addresses.
pub fn frame(node_port_ips: &[IpAddr]) -> Piece {
    let mut piece = Piece::default();
    for (name, hook) in HOOKS {
        piece.hooks.insert(name.to_owned(), hook);
    }
    for (name, rules) in chains() {
        piece.chains.insert(name.to_owned(), rules);
    }
    for ip in node_port_ips {
        piece
            .elements
            .insert((Map::NodePortIps, Key::Ip(*ip)), Verdict::Member);
    }
    piece
}

fn chains() -> Vec<(&'static str, Vec<Rule>)> {
    let new = |chain: &str| rule([Match::ConntrackNew], Action::Jump(chain.to_owned()));
    let jump = |chain: &str| rule([], Action::Jump(chain.to_owned()));
    let on_node = || Match::DaddrIn(Map::NodePortIps.name().to_owned());
    vec![
        ("filter-prerouting", vec![new("firewall-check")]),
        (
            "filter-input",
            vec![new("nodeport-endpoints-check"), new("service-endpoints-check")],
        ),
        (
            "filter-forward",
            vec![new("service-endpoints-check"), new("cluster-ips-check")],
        ),
        (
            "filter-output",
            vec![new("service-endpoints-check"), new("firewall-check")],
        ),
        ("filter-output-post-dnat", vec![new("cluster-ips-check")]),
        ("nat-prerouting", vec![jump("services")]),
        ("nat-output", vec![jump("services")]),
        ("nat-postrouting", vec![jump("masquerading")]),
        (
            "services",
            vec![
                rule([], Action::ByService(Map::ServiceIps)),
                rule([on_node()], Action::ByNodePort(Map::ServiceNodePorts)),
            ],
        ),
        (
            "firewall-check",
            vec![rule([], Action::ByService(Map::FirewallIps))],
        ),
        (
            "service-endpoints-check",
            vec![rule([], Action::ByService(Map::NoEndpointServices))],
        ),
        (
            "nodeport-endpoints-check",
            vec![rule([on_node()], Action::ByNodePort(Map::NoEndpointNodePorts))],
        ),
        (
            "cluster-ips-check",
            vec![commented(
                [Match::DaddrIn(Map::ClusterIps.name().to_owned())],
                Action::Reject,
                "Reject traffic to invalid ports of ClusterIPs",
            )],
        ),
        (REJECT, vec![rule([], Action::Reject)]),
        (MARK, vec![rule([], Action::Mark)]),
        (
            "masquerading",
            vec![
                rule([Match::Unmarked], Action::Return),
                rule([], Action::Unmark),
                rule([], Action::Masquerade),
            ],
        ),
    ]
}
