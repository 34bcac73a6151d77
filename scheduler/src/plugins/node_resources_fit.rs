//! NodeResourcesFit: what the pod requests is free on the node; prefers nodes by the configured strategy
//! (LeastAllocated unless said otherwise).

use super::{Cycle, Filter, MAX_NODE_SCORE, Made, NodeView, Reason, Row, Scope, Score, Verdict};
use crate::args::{ScoringStrategy, WeightedResource};
use crate::hint::Change;
use crate::model::class::Requirements;
use crate::model::node::Node;
use crate::model::resources::Resources;

pub(super) const ROW: Row = Row {
    name: "NodeResourcesFit",
    weight: 1,
    scope: Scope::Node,
    make: |args| {
        let filter = Fit {
            ignored: args.ignored_resources.clone(),
            groups: args.ignored_resource_groups.clone(),
        };
        let score = Allocation {
            strategy: args.scoring_strategy.clone(),
            resources: args.scored_resources.clone(),
        };
        Made {
            filter: Some(Box::new(filter)),
            score: Some(Box::new(score)),
        }
    },
    hint: |change, pod| match change {
        Change::NodeAdded(node) => insufficient(pod, node, |_| false).is_empty(),
        Change::NodeUpdated { before, after } => {
            grew(before, after) && insufficient(pod, after, |_| false).is_empty()
        }
        // A finished or deleted pod frees its place in the count of pods at least.
        Change::PodRemoved { .. } => true,
        _ => false,
    },
};

struct Fit {
    ignored: Vec<Box<str>>,
    groups: Vec<Box<str>>,
}

impl Fit {
    fn ignores(&self, resource: &str) -> bool {
        let group = resource.split_once('/').map(|(group, _)| group);
        self.ignored.iter().any(|i| &**i == resource)
            || group.is_some_and(|group| self.groups.iter().any(|g| &**g == group))
    }
}

/// What a node lacks, and whether it could never have it.
struct Lack {
    reason: Reason,
    never: bool,
}

/// Everything the node lacks for the pod.
fn insufficient(pod: &Requirements, node: &Node, ignored: impl Fn(&str) -> bool) -> Vec<Lack> {
    let mut lacks = Vec::new();
    if node.pods.len() as i64 + 1 > node.pods_allowed {
        lacks.push(Lack {
            reason: "Too many pods".into(),
            never: false,
        });
    }
    let (asked, has, used) = (&pod.request, &node.allocatable, &node.requested);
    let mut check = |reason: Reason, asked: i64, has: i64, used: i64| {
        if asked > 0 && asked > has.saturating_sub(used) {
            lacks.push(Lack {
                reason,
                never: asked > has,
            });
        }
    };
    check(
        "Insufficient cpu".into(),
        asked.milli_cpu,
        has.milli_cpu,
        used.milli_cpu,
    );
    check(
        "Insufficient memory".into(),
        asked.memory,
        has.memory,
        used.memory,
    );
    let storage = (
        asked.ephemeral_storage,
        has.ephemeral_storage,
        used.ephemeral_storage,
    );
    check(
        "Insufficient ephemeral-storage".into(),
        storage.0,
        storage.1,
        storage.2,
    );
    for (name, amount) in asked.scalars.iter().filter(|(name, _)| !ignored(name)) {
        check(
            format!("Insufficient {name}").into(),
            *amount,
            has.get(name),
            used.get(name),
        );
    }
    lacks
}

fn grew(before: &Node, after: &Node) -> bool {
    let (b, a) = (&before.allocatable, &after.allocatable);
    after.pods_allowed > before.pods_allowed
        || a.milli_cpu > b.milli_cpu
        || a.memory > b.memory
        || a.ephemeral_storage > b.ephemeral_storage
        || a.scalars.iter().any(|(name, amount)| *amount > b.get(name))
}

impl Filter for Fit {
    fn filter(&self, _: &Cycle, pod: &Requirements, at: NodeView) -> Verdict {
        let lacks = insufficient(pod, at.node, |name| self.ignores(name));
        if lacks.is_empty() {
            return Verdict::Fit;
        }
        let never = lacks.iter().any(|lack| lack.never);
        let reasons = lacks.into_iter().map(|lack| lack.reason).collect();
        if never {
            Verdict::Unresolvable(reasons)
        } else {
            Verdict::Unschedulable(reasons)
        }
    }
}

struct Allocation {
    strategy: ScoringStrategy,
    resources: Vec<WeightedResource>,
}

impl Score for Allocation {
    fn score(&self, _: &Cycle, pod: &Requirements, at: NodeView) -> i64 {
        let (mut total, mut weights) = (0, 0);
        for resource in &self.resources {
            let Some((used, has)) = use_after(pod, at.node, &resource.name) else {
                continue;
            };
            let score = match &self.strategy {
                ScoringStrategy::LeastAllocated if used > has => 0,
                ScoringStrategy::LeastAllocated => (has - used) * MAX_NODE_SCORE / has,
                ScoringStrategy::MostAllocated => used.min(has) * MAX_NODE_SCORE / has,
                ScoringStrategy::RequestedToCapacityRatio(shape) => {
                    along(shape, if used > has { 100 } else { used * 100 / has })
                }
            };
            // A ratio of zero is left out of the mean, as upstream does.
            if matches!(self.strategy, ScoringStrategy::RequestedToCapacityRatio(_)) && score <= 0 {
                continue;
            }
            total += score * resource.weight;
            weights += resource.weight;
        }
        if weights == 0 { 0 } else { total / weights }
    }
}

/// Use with the pod, and what the node has; `None` for an extended resource the pod does not ask for, and for one
/// the node lacks.
fn use_after(pod: &Requirements, node: &Node, resource: &str) -> Option<(i64, i64)> {
    let scored = matches!(resource, "cpu" | "memory");
    let pick = |real: &Resources, with_defaults: &Resources| {
        if scored {
            with_defaults.get(resource)
        } else {
            real.get(resource)
        }
    };
    let asked = pick(&pod.request, &pod.scored_request);
    let has = node.allocatable.get(resource);
    if has <= 0 || (asked == 0 && resource.contains('/')) {
        return None;
    }
    Some((
        pick(&node.requested, &node.scored_requested).saturating_add(asked),
        has,
    ))
}

/// The value of a piecewise linear function (utilization, score) at a utilization.
fn along(shape: &[(i64, i64)], at: i64) -> i64 {
    let Some(next) = shape.iter().position(|(u, _)| at <= *u) else {
        return shape.last().map_or(0, |(_, s)| *s);
    };
    if next == 0 {
        return shape[0].1;
    }
    let ((u0, s0), (u1, s1)) = (shape[next - 1], shape[next]);
    s0 + (s1 - s0) * (at - u0) / (u1 - u0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Args;
    use crate::cluster::Cluster;
    use crate::columns::Columns;
    use crate::testing::{node_with, placed, pod};

    const CPU3: &str = r#"{"containers":[{"name":"c","resources":{"requests":{"cpu":"3","memory":"1Gi"}}}]}"#;

    fn verdict(request: &str, used: &[&str]) -> Verdict {
        let mut node = node_with("n", serde_json::json!({"status":{"allocatable":{"pods":"2"}}}));
        for (at, spec) in used.iter().enumerate() {
            node.add_pod(placed(&format!("u{at}"), "n", spec));
        }
        let (cluster, columns) = (Cluster::default(), Columns::default());
        let filter = (ROW.make)(&Args::default()).filter.unwrap();
        let pod = pod(
            "p",
            &format!(r#"{{"containers":[{{"name":"c","resources":{{"requests":{request}}}}}]}}"#),
        );
        filter.filter(
            &Cycle::new(&cluster, &columns),
            &pod.class,
            NodeView {
                index: 0,
                node: &node,
            },
        )
    }

    #[test]
    fn says_what_is_missing() {
        let cases: [(&str, &[&str], Verdict); 6] = [
            (r#"{"cpu":"4"}"#, &[], Verdict::Fit),
            (
                r#"{"cpu":"2"}"#,
                &[CPU3],
                Verdict::unschedulable("Insufficient cpu"),
            ),
            (r#"{"cpu":"5"}"#, &[], Verdict::unresolvable("Insufficient cpu")),
            (
                r#"{"example.com/gpu":"1"}"#,
                &[],
                Verdict::unresolvable("Insufficient example.com/gpu"),
            ),
            (r#"{}"#, &["{}", "{}"], Verdict::unschedulable("Too many pods")),
            (
                r#"{"cpu":"2","memory":"7.5Gi"}"#,
                &[CPU3],
                Verdict::Unschedulable(
                    ["Insufficient cpu".into(), "Insufficient memory".into()]
                        .into_iter()
                        .collect(),
                ),
            ),
        ];
        for (request, used, expected) in cases {
            assert_eq!(verdict(request, used), expected, "{request} {used:?}");
        }
    }

    #[test]
    fn shapes_are_linear_between_points() {
        let shape = [(0, 0), (50, 100), (100, 20)];
        for (at, expected) in [(0, 0), (25, 50), (50, 100), (75, 60), (100, 20), (120, 20)] {
            assert_eq!(along(&shape, at), expected, "{at}");
        }
    }
}
