//! DefaultPreemption: which pods of lower priority to delete so that a pod fits.
//!
//! Pure: it proposes a node and its victims; the driver deletes them, and the pod is tried again when they are gone.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::cluster::NodeIndex;
use crate::diagnosis::{Diagnosis, histogram};
use crate::evaluate::{Input, full_check, shift_all};
use crate::model::node::Node;
use crate::model::pod::Pod;
use crate::objects::{Budget, ObjectKey, Objects};
use crate::plugins::{Cycle, NodeView, Reason};

/// A node, and the pods to take off it.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub node: NodeIndex,
    /// The most important first.
    pub victims: Vec<Arc<Pod>>,
    /// Victims whose disruption a budget does not allow.
    pub violations: usize,
}

const NOT_HELPFUL: Reason = Reason::Borrowed("Preemption is not helpful for scheduling");
const NO_VICTIMS: Reason = Reason::Borrowed("No preemption victims found for incoming pod");

/// The best candidate, or upstream's words for why there is none.
pub fn preempt(input: Input, pod: &Pod, diagnosis: &Diagnosis) -> Result<Candidate, String> {
    if !pod.class.preempts {
        return Err("not eligible due to preemptionPolicy=Never.".into());
    }
    if waits_for_victims(input, pod, diagnosis) {
        return Err("not eligible due to a terminating pod on the nominated node.".into());
    }
    let helpable = diagnosis.helpable();
    let args = &input.profile.args;
    let wanted =
        (helpable.len() * args.min_candidate_nodes_percentage / 100).max(args.min_candidate_nodes_absolute);
    let mut cycle = Cycle::new(input.cluster, input.columns);
    for enabled in &input.profile.cluster_filters {
        enabled.filter.prepare(&mut cycle, &pod.class);
    }
    let (mut candidates, mut reasons) = (Vec::new(), Vec::new());
    let start = if helpable.is_empty() {
        0
    } else {
        input.tie_break as usize % helpable.len()
    };
    for node in helpable.iter().cycle().skip(start).take(helpable.len()) {
        match try_node(input, &mut cycle, pod, *node) {
            Ok(candidate) => candidates.push(candidate),
            Err(why) => reasons.extend(why),
        }
        let harmless = candidates.iter().any(|c| c.violations == 0);
        if candidates.len() >= wanted && harmless {
            break;
        }
    }
    let best = candidates.into_iter().min_by_key(cost);
    best.ok_or_else(|| {
        let rest = diagnosis.total - helpable.len();
        let rest = (rest > 0).then_some((NOT_HELPFUL, rest));
        histogram(diagnosis.total, reasons.into_iter().map(|r| (r, 1)).chain(rest))
    })
}

/// The pod has made room on its nominated node already and the victims are still ending.
fn waits_for_victims(input: Input, pod: &Pod, diagnosis: &Diagnosis) -> bool {
    let nominated = pod
        .nominated_node
        .as_deref()
        .and_then(|name| input.cluster.find(name));
    nominated.is_some_and(|index| {
        let node = input.cluster.node(index);
        let helps = diagnosis.helpable().contains(&index);
        helps
            && node
                .pods
                .iter()
                .any(|p| p.deleting && p.class.priority < pod.class.priority)
    })
}

/// The fewest victims on one node: take all pods of lower priority away, then put back each that may stay.
fn try_node(input: Input, cycle: &mut Cycle, pod: &Pod, index: NodeIndex) -> Result<Candidate, Vec<Reason>> {
    let mut node: Node = input.cluster.node(index).clone();
    let ahead = input.nominations.ahead_of(pod, &node.name);
    let mut lower: Vec<Arc<Pod>> = node
        .pods
        .iter()
        .filter(|p| p.class.priority < pod.class.priority)
        .cloned()
        .collect();
    if lower.is_empty() {
        return Err(vec![NO_VICTIMS]);
    }
    lower.sort_by_key(|p| importance(p));
    for victim in &lower {
        node.remove_pod(&victim.uid);
    }
    ahead.iter().for_each(|p| node.add_pod(p.clone()));
    shift_all(input.profile, cycle, &pod.class, index, &lower, -1);
    shift_all(input.profile, cycle, &pod.class, index, &ahead, 1);
    let (verdict, _) = full_check(input.profile, cycle, &pod.class, NodeView { index, node: &node });
    let result = if verdict.fits() {
        let (violating, harmless) = split_by_budgets(&input.cluster.objects, &lower);
        let mut victims = Vec::new();
        let mut violations = 0;
        for (list, violates) in [(violating, 1), (harmless, 0)] {
            for one in list {
                if !put_back(input, cycle, pod, &mut node, index, &one) {
                    violations += violates;
                    victims.push(one);
                }
            }
        }
        Ok(victims).map(|victims| (victims, violations))
    } else {
        Err(verdict.reasons().to_vec())
    };
    // The cycle is shared by all trials: leave it as it was found.
    let kept: &[Arc<Pod>] = result.as_ref().map_or(&lower, |(victims, _)| victims);
    shift_all(input.profile, cycle, &pod.class, index, kept, 1);
    shift_all(input.profile, cycle, &pod.class, index, &ahead, -1);
    let (mut victims, violations) = result?;
    victims.sort_by_key(|p| importance(p));
    Ok(Candidate {
        node: index,
        victims,
        violations,
    })
}

/// Puts a pod back on the trial's node; takes it off again where the incoming pod then does not fit.
fn put_back(
    input: Input,
    cycle: &mut Cycle,
    pod: &Pod,
    node: &mut Node,
    index: NodeIndex,
    one: &Arc<Pod>,
) -> bool {
    let single = std::slice::from_ref(one);
    node.add_pod(one.clone());
    shift_all(input.profile, cycle, &pod.class, index, single, 1);
    let (verdict, _) = full_check(input.profile, cycle, &pod.class, NodeView { index, node });
    if verdict.fits() {
        return true;
    }
    node.remove_pod(&one.uid);
    shift_all(input.profile, cycle, &pod.class, index, single, -1);
    false
}

/// Higher priority first, then the one that runs longer.
fn importance(pod: &Pod) -> (Reverse<i32>, i64) {
    (Reverse(pod.class.priority), pod.started_s.unwrap_or(i64::MAX))
}

/// Pods whose deletion would break a disruption budget, and the others; budgets are used up in order.
fn split_by_budgets(objects: &Objects, pods: &[Arc<Pod>]) -> (Vec<Arc<Pod>>, Vec<Arc<Pod>>) {
    let mut left: Vec<(ObjectKey, i32)> = Vec::new();
    let violates = |pod: &Arc<Pod>, left: &mut Vec<(ObjectKey, i32)>| {
        let mut violates = false;
        for (key, budget) in objects.budgets_of(pod) {
            if budget.disrupted.iter().any(|name| *name == pod.name) {
                continue;
            }
            violates |= take(left, key, budget) < 0;
        }
        violates
    };
    pods.iter().cloned().partition(|pod| violates(pod, &mut left))
}

fn take(left: &mut Vec<(ObjectKey, i32)>, key: &ObjectKey, budget: &Budget) -> i32 {
    let at = left.iter().position(|(k, _)| k == key).unwrap_or_else(|| {
        left.push((key.clone(), budget.allowed));
        left.len() - 1
    });
    left[at].1 -= 1;
    left[at].1
}

/// Upstream's order of preference, smallest first: violated budgets, highest victim's priority, sum of priorities,
/// number of victims, and the latest start among the most important victims.
fn cost(candidate: &Candidate) -> (usize, i32, i64, usize, Reverse<i64>) {
    let priorities = || candidate.victims.iter().map(|p| p.class.priority);
    let highest = priorities().max().unwrap_or(i32::MIN);
    let sum = priorities().map(|p| i64::from(p) + i64::from(i32::MAX) + 1).sum();
    let most_important = candidate.victims.iter().filter(|p| p.class.priority == highest);
    let earliest = most_important
        .map(|p| p.started_s.unwrap_or(i64::MAX))
        .min()
        .unwrap_or(0);
    (
        candidate.violations,
        highest,
        sum,
        candidate.victims.len(),
        Reverse(earliest),
    )
}
