//! Why a pod fits no node, and upstream's words for it.

use std::collections::BTreeMap;

use crate::cluster::NodeIndex;
use crate::plugins::{PluginSet, Reason, Verdict};

/// A node that will not do.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub node: NodeIndex,
    pub verdict: Verdict,
    /// The plugin's row.
    pub row: usize,
}

/// Why a pod fits nowhere.
#[derive(Clone, Debug)]
pub struct Diagnosis {
    /// Nodes there are.
    pub total: usize,
    /// One for each of them, unless the pod was refused on all for one reason.
    pub refusals: Vec<Refusal>,
    /// The reason that holds for every node, with the plugin's row.
    pub for_all: Option<(Verdict, usize)>,
}

impl Diagnosis {
    /// The pod was refused before any node was looked at.
    pub fn for_all_nodes(total: usize, verdict: Verdict, row: usize) -> Self {
        Self {
            total,
            refusals: Vec::new(),
            for_all: Some((verdict, row)),
        }
    }

    /// The plugins that refused it.
    pub fn plugins(&self) -> PluginSet {
        let mut set = PluginSet::default();
        self.refusals.iter().for_each(|r| set.insert(r.row));
        if let Some((_, row)) = self.for_all {
            set.insert(row);
        }
        if set.is_empty() { PluginSet::ALL } else { set }
    }

    /// Nodes on which taking pods away might help.
    pub fn helpable(&self) -> Vec<NodeIndex> {
        let of_pods = |r: &&Refusal| matches!(r.verdict, Verdict::Unschedulable(_));
        self.refusals.iter().filter(of_pods).map(|r| r.node).collect()
    }

    /// `0/3 nodes are available: 1 Too many pods, 2 Insufficient cpu. AFTER.`
    pub fn message(&self, after: Option<&str>) -> String {
        if self.total == 0 {
            return NO_NODES.to_owned();
        }
        let mut text = match &self.for_all {
            Some((verdict, _)) => {
                format!("{} {}.", available(self.total), verdict.reasons().join(", "))
            }
            None => {
                let reasons = self.refusals.iter().flat_map(|r| r.verdict.reasons());
                histogram(self.total, reasons.map(|reason| (reason.clone(), 1)))
            }
        };
        if let Some(after) = after {
            text.push(' ');
            text.push_str(after);
            if !after.ends_with('.') {
                text.push('.');
            }
        }
        text
    }
}

/// Upstream's words for a cluster without nodes.
pub const NO_NODES: &str = "no nodes available to schedule pods";

fn available(total: usize) -> String {
    format!("0/{total} nodes are available:")
}

/// The summary of reasons with how many nodes gave each, sorted as text like upstream's.
pub fn histogram(total: usize, reasons: impl Iterator<Item = (Reason, usize)>) -> String {
    let mut counts: BTreeMap<Reason, usize> = BTreeMap::new();
    for (reason, count) in reasons {
        *counts.entry(reason).or_default() += count;
    }
    let mut lines: Vec<String> = counts
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    lines.sort();
    format!("{} {}.", available(total), lines.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_upstreams() {
        let refusal = |verdict| Refusal {
            node: 0,
            verdict,
            row: 0,
        };
        let three = Diagnosis {
            total: 3,
            refusals: vec![
                refusal(Verdict::unresolvable("node(s) had untolerated taint(s)")),
                refusal(Verdict::unschedulable("Insufficient cpu")),
                refusal(Verdict::Unschedulable(
                    ["Insufficient cpu".into(), "Insufficient memory".into()]
                        .into_iter()
                        .collect(),
                )),
            ],
            for_all: None,
        };
        let after = "preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.";
        assert_eq!(
            three.message(Some(after)),
            "0/3 nodes are available: 1 Insufficient memory, 1 node(s) had untolerated taint(s), 2 Insufficient cpu. \
             preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
        );
        let unbound = Verdict::unresolvable("pod has unbound immediate PersistentVolumeClaims");
        assert_eq!(
            Diagnosis::for_all_nodes(1, unbound, 0).message(None),
            "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."
        );
        let none = Diagnosis {
            total: 0,
            refusals: vec![],
            for_all: None,
        };
        assert_eq!(none.message(None), "no nodes available to schedule pods");
    }
}
