//! NodeResourcesBalancedAllocation: prefers nodes whose cpu and memory would be used in equal parts.

use super::{Cycle, MAX_NODE_SCORE, Made, NodeView, Row, Scope, Score};
use crate::args::WeightedResource;
use crate::model::class::Requirements;

pub(super) const ROW: Row = Row {
    name: "NodeResourcesBalancedAllocation",
    weight: 1,
    scope: Scope::Node,
    make: |args| {
        let plugin = BalancedAllocation {
            resources: args.balanced_resources.clone(),
        };
        Made {
            filter: None,
            score: Some(Box::new(plugin)),
        }
    },
    hint: |_, _| false,
};

struct BalancedAllocation {
    resources: Vec<WeightedResource>,
}

impl Score for BalancedAllocation {
    /// 100 less the standard deviation of the used fractions; 0 for a pod that requests nothing, so that such pods
    /// do not all go to one node.
    fn score(&self, _: &Cycle, pod: &Requirements, at: NodeView) -> i64 {
        let names = self.resources.iter().map(|r| &*r.name);
        if names.clone().all(|name| pod.request.get(name) == 0) {
            return 0;
        }
        let fraction = |name: &str| {
            let (asked, has) = (pod.request.get(name), at.node.allocatable.get(name));
            if has == 0 || (asked == 0 && name.contains('/')) {
                return None;
            }
            Some(((at.node.requested.get(name) + asked) as f64 / has as f64).min(1.0))
        };
        let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
        for fraction in names.filter_map(fraction) {
            (count, sum, squares) = (count + 1.0, sum + fraction, squares + fraction * fraction);
        }
        if count == 0.0 {
            return MAX_NODE_SCORE;
        }
        let mean = sum / count;
        let deviation = f64::max(squares / count - mean * mean, 0.0).sqrt();
        ((1.0 - deviation) * MAX_NODE_SCORE as f64) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Args;
    use crate::cluster::Cluster;
    use crate::columns::Columns;
    use crate::testing::{node, pod};

    #[test]
    fn equal_parts_score_best() {
        let (cluster, columns) = (Cluster::default(), Columns::default());
        let score = (ROW.make)(&Args::default()).score.unwrap();
        let node = node("n", "{}");
        for (request, expected) in [
            (r#"{"cpu":"2","memory":"4Gi"}"#, 100),
            (r#"{"cpu":"4","memory":"0"}"#, 50),
            (r#"{"cpu":"1","memory":"4Gi"}"#, 87),
            (r#"{}"#, 0),
        ] {
            let pod = pod(
                "p",
                &format!(r#"{{"containers":[{{"name":"c","resources":{{"requests":{request}}}}}]}}"#),
            );
            let at = NodeView {
                index: 0,
                node: &node,
            };
            assert_eq!(
                score.score(&Cycle::new(&cluster, &columns), &pod.class, at),
                expected,
                "{request}"
            );
        }
    }
}
