//! The `eviction` subresource: a delete that a PodDisruptionBudget may refuse.

use jiff::Timestamp;
use keelson_machinery::labels::Selector;
use keelson_machinery::{GroupResource, Status, Value, meta, time};
use serde_json::{Map, json};

use crate::set;

/// Pods on their way out that a budget remembers at most; more mean its controller is behind.
const DISRUPTED_PODS_MAX: usize = 2000;
const BUDGETS: GroupResource = GroupResource::new("policy", "poddisruptionbudgets");

/// What an eviction does.
#[derive(Debug, PartialEq)]
pub enum Decision {
    /// Delete the pod; no budget is asked.
    Delete,
    /// Write this budget first (bound to its resourceVersion), then delete the pod.
    Spend(Value),
}

/// Decides over a pod and the budgets of its namespace.
///
/// Refused with 429 where a budget allows no more, with 500 where several budgets select the pod.
pub fn decide(pod: &Value, budgets: &[&Value], dry_run: bool, now: Timestamp) -> Result<Decision, Status> {
    if ignores_budgets(pod) {
        return Ok(Decision::Delete);
    }
    let mut matching = budgets.iter().filter(|budget| selects(budget, pod));
    let Some(budget) = matching.next() else {
        return Ok(Decision::Delete);
    };
    if matching.next().is_some() {
        let mut status = Status::internal("");
        status.message =
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
                .to_owned();
        return Err(status);
    }
    // An unready pod was no part of what the budget counts as healthy.
    if !is_ready(pod) {
        let status = &budget["status"];
        let healthy = status["currentHealthy"].as_i64().unwrap_or(0);
        let desired = status["desiredHealthy"].as_i64().unwrap_or(0);
        let always = budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow";
        if always || healthy >= desired && desired > 0 {
            return Ok(Decision::Delete);
        }
    }
    spend(budget, meta::name(pod), dry_run, now).map(Decision::Spend)
}

/// Ended, not yet scheduled or already being deleted.
fn ignores_budgets(pod: &Value) -> bool {
    let phase = pod["status"]["phase"].as_str().unwrap_or("");
    ["Succeeded", "Failed", "Pending"].contains(&phase) || meta::deletion_timestamp(pod).is_some()
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|c| c["type"] == "Ready" && c["status"] == "True")
}

fn selects(budget: &Value, pod: &Value) -> bool {
    Selector::from_label_selector(&budget["spec"]["selector"])
        .is_ok_and(|selector| selector.matches(meta::labels(pod)))
}

fn spend(budget: &Value, pod: &str, dry_run: bool, now: Timestamp) -> Result<Value, Status> {
    let status = &budget["status"];
    let name = meta::name(budget);
    let observed = status["observedGeneration"].as_i64().unwrap_or(0);
    if observed < meta::generation(budget) {
        let message = "Cannot evict pod as it would violate the pod's disruption budget.";
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(refused(message, &why, 10));
    }
    let allowed = status["disruptionsAllowed"].as_i64().unwrap_or(0);
    if allowed < 0 {
        return Err(Status::forbidden(
            &BUDGETS,
            name,
            "pdb disruptions allowed is negative",
        ));
    }
    let disrupted = status["disruptedPods"].as_object().map_or(0, Map::len);
    if disrupted > DISRUPTED_PODS_MAX {
        return Err(Status::forbidden(
            &BUDGETS,
            name,
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ));
    }
    if allowed == 0 {
        let message = "Cannot evict pod as it would violate the pod's disruption budget.";
        return Err(refused(message, &exhausted(budget, name), 0));
    }
    let mut budget = budget.clone();
    if !dry_run {
        let status = set::object(&mut budget, "status");
        set::put(status, "disruptionsAllowed", allowed - 1);
        let pods = set::object(status, "disruptedPods");
        set::put(pods, pod, time::format_rfc3339(now));
    }
    Ok(budget)
}

fn exhausted(budget: &Value, name: &str) -> String {
    let status = &budget["status"];
    let insufficient =
        status["conditions"].as_array().into_iter().flatten().find(|c| {
            c["type"] == "DisruptionAllowed" && c["status"] == "False" && c["reason"] == "SyncFailed"
        });
    match insufficient {
        Some(condition) => format!(
            "The disruption budget {name} does not allow evicting pods currently because it failed sync: {}",
            condition["message"].as_str().unwrap_or("")
        ),
        None => format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            status["desiredHealthy"].as_i64().unwrap_or(0),
            status["currentHealthy"].as_i64().unwrap_or(0)
        ),
    }
}

/// The cause tells clients (`kubectl drain`) that trying again later is right.
fn refused(message: &str, why: &str, retry_after_s: u32) -> Status {
    let mut status = Status::too_many_requests(message, retry_after_s);
    let mut details = json!({"causes": [{"reason": "DisruptionBudget", "message": why}]});
    if retry_after_s > 0 {
        details["retryAfterSeconds"] = retry_after_s.into();
    }
    status.details = details;
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Value {
        json!({"metadata": {"name": "p", "labels": {"app": "web"}}, "status": {"phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}]}})
    }

    fn budget(allowed: i64) -> Value {
        json!({"metadata": {"name": "b", "generation": 1}, "spec": {"selector": {"matchLabels": {"app": "web"}}},
            "status": {"observedGeneration": 1, "disruptionsAllowed": allowed, "desiredHealthy": 2,
                "currentHealthy": 2}})
    }

    #[test]
    fn decisions() {
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(decide(&pod(), &[], false, now), Ok(Decision::Delete));
        let Ok(Decision::Spend(spent)) = decide(&pod(), &[&budget(1)], false, now) else {
            panic!("the budget allows one");
        };
        assert_eq!(spent["status"]["disruptionsAllowed"], 0);
        assert_eq!(spent["status"]["disruptedPods"]["p"], "1970-01-01T00:00:00Z");
        let refused = decide(&pod(), &[&budget(0)], false, now).unwrap_err();
        assert_eq!(
            (refused.code, refused.message.as_str()),
            (
                429,
                "Cannot evict pod as it would violate the pod's disruption budget."
            )
        );
        assert_eq!(
            refused.details["causes"][0]["message"],
            "The disruption budget b needs 2 healthy pods and has 2 currently"
        );
        let mut ended = pod();
        ended["status"]["phase"] = "Succeeded".into();
        assert_eq!(decide(&ended, &[&budget(0)], false, now), Ok(Decision::Delete));
    }
}
