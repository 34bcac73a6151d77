//! TaintToleration: keeps pods off nodes with taints they do not tolerate; prefers nodes with fewer `PreferNoSchedule`
//! taints.

use super::{Cycle, Filter, Made, NodeView, Row, Scope, Score, Verdict, default_normalize};
use crate::cluster::NodeIndex;
use crate::hint::Change;
use crate::model::class::Requirements;
use crate::model::node::Node;
use crate::model::terms::Effect;

pub(super) const ROW: Row = Row {
    name: "TaintToleration",
    weight: 3,
    scope: Scope::Node,
    make: |_| Made {
        filter: Some(Box::new(TaintToleration)),
        score: Some(Box::new(TaintToleration)),
    },
    hint: |change, pod| match change {
        Change::NodeAdded(node) => tolerates(pod, node),
        Change::NodeUpdated { before, after } => before.taints != after.taints && tolerates(pod, after),
        _ => false,
    },
};

/// Whether the pod tolerates every taint of the node that keeps pods away.
pub fn tolerates(pod: &Requirements, node: &Node) -> bool {
    let mut taints = node.taints.iter().filter(|t| t.effect.repels());
    taints.all(|taint| pod.tolerations.iter().any(|t| t.tolerates(taint)))
}

struct TaintToleration;

impl Filter for TaintToleration {
    fn filter(&self, _: &Cycle, pod: &Requirements, at: NodeView) -> Verdict {
        if tolerates(pod, at.node) {
            return Verdict::Fit;
        }
        Verdict::unresolvable("node(s) had untolerated taint(s)")
    }
}

impl Score for TaintToleration {
    /// How many `PreferNoSchedule` taints are not tolerated.
    fn score(&self, _: &Cycle, pod: &Requirements, at: NodeView) -> i64 {
        let prefer = Effect::PreferNoSchedule;
        let tolerations = pod
            .tolerations
            .iter()
            .filter(|t| t.effect.is_none_or(|e| e == prefer));
        let taints = at.node.taints.iter().filter(|t| t.effect == prefer);
        taints
            .filter(|taint| !tolerations.clone().any(|t| t.tolerates(taint)))
            .count() as i64
    }

    fn normalizes(&self) -> bool {
        true
    }

    fn normalize(&self, _: &Cycle, _: &[NodeIndex], scores: &mut [i64]) {
        default_normalize(scores, true);
    }
}
