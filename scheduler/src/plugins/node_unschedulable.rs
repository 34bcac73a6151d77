//! NodeUnschedulable: a cordoned node takes only pods that tolerate `node.kubernetes.io/unschedulable`.

use std::sync::LazyLock;

use super::{Cycle, Filter, Made, NodeView, Row, Scope, Verdict};
use crate::hint::Change;
use crate::model::class::Requirements;
use crate::model::terms::{Effect, Taint};

pub(super) const ROW: Row = Row {
    name: "NodeUnschedulable",
    weight: 0,
    scope: Scope::Node,
    make: |_| Made {
        filter: Some(Box::new(NodeUnschedulable)),
        score: None,
    },
    hint: |change, _| match change {
        Change::NodeAdded(node) => !node.unschedulable,
        Change::NodeUpdated { before, after } => {
            (before.unschedulable && !after.unschedulable) || before.taints != after.taints
        }
        _ => false,
    },
};

static CORDON: LazyLock<Taint> = LazyLock::new(|| Taint {
    key: "node.kubernetes.io/unschedulable".into(),
    value: "".into(),
    effect: Effect::NoSchedule,
});

struct NodeUnschedulable;

impl Filter for NodeUnschedulable {
    fn filter(&self, _: &Cycle, pod: &Requirements, at: NodeView) -> Verdict {
        if !at.node.unschedulable || pod.tolerations.iter().any(|t| t.tolerates(&CORDON)) {
            return Verdict::Fit;
        }
        Verdict::unresolvable("node(s) were unschedulable")
    }
}
