//! What is worked out per pod class and node, and kept: verdicts and raw scores of the plugins that look at one node.
//!
//! This is the work that equal pods share. Bringing it up to date costs only the nodes that changed since the last
//! pod of the class. Memory is bounded by `limits::COLUMNS_MAX` classes.

use crate::cluster::{Cluster, NodeIndex};
use crate::model::class::{Class, ClassId};
use crate::plugins::{Cycle, NodeView, Verdict, node_affinity, taint_toleration};
use crate::profile::Profile;

/// One class on every node.
#[derive(Debug, Default)]
pub struct Columns {
    seen: u64,
    epoch: u64,
    /// By node index.
    rows: Vec<NodeRow>,
    /// Per scoring plugin of `Scope::Node`, by node index.
    scores: Vec<Vec<i64>>,
}

/// One class on one node.
#[derive(Clone, Debug)]
struct NodeRow {
    verdict: Verdict,
    /// The filter that refused, by row in `PLUGINS`.
    refused_by: usize,
    affinity_ok: bool,
    taints_ok: bool,
}

const UNSEEN: NodeRow = NodeRow {
    verdict: Verdict::Fit,
    refused_by: 0,
    affinity_ok: false,
    taints_ok: false,
};

impl Columns {
    /// The verdict of the filters of `Scope::Node`, with the row of the plugin that refused.
    pub fn verdict(&self, index: NodeIndex) -> (&Verdict, usize) {
        let row = &self.rows[index as usize];
        (&row.verdict, row.refused_by)
    }

    /// The node matches the pod's node selector and affinity.
    pub fn affinity_ok(&self, index: NodeIndex) -> bool {
        self.rows.get(index as usize).is_some_and(|r| r.affinity_ok)
    }

    /// The pod tolerates the node's taints.
    pub fn taints_ok(&self, index: NodeIndex) -> bool {
        self.rows.get(index as usize).is_some_and(|r| r.taints_ok)
    }

    /// Raw scores of the n-th scoring plugin of `Scope::Node`, by node index.
    pub fn scores(&self, nth: usize) -> &[i64] {
        &self.scores[nth]
    }

    /// Works out again what changed since the last time.
    pub fn refresh(&mut self, cluster: &Cluster, profile: &Profile, class: &Class) {
        let all = self.rows.len() != cluster.slots() || self.epoch != cluster.epoch() || self.seen == 0;
        if !all && self.seen == cluster.generation() {
            return;
        }
        self.rows.resize(cluster.slots(), UNSEEN);
        self.scores.resize(profile.node_scores.len(), Vec::new());
        for scores in &mut self.scores {
            scores.resize(cluster.slots(), 0);
        }
        let nothing = Self::default();
        let cycle = Cycle::new(cluster, &nothing);
        for index in cluster.live() {
            if !all && cluster.changed(index) <= self.seen {
                continue;
            }
            let at = NodeView {
                index,
                node: cluster.node(index),
            };
            self.rows[index as usize] = row(&cycle, profile, class, at);
            for (scores, plugin) in self.scores.iter_mut().zip(&profile.node_scores) {
                scores[index as usize] = plugin.score.score(&cycle, class, at);
            }
        }
        (self.seen, self.epoch) = (cluster.generation(), cluster.epoch());
    }
}

fn row(cycle: &Cycle, profile: &Profile, class: &Class, at: NodeView) -> NodeRow {
    let (verdict, refused_by) = profile.first_refusal(&profile.node_filters, cycle, class, at);
    NodeRow {
        verdict,
        refused_by,
        affinity_ok: node_affinity::matches(class, at.node),
        taints_ok: taint_toleration::tolerates(class, at.node),
    }
}

/// Columns of the classes scheduled last.
#[derive(Debug, Default)]
pub struct ColumnsCache {
    /// The most recently used last.
    classes: Vec<(ClassId, Columns)>,
}

impl ColumnsCache {
    /// Takes the columns of a class out; new ones where there were none.
    pub fn take(&mut self, id: ClassId) -> Columns {
        match self.classes.iter().position(|(known, _)| *known == id) {
            Some(at) => self.classes.remove(at).1,
            None => Columns::default(),
        }
    }

    /// Puts them back, dropping the ones unused longest where there are too many.
    pub fn put(&mut self, id: ClassId, columns: Columns) {
        if self.classes.len() >= crate::limits::COLUMNS_MAX {
            self.classes.remove(0);
        }
        self.classes.push((id, columns));
    }
}
