//! Filters and scores: their contract, and the one table that lists them.
//!
//! A plugin is one file with a plain type that implements the points it needs. Plugins of `Scope::Node` look at the
//! pod's class and one node only: what they say is kept per class and node (`columns`) and worked out again only when
//! that node changes. Plugins of `Scope::Cluster` look at other nodes too; they prepare themselves once per pod.

use std::borrow::Cow;

use smallvec::{SmallVec, smallvec};

use crate::args::Args;
use crate::cluster::{Cluster, NodeIndex};
use crate::columns::Columns;
use crate::hint::Change;
use crate::model::class::{Class, Requirements};
use crate::model::node::Node;

pub mod image_locality;
pub mod inter_pod_affinity;
pub mod node_affinity;
pub mod node_name;
pub mod node_ports;
pub mod node_resources_balanced_allocation;
pub mod node_resources_fit;
pub mod node_unschedulable;
pub mod pod_topology_spread;
pub mod taint_toleration;
pub mod volume_binding;
pub mod volume_restrictions;
pub mod volume_zone;

/// The best score a plugin gives; the worst is 0.
pub const MAX_NODE_SCORE: i64 = 100;

/// Why a node will not do, in upstream's words.
pub type Reason = Cow<'static, str>;

/// Reasons of one refusal: nearly always one.
pub type Reasons = SmallVec<[Reason; 1]>;

/// What a filter says of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Fit,
    /// Taking pods away might help.
    Unschedulable(Reasons),
    /// Taking pods away cannot help.
    Unresolvable(Reasons),
}

impl Verdict {
    /// One reason, of the kind that pods' removal may lift.
    pub fn unschedulable(reason: impl Into<Reason>) -> Self {
        Self::Unschedulable(smallvec![reason.into()])
    }

    /// One reason, of the kind that no pod's removal lifts.
    pub fn unresolvable(reason: impl Into<Reason>) -> Self {
        Self::Unresolvable(smallvec![reason.into()])
    }

    /// Whether the node will do.
    pub fn fits(&self) -> bool {
        *self == Self::Fit
    }

    /// The reasons against the node.
    pub fn reasons(&self) -> &[Reason] {
        match self {
            Self::Fit => &[],
            Self::Unschedulable(reasons) | Self::Unresolvable(reasons) => reasons,
        }
    }
}

/// A node as plugins see it; in a trial of preemption it lacks the victims, and its index still says where it is.
#[derive(Clone, Copy, Debug)]
pub struct NodeView<'a> {
    pub index: NodeIndex,
    pub node: &'a Node,
}

/// What is prepared once for one pod and shared by its filters and scores.
pub struct Cycle<'a> {
    pub cluster: &'a Cluster,
    pub columns: &'a Columns,
    pub spread_filter: Vec<pod_topology_spread::Counted<'a>>,
    pub spread_score: pod_topology_spread::Scoring<'a>,
    pub affinity_filter: inter_pod_affinity::Counts<'a>,
    pub affinity_score: Vec<inter_pod_affinity::Weights<'a>>,
}

impl<'a> Cycle<'a> {
    /// Nothing prepared yet.
    pub fn new(cluster: &'a Cluster, columns: &'a Columns) -> Self {
        Self {
            cluster,
            columns,
            spread_filter: Vec::new(),
            spread_score: Default::default(),
            affinity_filter: Default::default(),
            affinity_score: Vec::new(),
        }
    }
}

/// Says whether a pod may run on a node.
pub trait Filter: Send + Sync {
    /// Prepares the cycle; an answer refuses the pod on every node for one reason.
    fn prepare(&self, _cycle: &mut Cycle, _pod: &Class) -> Option<Verdict> {
        None
    }

    /// Counts pods of class `other` in (1) or out (-1) of a node, for a trial of preemption or nomination.
    fn shift(&self, _cycle: &mut Cycle, _pod: &Class, _node: NodeIndex, _other: &Class, _by: i32) {}

    /// Whether this pod gives the filter anything to refuse, once prepared.
    fn active(&self, _cycle: &Cycle, _pod: &Requirements) -> bool {
        true
    }

    /// The verdict on one node.
    fn filter(&self, cycle: &Cycle, pod: &Requirements, node: NodeView) -> Verdict;
}

/// Ranks the nodes that passed every filter.
pub trait Score: Send + Sync {
    /// Prepares the cycle, given the nodes that will be scored.
    fn prepare(&self, _cycle: &mut Cycle, _pod: &Class, _feasible: &[NodeIndex]) {}

    /// Whether this pod's nodes can differ in this score, once prepared.
    fn active(&self, _cycle: &Cycle, _pod: &Requirements) -> bool {
        true
    }

    /// Whether `normalize` does anything.
    fn normalizes(&self) -> bool {
        false
    }

    /// The raw score of one node; larger is better unless `normalize` turns it round.
    fn score(&self, cycle: &Cycle, pod: &Requirements, node: NodeView) -> i64;

    /// Brings raw scores of `feasible` (same order) into 0..=100.
    fn normalize(&self, _cycle: &Cycle, _feasible: &[NodeIndex], _scores: &mut [i64]) {}
}

/// What a plugin looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The pod's class and one node.
    Node,
    /// Anything in the cluster.
    Cluster,
}

/// A plugin made for one profile.
#[derive(Default)]
pub struct Made {
    pub filter: Option<Box<dyn Filter>>,
    pub score: Option<Box<dyn Score>>,
}

/// One plugin.
pub struct Row {
    /// Upstream's name.
    pub name: &'static str,
    /// Its weight unless the configuration says otherwise; 0 when it does not score.
    pub weight: i64,
    pub scope: Scope,
    pub make: fn(&Args) -> Made,
    /// Whether a change may make a pod schedulable that this plugin refused.
    pub hint: fn(&Change, &Requirements) -> bool,
}

/// All plugins, in the order they run. `SchedulingGates`, `PrioritySort`, `DefaultPreemption` and `DefaultBinder`
/// have no filter and no score: they are the queue's, the evaluator's and the driver's, and are here by name so that
/// the configuration may name them.
pub const PLUGINS: &[Row] = &[
    queue_row("SchedulingGates"),
    queue_row("PrioritySort"),
    node_unschedulable::ROW,
    node_name::ROW,
    taint_toleration::ROW,
    node_affinity::ROW,
    node_ports::ROW,
    node_resources_fit::ROW,
    volume_restrictions::ROW,
    volume_binding::ROW,
    volume_zone::ROW,
    pod_topology_spread::ROW,
    inter_pod_affinity::ROW,
    queue_row("DefaultPreemption"),
    node_resources_balanced_allocation::ROW,
    image_locality::ROW,
    queue_row("DefaultBinder"),
];

const fn queue_row(name: &'static str) -> Row {
    Row {
        name,
        weight: 0,
        scope: Scope::Node,
        make: |_| Made {
            filter: None,
            score: None,
        },
        hint: |_, _| false,
    }
}

/// The set of plugins that refused a pod, by row in `PLUGINS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PluginSet(u32);

impl PluginSet {
    /// Every plugin: a pod refused for no plugin's reason waits for any change.
    pub const ALL: Self = Self(u32::MAX);

    /// Adds a row.
    pub fn insert(&mut self, row: usize) {
        self.0 |= 1 << row;
    }

    /// Whether a row is in it.
    pub fn contains(self, row: usize) -> bool {
        self.0 & (1 << row) != 0
    }

    /// Whether no row is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Turns scores round 0..=100 so that the largest becomes 100 (or 0 when `reverse`).
pub fn default_normalize(scores: &mut [i64], reverse: bool) {
    let max = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let scaled = if max == 0 {
            0
        } else {
            *score * MAX_NODE_SCORE / max
        };
        *score = if reverse { MAX_NODE_SCORE - scaled } else { scaled };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_only_scoring_plugins_have_a_weight() {
        let args = Args::default();
        for (at, row) in PLUGINS.iter().enumerate() {
            assert!(PLUGINS[..at].iter().all(|r| r.name != row.name), "{}", row.name);
            assert_eq!((row.make)(&args).score.is_some(), row.weight > 0, "{}", row.name);
        }
        assert!(PLUGINS.len() <= 32, "a PluginSet has 32 places");
    }

    #[test]
    fn filters_that_look_at_one_node_come_first() {
        let args = Args::default();
        let scopes = PLUGINS
            .iter()
            .filter(|r| (r.make)(&args).filter.is_some())
            .map(|r| r.scope);
        assert!(
            scopes.is_sorted_by_key(|s| s == Scope::Cluster),
            "the order of reasons depends on it"
        );
    }
}
