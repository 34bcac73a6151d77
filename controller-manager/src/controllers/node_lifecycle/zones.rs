//! How fast nodes may be tainted NoExecute, by the state of their zone. Pure but for its memory of the last time.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;

use super::health;

/// Nodes per second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    pub normal: f32,
    /// In an unhealthy zone of a large cluster; in a small one it is zero.
    pub secondary: f32,
    /// Share of nodes not ready from which a zone is unhealthy.
    pub unhealthy_share: f32,
    pub large: i32,
}

/// When each zone last had a node tainted.
#[derive(Debug, Default)]
pub(super) struct Zones {
    last: HashMap<String, Timestamp>,
}

impl Zones {
    pub(super) fn tainted(&mut self, node: &Node, now: Timestamp) {
        self.last.insert(zone(node), now);
    }
}

fn zone(node: &Node) -> String {
    let label = |key: &str| {
        node.metadata
            .labels
            .as_ref()
            .and_then(|l| l.get(key))
            .map_or("", String::as_str)
    };
    format!(
        "{}:{}",
        label("topology.kubernetes.io/region"),
        label("topology.kubernetes.io/zone")
    )
}

/// Seconds until a node may be tainted; `None` while all zones are down or the rate is zero.
pub(super) fn pause_s(
    node: &Node,
    all: &[Arc<Node>],
    rates: &Rates,
    zones: &Zones,
    now: Timestamp,
) -> Option<i64> {
    let own = zone(node);
    let mut ready_anywhere = false;
    let (mut ready, mut unready) = (0, 0);
    for other in all {
        let is_ready = health::ready(other) == "True";
        ready_anywhere |= is_ready;
        if zone(other) == own {
            *(if is_ready { &mut ready } else { &mut unready }) += 1;
        }
    }
    if !ready_anywhere {
        return None;
    }
    let share = unready as f32 / (ready + unready).max(1) as f32;
    let partly_down = ready > 0 && unready > 2 && share >= rates.unhealthy_share;
    let rate = match partly_down {
        false => rates.normal,
        true if ready + unready > rates.large => rates.secondary,
        true => 0.0,
    };
    if rate <= 0.0 {
        return None;
    }
    let last = zones.last.get(&own);
    let pause = (1.0 / rate).ceil() as i64;
    Some(last.map_or(0, |last| last.as_second() + pause - now.as_second()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{NodeCondition, NodeStatus};

    fn node(ready: bool) -> Arc<Node> {
        Arc::new(Node {
            status: Some(NodeStatus {
                conditions: Some(vec![NodeCondition {
                    type_: "Ready".into(),
                    status: if ready { "True" } else { "Unknown" }.into(),
                    ..NodeCondition::default()
                }]),
                ..NodeStatus::default()
            }),
            ..Node::default()
        })
    }

    #[test]
    fn rates_follow_the_zone() {
        let rates = Rates {
            normal: 0.1,
            secondary: 0.01,
            unhealthy_share: 0.55,
            large: 50,
        };
        let now = Timestamp::from_second(1000).unwrap();
        let nodes = |ready, unready| -> Vec<Arc<Node>> {
            (0..ready)
                .map(|_| node(true))
                .chain((0..unready).map(|_| node(false)))
                .collect()
        };
        let mut zones = Zones::default();
        let mut ask = |ready, unready, tainted_s: Option<i64>| {
            zones.last.clear();
            if let Some(s) = tainted_s {
                zones.tainted(&node(false), Timestamp::from_second(s).unwrap());
            }
            pause_s(&node(false), &nodes(ready, unready), &rates, &zones, now)
        };
        assert_eq!(ask(1, 1, None), Some(0));
        assert_eq!(ask(1, 1, Some(996)), Some(6));
        assert_eq!(ask(0, 3, None), None, "all down");
        assert_eq!(ask(2, 8, None), None, "a small cluster, mostly down");
        assert_eq!(ask(20, 80, Some(996)), Some(96), "a large one, slowly");
    }
}
