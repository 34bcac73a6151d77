//! Node IPAM controller: gives each node its own part of the pod network.
//!
//! The parts in use are read from the nodes themselves, so that a restart needs no other memory. One key at a time,
//! each waiting for its own write to show: two nodes never get the same part.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use keelson_client::{Event, Informer, Key};
use keelson_controller::{Action, Controller, Failure, Note, Plan, Queue, Verb};
use serde_json::json;

use crate::context::Context;
use crate::triggers;

const NAME: &str = "node-ipam-controller";
const SOURCE: &str = "cidrAllocator";

/// Starts the controller; without --allocate-node-cidrs there is nothing to do.
pub fn start(context: &Context) {
    if context.config.node_ranges.is_empty() {
        tracing::info!(controller = NAME, "not started: no --allocate-node-cidrs");
        return;
    }
    let nodes = context.informer::<Node>();
    let queue = Queue::default();
    triggers::on_self(&nodes, &queue);
    let (freed, all) = (queue.clone(), nodes.clone());
    nodes.on(move |event| {
        // A part became free: nodes that got none may have it.
        if let Event::Deleted(_) = event {
            let waiting = all.list().into_iter().filter(|node| ranges_of(node).is_empty());
            waiting.for_each(|node| freed.add(Key::of(node.as_ref())));
        }
    });
    let controller = Allocator {
        nodes,
        ranges: context.config.node_ranges.clone(),
        reserved: context.config.service_ranges.clone(),
    };
    context.run(Arc::new(controller), queue, SOURCE, 1);
}

struct Allocator {
    nodes: Informer<Node>,
    ranges: Vec<(IpNet, u8)>,
    reserved: Vec<IpNet>,
}

impl Controller for Allocator {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, key: &Key, _: Timestamp, _: Option<&Failure>) -> Plan {
        let Some(node) = self.nodes.get_key(key) else {
            return Plan::nothing();
        };
        if !ranges_of(&node).is_empty() || node.metadata.deletion_timestamp.is_some() {
            return Plan::nothing();
        }
        let used: HashSet<IpNet> = self
            .nodes
            .list()
            .iter()
            .flat_map(|node| ranges_of(node))
            .collect();
        reconcile(&node, &self.ranges, &self.reserved, &used)
    }
}

fn ranges_of(node: &Node) -> Vec<IpNet> {
    let Some(spec) = &node.spec else {
        return Vec::new();
    };
    let all = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr);
    all.filter_map(|text| text.parse().ok()).collect()
}

fn reconcile(node: &Node, ranges: &[(IpNet, u8)], reserved: &[IpNet], used: &HashSet<IpNet>) -> Plan {
    let free: Option<Vec<String>> = ranges
        .iter()
        .map(|(range, size)| first_free(range, *size, reserved, used).map(|net| net.to_string()))
        .collect();
    let Some(parts) = free else {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let mut plan = Plan::waiting("no part of the pod network is free");
        plan.note(Note::normal(
            node,
            "CIDRNotAvailable",
            format!("Node {name} status is now: CIDRNotAvailable"),
        ));
        return plan;
    };
    let patch = json!({ "spec": { "podCIDR": parts[0], "podCIDRs": parts } });
    Plan::of(vec![Action::patch(Verb::StrategicPatch, node, patch)])
}

/// The lowest part of `range` that is neither used nor overlaps what is reserved.
fn first_free(range: &IpNet, size: u8, reserved: &[IpNet], used: &HashSet<IpNet>) -> Option<IpNet> {
    let parts = range.subnets(size).ok()?;
    let overlaps = |a: &IpNet, b: &IpNet| a.contains(&b.network()) || b.contains(&a.network());
    parts.filter(|part| !used.contains(part)).find(|part| {
        !reserved
            .iter()
            .any(|r| same_family(part.addr(), r.addr()) && overlaps(part, r))
    })
}

fn same_family(a: IpAddr, b: IpAddr) -> bool {
    a.is_ipv4() == b.is_ipv4()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_part_is_given() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let ranges = [(net("10.244.0.0/22"), 24)];
        let table: [(&[&str], &[&str], Option<&str>); 4] = [
            (&[], &[], Some("10.244.0.0/24")),
            (&["10.244.0.0/24", "10.244.2.0/24"], &[], Some("10.244.1.0/24")),
            (&[], &["10.244.0.0/23"], Some("10.244.2.0/24")),
            (&["10.244.3.0/24", "10.244.2.0/24"], &["10.244.0.0/23"], None),
        ];
        for (used, reserved, expected) in table {
            let used: HashSet<IpNet> = used.iter().map(|t| net(t)).collect();
            let reserved: Vec<IpNet> = reserved.iter().map(|t| net(t)).collect();
            let plan = reconcile(&Node::default(), &ranges, &reserved, &used);
            let given = plan
                .actions
                .first()
                .and_then(|a| a.body["spec"]["podCIDR"].as_str().map(str::to_owned));
            assert_eq!(given.as_deref(), expected);
            assert_eq!(plan.report.notes.len(), usize::from(expected.is_none()));
        }
    }
}
