//! The decision for one pod: filters, then scores, then the best node.
//!
//! Every node is looked at (no sampling): the columns make that cheap, and the choice is the best there is. Ties are
//! broken by a number the caller gives, which stands for upstream's random choice among equals.

use std::sync::Arc;

use crate::cluster::{Cluster, NodeIndex};
use crate::columns::Columns;
use crate::diagnosis::{Diagnosis, Refusal};
use crate::model::class::Class;
use crate::model::node::Node;
use crate::model::pod::Pod;
use crate::nominations::Nominations;
use crate::plugins::{Cycle, NodeView, Verdict};
use crate::profile::{EnabledFilter, EnabledScore, Profile};

/// What an evaluation looks at.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    pub cluster: &'a Cluster,
    pub profile: &'a Profile,
    /// Refreshed for the pod's class.
    pub columns: &'a Columns,
    pub nominations: &'a Nominations,
    /// Chooses among equally good nodes.
    pub tie_break: u64,
}

/// The best node for a pod, or why there is none.
pub fn evaluate(input: Input, pod: &Pod) -> Result<NodeIndex, Diagnosis> {
    let class = &pod.class;
    let mut cycle = Cycle::new(input.cluster, input.columns);
    let total = input.cluster.live_count();
    for enabled in &input.profile.cluster_filters {
        if let Some(verdict) = enabled.filter.prepare(&mut cycle, class) {
            return Err(Diagnosis::for_all_nodes(total, verdict, enabled.row));
        }
    }
    if let Some(node) = nominated(input, &mut cycle, pod) {
        return Ok(node);
    }
    let active = active_filters(input.profile, &cycle, class);
    let mut feasible = Vec::with_capacity(total);
    for index in input.columns.fitting() {
        if check(input, &mut cycle, pod, &active, index).0.fits() {
            feasible.push(index);
        }
    }
    match feasible.len() {
        // Reasons are worked out only when they are told.
        0 => Err(diagnose(input, &mut cycle, pod, &active)),
        1 => Ok(feasible[0]),
        _ => Ok(best(input, &mut cycle, class, &feasible)),
    }
}

fn active_filters<'a>(profile: &'a Profile, cycle: &Cycle, class: &Class) -> Vec<&'a EnabledFilter> {
    profile
        .cluster_filters
        .iter()
        .filter(|f| f.filter.active(cycle, class))
        .collect()
}

/// Why each node will not do.
fn diagnose(input: Input, cycle: &mut Cycle, pod: &Pod, active: &[&EnabledFilter]) -> Diagnosis {
    let refusals = input.cluster.live().map(|node| {
        let (verdict, row) = if input.columns.fits(node) {
            check(input, cycle, pod, active, node)
        } else {
            let at = NodeView {
                index: node,
                node: input.cluster.node(node),
            };
            input
                .profile
                .first_refusal(&input.profile.node_filters, cycle, &pod.class, at)
        };
        Refusal { node, verdict, row }
    });
    let refusals = refusals.collect();
    Diagnosis {
        total: input.cluster.live_count(),
        refusals,
        for_all: None,
    }
}

/// The node an earlier preemption made room on, if the pod fits there now.
fn nominated(input: Input, cycle: &mut Cycle, pod: &Pod) -> Option<NodeIndex> {
    let index = input.cluster.find(input.nominations.node_of(&pod.uid)?)?;
    if !input.columns.fits(index) {
        return None;
    }
    let active = active_filters(input.profile, cycle, &pod.class);
    check(input, cycle, pod, &active, index).0.fits().then_some(index)
}

/// The filters of `Scope::Cluster` on a node that passed the others: with the pods nominated to it that go first, and
/// without them, since a nominated pod may yet not come.
fn check(
    input: Input,
    cycle: &mut Cycle,
    pod: &Pod,
    active: &[&EnabledFilter],
    index: NodeIndex,
) -> (Verdict, usize) {
    let node = input.cluster.node(index);
    if !input.nominations.is_empty() {
        let ahead = input.nominations.ahead_of(pod, &node.name);
        if !ahead.is_empty() {
            let with = with_pods(node, &ahead);
            shift_all(input.profile, cycle, &pod.class, index, &ahead, 1);
            let found = full_check(input.profile, cycle, &pod.class, NodeView { index, node: &with });
            shift_all(input.profile, cycle, &pod.class, index, &ahead, -1);
            if !found.0.fits() {
                return found;
            }
        }
    }
    let at = NodeView { index, node };
    for enabled in active {
        let verdict = enabled.filter.filter(cycle, &pod.class, at);
        if !verdict.fits() {
            return (verdict, enabled.row);
        }
    }
    (Verdict::Fit, 0)
}

fn with_pods(node: &Node, pods: &[Arc<Pod>]) -> Node {
    let mut with = node.clone();
    pods.iter().for_each(|p| with.add_pod(p.clone()));
    with
}

/// Counts pods in or out of a node in everything that was prepared.
pub fn shift_all(
    profile: &Profile,
    cycle: &mut Cycle,
    class: &Class,
    node: NodeIndex,
    pods: &[Arc<Pod>],
    by: i32,
) {
    for enabled in &profile.cluster_filters {
        for pod in pods {
            enabled.filter.shift(cycle, class, node, &pod.class, by);
        }
    }
}

/// All filters on a node that is not as the cluster has it.
pub fn full_check(profile: &Profile, cycle: &Cycle, class: &Class, at: NodeView) -> (Verdict, usize) {
    let found = profile.first_refusal(&profile.node_filters, cycle, class, at);
    if !found.0.fits() {
        return found;
    }
    profile.first_refusal(&profile.cluster_filters, cycle, class, at)
}

/// The node with the highest weighted sum.
fn best(input: Input, cycle: &mut Cycle, class: &Class, feasible: &[NodeIndex]) -> NodeIndex {
    let mut totals: Vec<i64> = feasible.iter().map(|i| input.columns.fixed(*i)).collect();
    let mut scores = vec![0i64; feasible.len()];
    for (nth, enabled) in input.profile.normalized_scores.iter().enumerate() {
        let column = input.columns.raw(nth);
        scores
            .iter_mut()
            .zip(feasible)
            .for_each(|(s, i)| *s = column[*i as usize]);
        // Where all raw scores are equal they decide nothing.
        if scores.iter().any(|s| *s != scores[0]) {
            add_normalized(enabled, cycle, feasible, &mut scores, &mut totals);
        }
    }
    for enabled in &input.profile.cluster_scores {
        enabled.score.prepare(cycle, class, feasible);
        if !enabled.score.active(cycle, class) {
            continue;
        }
        for (score, index) in scores.iter_mut().zip(feasible) {
            let at = NodeView {
                index: *index,
                node: input.cluster.node(*index),
            };
            *score = enabled.score.score(cycle, class, at);
        }
        add_normalized(enabled, cycle, feasible, &mut scores, &mut totals);
    }
    let max = totals.iter().copied().max().unwrap_or(0);
    let ties = totals.iter().filter(|t| **t == max).count() as u64;
    let chosen = (input.tie_break % ties.max(1)) as usize;
    let mut equal = feasible
        .iter()
        .zip(&totals)
        .filter(|(_, t)| **t == max)
        .map(|(i, _)| *i);
    equal.nth(chosen).expect("the maximum is among the totals")
}

/// Adds a plugin's scores to the totals.
fn add_normalized(
    enabled: &EnabledScore,
    cycle: &Cycle,
    feasible: &[NodeIndex],
    scores: &mut [i64],
    totals: &mut [i64],
) {
    enabled.score.normalize(cycle, feasible, scores);
    totals
        .iter_mut()
        .zip(scores)
        .for_each(|(t, s)| *t += *s * enabled.weight);
}

/// A pod as it would be on a node.
pub fn placed(pod: &Pod, node: &str) -> Arc<Pod> {
    Arc::new(Pod {
        node: Some(node.into()),
        ..pod.clone()
    })
}
