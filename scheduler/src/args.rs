//! What the plugins of one profile can be told, with upstream's defaults. Read from the configuration by `config`.

use crate::model::class::Weighted;
use crate::model::labels::NodeTerm;
use crate::model::terms::SpreadConstraint;

/// How NodeResourcesFit ranks nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScoringStrategy {
    LeastAllocated,
    MostAllocated,
    /// Points (utilization 0..=100, score 0..=100), by utilization.
    RequestedToCapacityRatio(Vec<(i64, i64)>),
}

/// A resource with its weight in a score.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedResource {
    pub name: Box<str>,
    pub weight: i64,
}

/// Arguments of all plugins.
#[derive(Clone, Debug)]
pub struct Args {
    pub added_required_node_terms: Option<Box<[NodeTerm]>>,
    pub added_preferred_node_terms: Box<[Weighted<NodeTerm>]>,
    pub ignored_resources: Vec<Box<str>>,
    pub ignored_resource_groups: Vec<Box<str>>,
    pub scoring_strategy: ScoringStrategy,
    pub scored_resources: Vec<WeightedResource>,
    pub balanced_resources: Vec<WeightedResource>,
    /// `None` is the system's defaults.
    pub default_constraints: Option<Vec<SpreadConstraint>>,
    pub hard_pod_affinity_weight: i32,
    /// Nodes preemption tries at least, in percent of those it might help on.
    pub min_candidate_nodes_percentage: usize,
    /// And in number.
    pub min_candidate_nodes_absolute: usize,
}

impl Default for Args {
    fn default() -> Self {
        let cpu_and_memory = || {
            ["cpu", "memory"]
                .map(|n| WeightedResource {
                    name: n.into(),
                    weight: 1,
                })
                .to_vec()
        };
        Self {
            added_required_node_terms: None,
            added_preferred_node_terms: Box::default(),
            ignored_resources: Vec::new(),
            ignored_resource_groups: Vec::new(),
            scoring_strategy: ScoringStrategy::LeastAllocated,
            scored_resources: cpu_and_memory(),
            balanced_resources: cpu_and_memory(),
            default_constraints: None,
            hard_pod_affinity_weight: 1,
            min_candidate_nodes_percentage: 10,
            min_candidate_nodes_absolute: 100,
        }
    }
}
