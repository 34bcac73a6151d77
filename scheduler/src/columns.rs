//! What is worked out per pod class and node, and kept: verdicts and raw scores of the plugins that look at one node.
//!
//! This is the work that equal pods share. Bringing it up to date costs only the nodes that changed since the last
//! pod of the class. Memory is bounded by `limits::COLUMNS_MAX` classes.

use crate::cluster::{Cluster, NodeIndex};
use crate::model::class::{Class, ClassId};
use crate::plugins::{Cycle, NodeView, Verdict, node_affinity, taint_toleration};
use crate::profile::Profile;

/// One class on every node; every column is by node index.
#[derive(Debug, Default)]
pub struct Columns {
    seen: u64,
    epoch: u64,
    /// The node exists and no filter of `Scope::Node` refuses it.
    fits: Vec<bool>,
    affinity_ok: Vec<bool>,
    taints_ok: Vec<bool>,
    /// The weighted sum of the scores of `Scope::Node` that need no normalizing.
    fixed: Vec<i64>,
    /// Raw scores of each of those that do, in the profile's order.
    raw: Vec<Vec<i64>>,
}

impl Columns {
    /// Nodes that no filter of `Scope::Node` refuses.
    pub fn fitting(&self) -> impl Iterator<Item = NodeIndex> + '_ {
        (0u32..)
            .zip(&self.fits)
            .filter(|(_, fits)| **fits)
            .map(|(index, _)| index)
    }

    /// Whether a node is one of these.
    pub fn fits(&self, index: NodeIndex) -> bool {
        self.fits[index as usize]
    }

    /// The node matches the pod's node selector and affinity.
    pub fn affinity_ok(&self, index: NodeIndex) -> bool {
        self.affinity_ok.get(index as usize) == Some(&true)
    }

    /// The pod tolerates the node's taints.
    pub fn taints_ok(&self, index: NodeIndex) -> bool {
        self.taints_ok.get(index as usize) == Some(&true)
    }

    /// The weighted sum of the scores that need no normalizing.
    pub fn fixed(&self, index: NodeIndex) -> i64 {
        self.fixed[index as usize]
    }

    /// Raw scores of the n-th plugin of `Profile::normalized_scores`.
    pub fn raw(&self, nth: usize) -> &[i64] {
        &self.raw[nth]
    }

    /// Works out again what changed since the last time.
    pub fn refresh(&mut self, cluster: &Cluster, profile: &Profile, class: &Class) {
        let slots = cluster.slots();
        let all = self.fits.len() != slots || self.epoch != cluster.epoch() || self.seen == 0;
        if !all && self.seen == cluster.generation() {
            return;
        }
        for flags in [&mut self.fits, &mut self.affinity_ok, &mut self.taints_ok] {
            flags.resize(slots, false);
        }
        self.raw.resize(profile.normalized_scores.len(), Vec::new());
        for scores in self.raw.iter_mut().chain([&mut self.fixed]) {
            scores.resize(slots, 0);
        }
        let nothing = Self::default();
        let cycle = Cycle::new(cluster, &nothing);
        for index in 0..slots as NodeIndex {
            if all || cluster.changed(index) > self.seen {
                self.refresh_node(&cycle, profile, class, index);
            }
        }
        (self.seen, self.epoch) = (cluster.generation(), cluster.epoch());
    }

    fn refresh_node(&mut self, cycle: &Cycle, profile: &Profile, class: &Class, index: NodeIndex) {
        let slot = index as usize;
        self.fits[slot] = false;
        if !cycle.cluster.is_live(index) {
            return;
        }
        let at = NodeView {
            index,
            node: cycle.cluster.node(index),
        };
        self.fits[slot] = profile.first_refusal(&profile.node_filters, cycle, class, at).0 == Verdict::Fit;
        self.affinity_ok[slot] = node_affinity::matches(class, at.node);
        self.taints_ok[slot] = taint_toleration::tolerates(class, at.node);
        let weighted = profile
            .fixed_scores
            .iter()
            .map(|s| s.score.score(cycle, class, at) * s.weight);
        self.fixed[slot] = weighted.sum();
        for (scores, plugin) in self.raw.iter_mut().zip(&profile.normalized_scores) {
            scores[slot] = plugin.score.score(cycle, class, at);
        }
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
