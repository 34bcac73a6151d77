//! NodeAffinity: `nodeSelector` and node affinity, required and preferred, and the profile's added affinity.

use super::{Cycle, Filter, Made, NodeView, Row, Scope, Score, Verdict, default_normalize};
use crate::cluster::NodeIndex;
use crate::hint::Change;
use crate::model::class::{Requirements, Weighted};
use crate::model::labels::NodeTerm;
use crate::model::node::Node;

pub(super) const ROW: Row = Row {
    name: "NodeAffinity",
    weight: 2,
    scope: Scope::Node,
    make: |args| {
        let plugin = NodeAffinity {
            added_required: args.added_required_node_terms.clone(),
            added_preferred: args.added_preferred_node_terms.clone(),
        };
        Made {
            filter: Some(Box::new(plugin.clone())),
            score: Some(Box::new(plugin)),
        }
    },
    hint: |change, pod| match change {
        Change::NodeAdded(node) => matches(pod, node),
        Change::NodeUpdated { before, after } => before.labels != after.labels && matches(pod, after),
        _ => false,
    },
};

/// Whether the node satisfies the pod's selector and required affinity.
pub fn matches(pod: &Requirements, node: &Node) -> bool {
    let any_term = |terms: &[NodeTerm]| terms.iter().any(|t| t.matches(&node.name, &node.labels));
    pod.node_selector
        .iter()
        .all(|(k, v)| node.labels.get(k) == Some(v))
        && pod.node_terms.as_deref().is_none_or(any_term)
}

#[derive(Clone)]
struct NodeAffinity {
    added_required: Option<Box<[NodeTerm]>>,
    added_preferred: Box<[Weighted<NodeTerm>]>,
}

impl Filter for NodeAffinity {
    fn filter(&self, _: &Cycle, pod: &Requirements, at: NodeView) -> Verdict {
        let matches_term = |t: &NodeTerm| t.matches(&at.node.name, &at.node.labels);
        if self
            .added_required
            .as_deref()
            .is_some_and(|terms| !terms.iter().any(matches_term))
        {
            return Verdict::unresolvable("node(s) didn't match scheduler-enforced node affinity");
        }
        if matches(pod, at.node) {
            return Verdict::Fit;
        }
        Verdict::unresolvable("node(s) didn't match Pod's node affinity/selector")
    }
}

impl Score for NodeAffinity {
    fn score(&self, _: &Cycle, pod: &Requirements, at: NodeView) -> i64 {
        let preferred = pod.preferred_nodes.iter().chain(&self.added_preferred);
        let matching = preferred.filter(|(_, term)| term.matches(&at.node.name, &at.node.labels));
        matching.map(|(weight, _)| i64::from(*weight)).sum()
    }

    fn normalizes(&self) -> bool {
        true
    }

    fn normalize(&self, _: &Cycle, _: &[NodeIndex], scores: &mut [i64]) {
        default_normalize(scores, false);
    }
}
