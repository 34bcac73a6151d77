//! InterPodAffinity: pods near or away from other pods, by topology domain, as both the incoming pod and the pods
//! already placed ask.

use super::{Cycle, Filter, MAX_NODE_SCORE, Made, NodeView, Row, Scope, Score, Verdict};
use crate::cluster::{Cluster, NO_DOMAIN, NodeIndex, Topology};
use crate::hint::Change;
use crate::model::class::{Class, Requirements};
use crate::model::terms::AffinityTerm;

pub(super) const ROW: Row = Row {
    name: "InterPodAffinity",
    weight: 2,
    scope: Scope::Cluster,
    make: |args| {
        let filter = InterPodAffinity {
            hard_weight: args.hard_pod_affinity_weight,
        };
        let score = InterPodAffinity {
            hard_weight: args.hard_pod_affinity_weight,
        };
        Made {
            filter: Some(Box::new(filter)),
            score: Some(Box::new(score)),
        }
    },
    hint: |change, pod| match change {
        // A pod that arrives can only be one it wants to be near.
        Change::PodAdded { .. } => !pod.affinity.is_empty(),
        // One that leaves can be one that either wanted to be away from.
        Change::PodRemoved { class } => {
            !pod.anti_affinity.is_empty() || !class.anti_affinity.is_empty() || !pod.affinity.is_empty()
        }
        Change::NodeAdded(_) => true,
        Change::NodeUpdated { before, after } => before.labels != after.labels,
        Change::NamespaceLabels => true,
        _ => false,
    },
};

struct InterPodAffinity {
    /// What a required affinity term of a placed pod is worth when scoring.
    hard_weight: i32,
}

/// Pods per domain for one term.
struct Counted<'a> {
    term: AffinityTerm,
    topology: &'a Topology,
    /// By domain.
    pods: Vec<i32>,
}

impl<'a> Counted<'a> {
    fn new(cluster: &'a Cluster, term: &AffinityTerm) -> Self {
        let topology = topology(cluster, &term.topology_key);
        Self {
            term: term.clone(),
            topology,
            pods: vec![0; topology.domains()],
        }
    }

    fn add(&mut self, node: NodeIndex, by: i32) {
        if let Some(pods) = self.pods.get_mut(domain(self.topology, node) as usize) {
            *pods += by;
        }
    }

    fn at(&self, node: NodeIndex) -> i32 {
        self.pods
            .get(domain(self.topology, node) as usize)
            .copied()
            .unwrap_or(0)
    }
}

/// What the filter prepares.
#[derive(Default)]
pub struct Counts<'a> {
    /// Per required affinity term: pods that match all of them.
    affinity: Vec<Counted<'a>>,
    /// Per required anti-affinity term: pods that match it.
    anti_affinity: Vec<Counted<'a>>,
    /// Per anti-affinity term of placed pods that matches the incoming one: those pods.
    repelling: Vec<Counted<'a>>,
}

fn topology<'a>(cluster: &'a Cluster, key: &str) -> &'a Topology {
    static NOWHERE: std::sync::LazyLock<Topology> = std::sync::LazyLock::new(Topology::default);
    cluster.topology(key).unwrap_or(&NOWHERE)
}

fn domain(topology: &Topology, index: NodeIndex) -> u32 {
    topology.domain.get(index as usize).copied().unwrap_or(NO_DOMAIN)
}

/// Whether a term means pods of a class.
fn means(cluster: &Cluster, term: &AffinityTerm, class: &Requirements) -> bool {
    term.matches(
        &class.namespace,
        cluster.objects.namespace_labels(&class.namespace),
        &class.labels,
    )
}

fn all_mean(cluster: &Cluster, terms: &[AffinityTerm], class: &Requirements) -> bool {
    terms.iter().all(|term| means(cluster, term, class))
}

impl Filter for InterPodAffinity {
    fn prepare(&self, cycle: &mut Cycle, pod: &Class) -> Option<Verdict> {
        let cluster = cycle.cluster;
        let mut counts = Counts::default();
        for placement in cluster.placements_with_affinity() {
            for term in placement
                .class
                .anti_affinity
                .iter()
                .filter(|t| means(cluster, t, pod))
            {
                let mut counted = Counted::new(cluster, term);
                for (index, count) in placement.nodes.iter() {
                    counted.add(index, count.all);
                }
                counts.repelling.push(counted);
            }
        }
        counts.affinity = pod.affinity.iter().map(|t| Counted::new(cluster, t)).collect();
        counts.anti_affinity = pod
            .anti_affinity
            .iter()
            .map(|t| Counted::new(cluster, t))
            .collect();
        if !counts.affinity.is_empty() || !counts.anti_affinity.is_empty() {
            for placement in cluster.placements() {
                for (index, count) in placement.nodes.iter() {
                    shift_own(&mut counts, cluster, pod, &placement.class, index, count.all);
                }
            }
        }
        cycle.affinity_filter = counts;
        None
    }

    fn shift(&self, cycle: &mut Cycle, pod: &Class, node: NodeIndex, other: &Class, by: i32) {
        let cluster = cycle.cluster;
        let counts = &mut cycle.affinity_filter;
        shift_own(counts, cluster, pod, other, node, by);
        for term in other.anti_affinity.iter().filter(|t| means(cluster, t, pod)) {
            let mut counted = Counted::new(cluster, term);
            counted.add(node, by);
            counts.repelling.push(counted);
        }
    }

    fn active(&self, cycle: &Cycle, _: &Requirements) -> bool {
        let counts = &cycle.affinity_filter;
        !(counts.affinity.is_empty() && counts.anti_affinity.is_empty() && counts.repelling.is_empty())
    }

    fn filter(&self, cycle: &Cycle, pod: &Requirements, at: NodeView) -> Verdict {
        let counts = &cycle.affinity_filter;
        if !near_enough(cycle.cluster, counts, pod, at.index) {
            return Verdict::unresolvable("node(s) didn't match pod affinity rules");
        }
        if counts.anti_affinity.iter().any(|c| c.at(at.index) > 0) {
            return Verdict::unschedulable("node(s) didn't match pod anti-affinity rules");
        }
        // Terms of one topology are summed: a trial takes pods out by a count of -1.
        let repelled = |c: &Counted| {
            let same = counts
                .repelling
                .iter()
                .filter(|o| std::ptr::eq(o.topology, c.topology));
            same.map(|o| o.at(at.index)).sum::<i32>() > 0
        };
        if counts.repelling.iter().any(repelled) {
            return Verdict::unschedulable("node(s) didn't satisfy existing pods anti-affinity rules");
        }
        Verdict::Fit
    }
}

/// Counts pods of a class for the incoming pod's own terms.
fn shift_own(counts: &mut Counts, cluster: &Cluster, pod: &Class, other: &Class, node: NodeIndex, by: i32) {
    if !counts.affinity.is_empty() && all_mean(cluster, &pod.affinity, other) {
        counts.affinity.iter_mut().for_each(|c| c.add(node, by));
    }
    for counted in &mut counts.anti_affinity {
        if means(cluster, &counted.term, other) {
            counted.add(node, by);
        }
    }
}

/// Every affinity term has a pod in the node's domain; or no pod matches anywhere and the pod matches its own terms,
/// so that the first of a group can start.
fn near_enough(cluster: &Cluster, counts: &Counts, pod: &Requirements, node: NodeIndex) -> bool {
    if counts
        .affinity
        .iter()
        .any(|c| domain(c.topology, node) == NO_DOMAIN)
    {
        return false;
    }
    if counts.affinity.iter().all(|c| c.at(node) > 0) {
        return true;
    }
    let none_anywhere = counts.affinity.iter().all(|c| c.pods.iter().all(|p| *p == 0));
    none_anywhere && all_mean(cluster, &pod.affinity, pod)
}

/// Weights per domain of one topology.
pub struct Weights<'a> {
    topology: &'a Topology,
    /// By domain.
    sums: Vec<i64>,
}

/// Adds up weights per topology.
struct Sums<'a> {
    cluster: &'a Cluster,
    weights: Vec<Weights<'a>>,
}

impl<'a> Sums<'a> {
    fn add(&mut self, term: &AffinityTerm, nodes: &crate::model::class::Placement, weight: i64) {
        let topology: &'a Topology = topology(self.cluster, &term.topology_key);
        let at = self
            .weights
            .iter()
            .position(|w| std::ptr::eq(w.topology, topology))
            .unwrap_or_else(|| {
                self.weights.push(Weights {
                    topology,
                    sums: vec![0; topology.domains()],
                });
                self.weights.len() - 1
            });
        for (index, count) in nodes.nodes.iter() {
            if let Some(sum) = self.weights[at].sums.get_mut(domain(topology, index) as usize) {
                *sum += weight * i64::from(count.all);
            }
        }
    }
}

impl Score for InterPodAffinity {
    fn prepare(&self, cycle: &mut Cycle, pod: &Class, _: &[NodeIndex]) {
        let cluster = cycle.cluster;
        let mut sums = Sums {
            cluster,
            weights: Vec::new(),
        };
        let near = pod.preferred_affinity.iter().map(|(w, t)| (i64::from(*w), t));
        let away = pod
            .preferred_anti_affinity
            .iter()
            .map(|(w, t)| (-i64::from(*w), t));
        let own: Vec<_> = near.chain(away).collect();
        if !own.is_empty() {
            for placement in cluster.placements() {
                for (weight, term) in own.iter().filter(|(_, t)| means(cluster, t, &placement.class)) {
                    sums.add(term, placement, *weight);
                }
            }
        }
        for placement in cluster.placements_with_affinity() {
            let class = &placement.class;
            let hard = class.affinity.iter().map(|t| (i64::from(self.hard_weight), t));
            let near = class.preferred_affinity.iter().map(|(w, t)| (i64::from(*w), t));
            let away = class
                .preferred_anti_affinity
                .iter()
                .map(|(w, t)| (-i64::from(*w), t));
            for (weight, term) in hard
                .chain(near)
                .chain(away)
                .filter(|(_, t)| means(cluster, t, pod))
            {
                sums.add(term, placement, weight);
            }
        }
        cycle.affinity_score = sums.weights;
    }

    fn active(&self, cycle: &Cycle, _: &Requirements) -> bool {
        !cycle.affinity_score.is_empty()
    }

    fn normalizes(&self) -> bool {
        true
    }

    fn score(&self, cycle: &Cycle, _: &Requirements, at: NodeView) -> i64 {
        let weights = cycle.affinity_score.iter();
        weights
            .filter_map(|w| w.sums.get(domain(w.topology, at.index) as usize))
            .sum()
    }

    fn normalize(&self, _: &Cycle, _: &[NodeIndex], scores: &mut [i64]) {
        let min = scores.iter().copied().min().unwrap_or(0);
        let range = scores.iter().copied().max().unwrap_or(0) - min;
        for score in scores {
            *score = if range == 0 {
                0
            } else {
                MAX_NODE_SCORE * (*score - min) / range
            };
        }
    }
}
