//! nft's text for pieces and for the difference between two of them. Pure.

use std::fmt::Write;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::Family;
use crate::rules::{Action, Key, Map, Match, Piece, Rule, Verdict};

/// The table's name.
pub const TABLE: &str = "kube-proxy";
/// The bit of the packet mark that asks for masquerading, unless configured otherwise.
pub const MASQUERADE_BIT: u32 = 14;

/// How text is written: the family's words and the mark.
#[derive(Clone, Copy, Debug)]
pub struct Dialect {
    pub family: Family,
    pub masquerade_bit: u32,
}

impl Dialect {
    /// `ip` or `ip6`: family and address keyword alike.
    pub fn ip(self) -> &'static str {
        match self.family {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        }
    }

    fn address_type(self) -> &'static str {
        match self.family {
            Family::V4 => "ipv4_addr",
            Family::V6 => "ipv6_addr",
        }
    }

    fn mark(self) -> u32 {
        1 << self.masquerade_bit
    }
}

/// A transaction in the making. Sections are applied in an order in which nothing refers to what is not there.
#[derive(Debug, Default)]
pub struct Transaction {
    head: String,
    sets: String,
    chains: String,
    rules: String,
    elements_gone: String,
    elements: String,
    flushes: String,
    chains_gone: String,
}

impl Transaction {
    /// Whether it would change nothing.
    pub fn is_empty(&self) -> bool {
        self.text().is_empty()
    }

    /// What `nft -f -` reads.
    pub fn text(&self) -> String {
        [
            &self.head,
            &self.sets,
            &self.chains,
            &self.rules,
            &self.elements_gone,
            &self.elements,
            &self.flushes,
            &self.chains_gone,
        ]
        .map(String::as_str)
        .concat()
    }

    /// Starts from an empty table, whatever there was.
    pub fn reset(&mut self, d: Dialect) {
        let ip = d.ip();
        line(&mut self.head, format_args!("add table {ip} {TABLE}"));
        line(&mut self.head, format_args!("delete table {ip} {TABLE}"));
        line(
            &mut self.head,
            format_args!("add table {ip} {TABLE} {{ comment \"rules for kube-proxy\" ; }}"),
        );
        for map in Map::ALL {
            let (name, address) = (map.name(), d.address_type());
            let text = match map {
                Map::ClusterIps | Map::NodePortIps => {
                    format!("add set {ip} {TABLE} {name} {{ type {address} ; }}")
                }
                Map::NoEndpointNodePorts | Map::ServiceNodePorts => {
                    format!("add map {ip} {TABLE} {name} {{ type inet_proto . inet_service : verdict ; }}")
                }
                Map::FirewallIps | Map::NoEndpointServices | Map::ServiceIps => {
                    format!(
                        "add map {ip} {TABLE} {name} {{ type {address} . inet_proto . inet_service : verdict ; }}"
                    )
                }
            };
            line(&mut self.sets, format_args!("{text}"));
        }
    }

    /// Adds what turns `old` into `new`.
    pub fn change(&mut self, d: Dialect, old: &Piece, new: &Piece) {
        let ip = d.ip();
        for (set, timeout) in &new.affinity_sets {
            if old.affinity_sets.get(set) != Some(timeout) {
                let address = d.address_type();
                line(
                    &mut self.sets,
                    format_args!(
                        "add set {ip} {TABLE} {set} {{ type {address} ; flags dynamic,timeout ; timeout {timeout}s ; }}"
                    ),
                );
            }
        }
        for (chain, rules) in &new.chains {
            let known = old.chains.get(chain);
            if known == Some(rules) {
                continue;
            }
            match (known, new.hooks.get(chain)) {
                (Some(_), _) => line(&mut self.chains, format_args!("flush chain {ip} {TABLE} {chain}")),
                (None, None) => line(&mut self.chains, format_args!("add chain {ip} {TABLE} {chain}")),
                (None, Some(h)) => line(
                    &mut self.chains,
                    format_args!(
                        "add chain {ip} {TABLE} {chain} {{ type {} hook {} priority {} ; }}",
                        h.kind, h.hook, h.priority
                    ),
                ),
            }
            for rule in rules {
                let text = rule_text(d, rule);
                line(
                    &mut self.rules,
                    format_args!("add rule {ip} {TABLE} {chain} {text}"),
                );
            }
        }
        for ((map, key), verdict) in &old.elements {
            if new.elements.get(&(*map, key.clone())) != Some(verdict) {
                let (name, key) = (map.name(), key_text(key));
                line(
                    &mut self.elements_gone,
                    format_args!("delete element {ip} {TABLE} {name} {{ {key} }}"),
                );
            }
        }
        for ((map, key), verdict) in &new.elements {
            if old.elements.get(&(*map, key.clone())) != Some(verdict) {
                let (name, element) = (map.name(), element_text(key, verdict));
                line(
                    &mut self.elements,
                    format_args!("add element {ip} {TABLE} {name} {{ {element} }}"),
                );
            }
        }
        self.take_away(d, old, new);
    }

    fn take_away(&mut self, d: Dialect, old: &Piece, new: &Piece) {
        let ip = d.ip();
        for chain in old.chains.keys().filter(|c| !new.chains.contains_key(*c)) {
            line(
                &mut self.flushes,
                format_args!("flush chain {ip} {TABLE} {chain}"),
            );
            line(
                &mut self.chains_gone,
                format_args!("delete chain {ip} {TABLE} {chain}"),
            );
        }
        for set in old
            .affinity_sets
            .keys()
            .filter(|s| !new.affinity_sets.contains_key(*s))
        {
            line(
                &mut self.chains_gone,
                format_args!("delete set {ip} {TABLE} {set}"),
            );
        }
    }
}

/// Removes the table, also where there is none.
pub fn delete_table(d: Dialect) -> String {
    let ip = d.ip();
    format!("add table {ip} {TABLE}\ndelete table {ip} {TABLE}\n")
}

fn line(section: &mut String, text: std::fmt::Arguments) {
    // Writing to a String cannot fail.
    _ = writeln!(section, "{text}");
}

fn key_text(key: &Key) -> String {
    match key {
        Key::Ip(ip) => ip.to_string(),
        Key::Service(ip, protocol, port) => format!("{ip} . {} . {port}", protocol.as_str()),
        Key::NodePort(protocol, port) => format!("{} . {port}", protocol.as_str()),
    }
}

fn element_text(key: &Key, verdict: &Verdict) -> String {
    let key = key_text(key);
    match verdict {
        Verdict::Member => key,
        Verdict::Drop => format!("{key} : drop"),
        Verdict::Goto(chain) => format!("{key} : goto {chain}"),
    }
}

fn rule_text(d: Dialect, rule: &Rule) -> String {
    let mut words: Vec<String> = rule.matches.iter().map(|m| match_text(d, m)).collect();
    words.push(action_text(d, &rule.action));
    if let Some(comment) = rule.comment {
        words.push(format!("comment \"{comment}\""));
    }
    words.join(" ")
}

fn match_text(d: Dialect, m: &Match) -> String {
    let ip = d.ip();
    match m {
        Match::ConntrackNew => "ct state new".to_owned(),
        Match::Daddr(address) => format!("{ip} daddr {address}"),
        Match::DaddrIn(set) => format!("{ip} daddr @{set}"),
        Match::DestinationPort(protocol, port) => format!("{} dport {port}", protocol.as_str()),
        Match::Saddr(address) => format!("{ip} saddr {address}"),
        Match::SaddrIn(set) => format!("{ip} saddr @{set}"),
        Match::SaddrWithin(nets) => format!("{ip} saddr {}", nets_text(nets)),
        Match::SaddrOutside(nets) => format!("{ip} saddr != {}", nets_text(nets)),
        Match::SaddrLocal => "fib saddr type local".to_owned(),
        Match::L4(protocol) => format!("meta l4proto {}", protocol.as_str()),
        Match::Unmarked => format!("meta mark & {:#010x} == 0", d.mark()),
    }
}

fn nets_text(nets: &[IpNet]) -> String {
    match nets {
        [one] => one.trunc().to_string(),
        _ => {
            let mut merged = IpNet::aggregate(&nets.to_vec());
            merged.sort();
            let texts: Vec<String> = merged.iter().map(ToString::to_string).collect();
            format!("{{ {} }}", texts.join(", "))
        }
    }
}

fn action_text(d: Dialect, action: &Action) -> String {
    let ip = d.ip();
    let (mark, service) = (d.mark(), format!("{ip} daddr . meta l4proto . th dport"));
    match action {
        Action::Jump(chain) => format!("jump {chain}"),
        Action::Goto(chain) => format!("goto {chain}"),
        Action::Return => "return".to_owned(),
        Action::Reject => "reject".to_owned(),
        Action::Drop => "drop".to_owned(),
        Action::Dnat(IpAddr::V4(to), port) => format!("dnat to {to}:{port}"),
        Action::Dnat(IpAddr::V6(to), port) => format!("dnat to [{to}]:{port}"),
        Action::Mark => format!("meta mark set mark or {mark:#010x}"),
        Action::Unmark => format!("meta mark set meta mark xor {mark:#010x}"),
        Action::Masquerade => "masquerade fully-random".to_owned(),
        Action::Spread(chains) if chains.len() == 1 => format!("goto {}", chains[0]),
        Action::Spread(chains) => {
            let choices: Vec<String> = (0..)
                .zip(chains)
                .map(|(n, c): (usize, _)| format!("{n} : goto {c}"))
                .collect();
            format!(
                "numgen random mod {} vmap {{ {} }}",
                chains.len(),
                choices.join(" , ")
            )
        }
        Action::ByService(map) => format!("{service} vmap @{}", map.name()),
        Action::ByNodePort(map) => format!("meta l4proto . th dport vmap @{}", map.name()),
        Action::Remember(set) => format!("update @{set} {{ {ip} saddr }}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::frame;
    use crate::rules::rule;

    const V4: Dialect = Dialect {
        family: Family::V4,
        masquerade_bit: MASQUERADE_BIT,
    };

    #[test]
    fn equal_pieces_need_no_transaction() {
        let mut transaction = Transaction::default();
        let piece = frame(&["10.0.0.1".parse().unwrap()]);
        transaction.change(V4, &piece, &piece);
        assert!(transaction.is_empty());
    }

    #[test]
    fn only_the_difference_is_written() {
        let key = |port| {
            (
                Map::ServiceIps,
                Key::Service("10.96.0.1".parse().unwrap(), crate::model::Protocol::Tcp, port),
            )
        };
        let goto = |chain: &str| Verdict::Goto(chain.to_owned());
        let mut old = Piece::default();
        old.chains.insert("stays".into(), vec![rule([], Action::Drop)]);
        old.chains.insert("changes".into(), vec![rule([], Action::Drop)]);
        old.chains.insert("goes".into(), vec![]);
        old.elements
            .extend([(key(1), goto("stays")), (key(2), goto("goes"))]);
        let mut new = old.clone();
        new.chains.remove("goes");
        new.chains
            .insert("changes".into(), vec![rule([], Action::Reject)]);
        new.chains
            .insert("comes".into(), vec![rule([], Action::Goto("stays".into()))]);
        new.elements.insert(key(2), goto("comes"));
        let mut transaction = Transaction::default();
        transaction.change(V4, &old, &new);
        assert_eq!(
            transaction.text(),
            "flush chain ip kube-proxy changes\n\
             add chain ip kube-proxy comes\n\
             add rule ip kube-proxy changes reject\n\
             add rule ip kube-proxy comes goto stays\n\
             delete element ip kube-proxy service-ips { 10.96.0.1 . tcp . 2 }\n\
             add element ip kube-proxy service-ips { 10.96.0.1 . tcp . 2 : goto comes }\n\
             flush chain ip kube-proxy goes\n\
             delete chain ip kube-proxy goes\n"
        );
    }

    #[test]
    fn addresses_of_both_families_are_written_as_nft_reads_them() {
        let v6 = Dialect {
            family: Family::V6,
            ..V4
        };
        assert_eq!(
            action_text(v6, &Action::Dnat("fd00::1".parse().unwrap(), 80)),
            "dnat to [fd00::1]:80"
        );
        let nets: Vec<IpNet> = vec!["10.0.1.0/24".parse().unwrap(), "10.0.0.0/24".parse().unwrap()];
        assert_eq!(
            match_text(V4, &Match::SaddrWithin(nets)),
            "ip saddr { 10.0.0.0/23 }"
        );
        assert_eq!(match_text(V4, &Match::Unmarked), "meta mark & 0x00004000 == 0");
    }
}
