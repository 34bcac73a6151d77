//! Which endpoints of a port get traffic: ready ones, near ones where hints say so, and those that still serve while
//! they end when there is nothing else (KEP-1669, KEP-2433, KEP-3015).

use crate::model::{Endpoint, NodeInfo};

/// The choice for one port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// For policy Cluster.
    pub cluster: Vec<Endpoint>,
    /// For policy Local.
    pub local: Vec<Endpoint>,
    /// Some node has an endpoint that serves.
    pub any: bool,
}

/// Chooses among the endpoints of a port.
pub fn choose(all: &[Endpoint], node: &NodeInfo) -> Chosen {
    let ready: Vec<&Endpoint> = all.iter().filter(|e| e.ready).collect();
    let or_ending = |chosen: Vec<Endpoint>, local_only: bool| {
        if !chosen.is_empty() {
            return chosen;
        }
        let ending = all
            .iter()
            .filter(|e| e.serving && e.terminating && (e.local || !local_only));
        ending.cloned().collect()
    };
    let near = ready
        .iter()
        .filter(|e| is_near(e, &ready, node))
        .map(|e| (*e).clone())
        .collect();
    let local = ready.iter().filter(|e| e.local).map(|e| (*e).clone()).collect();
    let cluster = or_ending(near, false);
    let local = or_ending(local, true);
    Chosen {
        any: !cluster.is_empty() || !local.is_empty(),
        cluster,
        local,
    }
}

/// Whether hints let this endpoint be used from this node. They count only when every ready endpoint has one and one
/// of them is for us.
fn is_near(endpoint: &Endpoint, ready: &[&Endpoint], node: &NodeInfo) -> bool {
    let by_node = |e: &Endpoint| e.for_nodes.contains(&node.name);
    if ready.iter().all(|e| !e.for_nodes.is_empty()) && ready.iter().any(|e| by_node(e)) {
        return by_node(endpoint);
    }
    let by_zone = |e: &Endpoint| node.zone.as_ref().is_some_and(|zone| e.for_zones.contains(zone));
    if ready.iter().all(|e| !e.for_zones.is_empty()) && ready.iter().any(|e| by_zone(e)) {
        return by_zone(endpoint);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ip flags`: r ready, s serving, t terminating, l local; then zones after `@` and nodes after `#`.
    fn endpoint(text: &str) -> Endpoint {
        let mut words = text.split(' ');
        let ip = words.next().unwrap().parse().unwrap();
        let flags = words.next().unwrap_or("");
        let has = |c: char| flags.contains(c);
        let mut endpoint = Endpoint {
            ip,
            port: 80,
            ready: has('r'),
            serving: has('s') || has('r'),
            terminating: has('t'),
            local: has('l'),
            for_nodes: vec![],
            for_zones: vec![],
        };
        for word in words {
            match word.split_at(1) {
                ("@", zone) => endpoint.for_zones.push(zone.into()),
                (_, node) => endpoint.for_nodes.push(node.into()),
            }
        }
        endpoint
    }

    #[test]
    fn the_right_ones_are_chosen() {
        let node = NodeInfo {
            name: "n".into(),
            zone: Some("z".into()),
            ..NodeInfo::default()
        };
        let cases: [(&[&str], &[&str], &[&str]); 7] = [
            (
                &["10.0.0.1 r", "10.0.0.2 rl", "10.0.0.3 "],
                &["10.0.0.1", "10.0.0.2"],
                &["10.0.0.2"],
            ),
            (&["10.0.0.1 st", "10.0.0.2 t"], &["10.0.0.1"], &[]),
            (&["10.0.0.1 r", "10.0.0.2 stl"], &["10.0.0.1"], &["10.0.0.2"]),
            (&["10.0.0.1 r @z", "10.0.0.2 r @y"], &["10.0.0.1"], &[]),
            (&["10.0.0.1 r @z", "10.0.0.2 r"], &["10.0.0.1", "10.0.0.2"], &[]),
            (
                &["10.0.0.1 r @y", "10.0.0.2 r @y"],
                &["10.0.0.1", "10.0.0.2"],
                &[],
            ),
            (&["10.0.0.1 r @z #n", "10.0.0.2 r @z #m"], &["10.0.0.1"], &[]),
        ];
        for (all, cluster, local) in cases {
            let all: Vec<_> = all.iter().map(|t| endpoint(t)).collect();
            let chosen = choose(&all, &node);
            let ips = |list: &[Endpoint]| list.iter().map(|e| e.ip.to_string()).collect::<Vec<_>>();
            assert_eq!(
                (ips(&chosen.cluster), ips(&chosen.local)),
                (
                    cluster.iter().map(|s| s.to_string()).collect(),
                    local.iter().map(|s| s.to_string()).collect(),
                ),
                "{all:?}"
            );
        }
    }
}
