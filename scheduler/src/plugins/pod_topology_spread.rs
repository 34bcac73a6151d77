//! PodTopologySpread: spreads pods over topology domains, as the pod's constraints say or as the defaults do.
//!
//! Pods are counted per class and node (`Cluster::placements_in`), so preparing costs the nodes once and each matching
//! class' nodes once, not every pod of the cluster.

use super::{Cycle, Filter, MAX_NODE_SCORE, Made, NodeView, Row, Scope, Score, Verdict};
use crate::args::Args;
use crate::cluster::{Cluster, NO_DOMAIN, NodeIndex, Topology};
use crate::columns::Columns;
use crate::hint::Change;
use crate::model::class::{Class, Requirements};
use crate::model::labels::Selector;
use crate::model::terms::SpreadConstraint;

pub(super) const ROW: Row = Row {
    name: "PodTopologySpread",
    weight: 2,
    scope: Scope::Cluster,
    make: |args| {
        let make = || PodTopologySpread::new(args);
        Made {
            filter: Some(Box::new(make())),
            score: Some(Box::new(make())),
        }
    },
    hint: |change, pod| match change {
        Change::PodAdded { class } | Change::PodRemoved { class } => {
            let selects = |c: &SpreadConstraint| c.selector.matches(&class.labels);
            class.namespace == pod.namespace && pod.spread.iter().any(selects)
        }
        Change::NodeAdded(_) | Change::NodeRemoved => true,
        Change::NodeUpdated { before, after } => {
            before.labels != after.labels || before.taints != after.taints
        }
        _ => false,
    },
};

/// Label of a node's own domain; scores count the node alone for it.
pub const HOSTNAME: &str = "kubernetes.io/hostname";
/// Label of a zone.
pub const ZONE: &str = "topology.kubernetes.io/zone";

struct PodTopologySpread {
    defaults: Vec<SpreadConstraint>,
    /// The defaults are the system's own, which ask for no label.
    system_defaults: bool,
}

impl PodTopologySpread {
    fn new(args: &Args) -> Self {
        match &args.default_constraints {
            Some(list) => Self {
                defaults: list.clone(),
                system_defaults: false,
            },
            None => Self {
                defaults: system_defaults(),
                system_defaults: true,
            },
        }
    }

    /// The constraints a pod is under, required or not; its own, or else the defaults.
    fn constraints(&self, cluster: &Cluster, pod: &Requirements, required: bool) -> Vec<SpreadConstraint> {
        if !pod.spread.is_empty() {
            return pod
                .spread
                .iter()
                .filter(|c| c.required == required)
                .cloned()
                .collect();
        }
        let defaults: Vec<_> = self.defaults.iter().filter(|c| c.required == required).collect();
        if defaults.is_empty() {
            return Vec::new();
        }
        let Some(selector) = cluster.objects.default_selector(pod) else {
            return Vec::new();
        };
        defaults
            .into_iter()
            .map(|c| SpreadConstraint {
                selector: selector.clone(),
                ..c.clone()
            })
            .collect()
    }
}

fn system_defaults() -> Vec<SpreadConstraint> {
    [(HOSTNAME, 3), (ZONE, 5)]
        .map(|(key, max_skew)| SpreadConstraint {
            max_skew,
            topology_key: key.into(),
            selector: Selector::nothing(),
            min_domains: 1,
            required: false,
            honor_affinity: true,
            honor_taints: false,
        })
        .into()
}

/// Whether a node counts for a constraint by its inclusion policies.
fn included(columns: &Columns, constraint: &SpreadConstraint, index: NodeIndex) -> bool {
    (!constraint.honor_affinity || columns.affinity_ok(index))
        && (!constraint.honor_taints || columns.taints_ok(index))
}

/// A constraint with its matching pods counted per domain.
pub struct Counted<'a> {
    constraint: SpreadConstraint,
    topology: &'a Topology,
    /// By domain.
    pods: Vec<i32>,
    /// By domain: has a node that counts.
    known: Vec<bool>,
    known_count: i32,
    /// The fewest pods in any domain.
    least: i32,
    self_match: bool,
}

impl Counted<'_> {
    fn find_least(&mut self) {
        let counted = self.pods.iter().zip(&self.known).filter(|(_, known)| **known);
        let enough = self.known_count >= self.constraint.min_domains;
        self.least = counted
            .map(|(pods, _)| *pods)
            .min()
            .filter(|_| enough)
            .unwrap_or(0);
    }
}

/// Resolves the topologies; a key no one asked to keep has no domains, so no node has its label.
fn with_topology(
    cluster: &Cluster,
    constraints: Vec<SpreadConstraint>,
) -> Vec<(SpreadConstraint, &Topology)> {
    static NOWHERE: std::sync::LazyLock<Topology> = std::sync::LazyLock::new(Topology::default);
    let find = |c: &SpreadConstraint| cluster.topology(&c.topology_key).unwrap_or(&NOWHERE);
    constraints
        .into_iter()
        .map(|c| (find(&c), c))
        .map(|(t, c)| (c, t))
        .collect()
}

fn domain(topology: &Topology, index: NodeIndex) -> u32 {
    topology.domain.get(index as usize).copied().unwrap_or(NO_DOMAIN)
}

impl Filter for PodTopologySpread {
    fn prepare(&self, cycle: &mut Cycle, pod: &Class) -> Option<Verdict> {
        let (cluster, columns) = (cycle.cluster, cycle.columns);
        let constraints = with_topology(cluster, self.constraints(cluster, pod, true));
        if constraints.is_empty() {
            return None;
        }
        let topologies: Vec<&Topology> = constraints.iter().map(|(_, t)| *t).collect();
        let labelled = |i: NodeIndex| topologies.iter().all(|t| domain(t, i) != NO_DOMAIN);
        let counted = constraints.into_iter().map(|(constraint, topology)| {
            let counts =
                |i: NodeIndex| cluster.is_live(i) && labelled(i) && included(columns, &constraint, i);
            let mut known = vec![false; topology.domains()];
            for index in cluster.live().filter(|i| counts(*i)) {
                known[domain(topology, index) as usize] = true;
            }
            let mut pods = vec![0; topology.domains()];
            for placement in cluster.placements_in(&pod.namespace) {
                if !constraint.selector.matches(&placement.class.labels) {
                    continue;
                }
                for (index, count) in placement.nodes.iter().filter(|(i, _)| counts(*i)) {
                    pods[domain(topology, index) as usize] += count.live;
                }
            }
            let known_count = known.iter().filter(|k| **k).count() as i32;
            let self_match = constraint.selector.matches(&pod.labels);
            let mut counted = Counted {
                constraint,
                topology,
                pods,
                known,
                known_count,
                least: 0,
                self_match,
            };
            counted.find_least();
            counted
        });
        cycle.spread_filter = counted.collect();
        None
    }

    fn shift(&self, cycle: &mut Cycle, pod: &Class, node: NodeIndex, other: &Class, by: i32) {
        let columns = cycle.columns;
        for counted in &mut cycle.spread_filter {
            let domain = domain(counted.topology, node);
            let matches =
                other.namespace == pod.namespace && counted.constraint.selector.matches(&other.labels);
            if domain != NO_DOMAIN && matches && included(columns, &counted.constraint, node) {
                counted.pods[domain as usize] += by;
                counted.find_least();
            }
        }
    }

    fn active(&self, cycle: &Cycle, _: &Requirements) -> bool {
        !cycle.spread_filter.is_empty()
    }

    fn filter(&self, cycle: &Cycle, _: &Requirements, at: NodeView) -> Verdict {
        for counted in &cycle.spread_filter {
            let domain = domain(counted.topology, at.index);
            if domain == NO_DOMAIN {
                let reason = "node(s) didn't match pod topology spread constraints (missing required label)";
                return Verdict::unresolvable(reason);
            }
            let skew = counted.pods[domain as usize] + i32::from(counted.self_match) - counted.least;
            if skew > counted.constraint.max_skew {
                return Verdict::unschedulable("node(s) didn't match pod topology spread constraints");
            }
        }
        Verdict::Fit
    }
}

/// What scoring prepares: per constraint, pods per domain and the constraint's weight.
#[derive(Default)]
pub struct Scoring<'a> {
    constraints: Vec<Scored<'a>>,
    /// Nodes without every topology label score 0.
    all_labels: bool,
}

struct Scored<'a> {
    topology: &'a Topology,
    max_skew: i32,
    /// By domain.
    pods: Vec<i32>,
    weight: f64,
}

impl Scoring<'_> {
    fn ignores(&self, index: NodeIndex) -> bool {
        self.all_labels
            && self
                .constraints
                .iter()
                .any(|c| domain(c.topology, index) == NO_DOMAIN)
    }
}

impl Score for PodTopologySpread {
    fn prepare(&self, cycle: &mut Cycle, pod: &Class, feasible: &[NodeIndex]) {
        let (cluster, columns) = (cycle.cluster, cycle.columns);
        let constraints = with_topology(cluster, self.constraints(cluster, pod, false));
        let all_labels = !pod.spread.is_empty() || !self.system_defaults;
        let topologies: Vec<&Topology> = constraints.iter().map(|(_, t)| *t).collect();
        let labelled = |i: NodeIndex| !all_labels || topologies.iter().all(|t| domain(t, i) != NO_DOMAIN);
        let scored = feasible.iter().filter(|i| labelled(**i)).count();
        let constraints = constraints.into_iter().map(|(constraint, topology)| {
            let mut reachable = vec![false; topology.domains()];
            for index in feasible.iter().filter(|i| labelled(**i)) {
                if let Some(reached) = reachable.get_mut(domain(topology, *index) as usize) {
                    *reached = true;
                }
            }
            let mut pods = vec![0; topology.domains()];
            for placement in cluster.placements_in(&pod.namespace) {
                if !constraint.selector.matches(&placement.class.labels) {
                    continue;
                }
                for (index, count) in placement.nodes.iter() {
                    let domain = domain(topology, index);
                    let counts =
                        domain != NO_DOMAIN && labelled(index) && included(columns, &constraint, index);
                    if counts {
                        pods[domain as usize] += count.live;
                    }
                }
            }
            let size = match &*constraint.topology_key {
                HOSTNAME => scored,
                _ => reachable.iter().filter(|r| **r).count(),
            };
            Scored {
                topology,
                max_skew: constraint.max_skew,
                pods,
                weight: (size as f64 + 2.0).ln(),
            }
        });
        cycle.spread_score = Scoring {
            constraints: constraints.collect(),
            all_labels,
        };
    }

    fn active(&self, cycle: &Cycle, _: &Requirements) -> bool {
        !cycle.spread_score.constraints.is_empty()
    }

    fn normalizes(&self) -> bool {
        true
    }

    /// Fewer is better: pods in the node's domains, weighted by how many domains there are.
    fn score(&self, cycle: &Cycle, _: &Requirements, at: NodeView) -> i64 {
        let scoring = &cycle.spread_score;
        if scoring.ignores(at.index) {
            return 0;
        }
        let of = |c: &Scored| {
            let pods = c.pods.get(domain(c.topology, at.index) as usize)?;
            Some(f64::from(*pods) * c.weight + f64::from(c.max_skew - 1))
        };
        // None is negative, so that this rounds half up as upstream does.
        (scoring.constraints.iter().filter_map(of).sum::<f64>() + 0.5) as i64
    }

    fn normalize(&self, cycle: &Cycle, feasible: &[NodeIndex], scores: &mut [i64]) {
        let scoring = &cycle.spread_score;
        let counted = feasible
            .iter()
            .zip(scores.iter())
            .filter(|(i, _)| !scoring.ignores(**i));
        let (min, max) = counted.fold((i64::MAX, 0), |(min, max), (_, s)| (min.min(*s), max.max(*s)));
        for (index, score) in feasible.iter().zip(scores) {
            *score = match max {
                _ if scoring.ignores(*index) => 0,
                0 => MAX_NODE_SCORE,
                _ => MAX_NODE_SCORE * (max + min - *score) / max,
            };
        }
    }
}
