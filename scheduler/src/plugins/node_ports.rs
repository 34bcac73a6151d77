//! NodePorts: host ports are free on the node.

use super::{Cycle, Filter, Made, NodeView, Row, Scope, Verdict};
use crate::hint::Change;
use crate::model::class::Requirements;

pub(super) const ROW: Row = Row {
    name: "NodePorts",
    weight: 0,
    scope: Scope::Node,
    make: |_| Made {
        filter: Some(Box::new(NodePorts)),
        score: None,
    },
    hint: |change, pod| match change {
        Change::NodeAdded(_) => true,
        Change::PodRemoved { class, .. } => class
            .host_ports
            .iter()
            .any(|freed| pod.host_ports.iter().any(|own| own.conflicts(freed))),
        _ => false,
    },
};

struct NodePorts;

impl Filter for NodePorts {
    fn filter(&self, _: &Cycle, pod: &Requirements, at: NodeView) -> Verdict {
        if pod
            .host_ports
            .iter()
            .any(|own| at.node.ports.iter().any(|taken| taken.conflicts(own)))
        {
            return Verdict::unschedulable("node(s) didn't have free ports for the requested pod ports");
        }
        Verdict::Fit
    }
}
