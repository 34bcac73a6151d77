//! A scheduling profile: which plugins run, with which weights and arguments.

use crate::args::Args;
use crate::model::class::Requirements;
use crate::plugins::{Cycle, Filter, NodeView, PLUGINS, Row, Scope, Score, Verdict};

/// An enabled filter.
pub struct EnabledFilter {
    /// Row in `PLUGINS`.
    pub row: usize,
    pub filter: Box<dyn Filter>,
}

/// An enabled score.
pub struct EnabledScore {
    pub row: usize,
    pub weight: i64,
    pub score: Box<dyn Score>,
}

/// A profile.
pub struct Profile {
    /// The `schedulerName` of the pods it schedules.
    pub name: Box<str>,
    pub node_filters: Vec<EnabledFilter>,
    pub cluster_filters: Vec<EnabledFilter>,
    /// Scores of `Scope::Node` that are used as they are.
    pub fixed_scores: Vec<EnabledScore>,
    /// And those that are normalized over the nodes in question.
    pub normalized_scores: Vec<EnabledScore>,
    pub cluster_scores: Vec<EnabledScore>,
    /// `DefaultPreemption` is enabled.
    pub preempts: bool,
    /// `SchedulingGates` is enabled.
    pub gates: bool,
    pub args: Args,
}

/// Which points of which plugins a profile enables.
pub trait Choice {
    /// Whether the plugin's filter (or its other work that is no score) runs.
    fn filters(&self, row: &Row) -> bool;
    /// The weight of the plugin's score; `None` when it does not run.
    fn weight(&self, row: &Row) -> Option<i64>;
}

/// Every plugin with its default weight.
pub struct Defaults;

impl Choice for Defaults {
    fn filters(&self, _: &Row) -> bool {
        true
    }

    fn weight(&self, row: &Row) -> Option<i64> {
        Some(row.weight)
    }
}

impl Profile {
    /// Makes the plugins a profile enables.
    pub fn new(name: &str, choice: &dyn Choice, args: Args) -> Self {
        let mut profile = Self {
            name: name.into(),
            node_filters: Vec::new(),
            cluster_filters: Vec::new(),
            fixed_scores: Vec::new(),
            normalized_scores: Vec::new(),
            cluster_scores: Vec::new(),
            preempts: false,
            gates: false,
            args,
        };
        for (index, row) in PLUGINS.iter().enumerate() {
            let made = (row.make)(&profile.args);
            let filters = choice.filters(row);
            profile.preempts |= filters && row.name == "DefaultPreemption";
            profile.gates |= filters && row.name == "SchedulingGates";
            if let Some(filter) = made.filter.filter(|_| filters) {
                let enabled = EnabledFilter { row: index, filter };
                match row.scope {
                    Scope::Node => profile.node_filters.push(enabled),
                    Scope::Cluster => profile.cluster_filters.push(enabled),
                }
            }
            let weight = choice.weight(row).filter(|w| *w > 0);
            if let (Some(score), Some(weight)) = (made.score, weight) {
                let enabled = EnabledScore {
                    row: index,
                    weight,
                    score,
                };
                match row.scope {
                    Scope::Node if enabled.score.normalizes() => profile.normalized_scores.push(enabled),
                    Scope::Node => profile.fixed_scores.push(enabled),
                    Scope::Cluster => profile.cluster_scores.push(enabled),
                }
            }
        }
        profile
    }

    /// The first filter of a list to refuse a node, with its row.
    pub fn first_refusal(
        &self,
        filters: &[EnabledFilter],
        cycle: &Cycle,
        pod: &Requirements,
        at: NodeView,
    ) -> (Verdict, usize) {
        for enabled in filters {
            let verdict = enabled.filter.filter(cycle, pod, at);
            if !verdict.fits() {
                return (verdict, enabled.row);
            }
        }
        (Verdict::Fit, 0)
    }
}
