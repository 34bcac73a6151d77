//! The table of pods, as `kubectl get pods` prints it.

use jiff::Timestamp;
use keelson_machinery::{Value, time};

use crate::cells;
use crate::kind::Column;

pub const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text(
        "Ready",
        "The aggregate readiness state of this pod for accepting traffic.",
    ),
    cells::text("Status", "The aggregate status of the containers in this pod."),
    cells::text(
        "Restarts",
        "The number of times the containers in this pod have been restarted and when the last container in this \
         pod has restarted.",
    ),
    cells::AGE,
    cells::wide("IP", "podIP address allocated to the pod."),
    cells::wide("Node", "NodeName indicates in which node this pod is scheduled."),
    cells::wide(
        "Nominated Node",
        "nominatedNodeName is set only when this pod preempts other pods on the node.",
    ),
    cells::wide(
        "Readiness Gates",
        "If specified, all readiness gates will be evaluated for pod readiness.",
    ),
];

/// What the containers' statuses add up to.
#[derive(Default)]
struct Summary {
    reason: String,
    ready: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

impl Summary {
    fn count(&mut self, container: &Value) {
        self.restarts += container["restartCount"].as_i64().unwrap_or(0);
        let finished = container["lastState"]["terminated"]["finishedAt"]
            .as_str()
            .and_then(|text| text.parse::<Timestamp>().ok());
        self.last_restart = self.last_restart.max(finished);
    }
}

pub fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    let sidecars = cells::list(&spec["initContainers"])
        .iter()
        .filter(|c| is_sidecar(c))
        .count();
    let total = cells::list(&spec["containers"]).len() + sidecars;
    let summary = summarize(pod);
    let restarts = match (summary.restarts, summary.last_restart) {
        (1.., Some(last)) => format!(
            "{} ({} ago)",
            summary.restarts,
            time::human_duration(now.as_second() - last.as_second())
        ),
        (restarts, _) => restarts.to_string(),
    };
    let ip = match status["podIPs"][0]["ip"].as_str() {
        Some(ip) => ip,
        None => status["podIP"].as_str().unwrap_or(""),
    };
    vec![
        cells::name(pod),
        format!("{}/{total}", summary.ready).into(),
        summary.reason.into(),
        restarts.into(),
        cells::age(pod, now),
        cells::or_none(ip).into(),
        cells::or_none(spec["nodeName"].as_str().unwrap_or("")).into(),
        cells::or_none(status["nominatedNodeName"].as_str().unwrap_or("")).into(),
        readiness_gates(spec, status).into(),
    ]
}

fn is_sidecar(container: &Value) -> bool {
    container["restartPolicy"] == "Always"
}

fn condition<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    cells::list(&status["conditions"])
        .iter()
        .find(|c| c["type"] == kind)
}

fn is_true(status: &Value, kind: &str) -> bool {
    condition(status, kind).is_some_and(|c| c["status"] == "True")
}

fn summarize(pod: &Value) -> Summary {
    let status = &pod["status"];
    let phase = status["phase"].as_str().unwrap_or("");
    let mut reason = match status["reason"].as_str() {
        Some(reason) if !reason.is_empty() => reason,
        _ => phase,
    };
    if condition(status, "PodScheduled").is_some_and(|c| c["reason"] == "SchedulingGated") {
        reason = "SchedulingGated";
    }
    let (mut summary, sidecars, initializing) = init_containers(pod, reason);
    if !initializing || is_true(status, "Initialized") {
        summary.restarts = sidecars.restarts;
        summary.last_restart = sidecars.last_restart;
        main_containers(status, &mut summary);
    }
    let deleting = !pod["metadata"]["deletionTimestamp"].is_null();
    if deleting && status["reason"] == "NodeLost" {
        summary.reason = "Unknown".to_owned();
    } else if deleting && !["Failed", "Succeeded"].contains(&phase) {
        summary.reason = "Terminating".to_owned();
    }
    summary
}

/// Init containers up to the first that is not done; the sidecars' restarts apart.
fn init_containers(pod: &Value, reason: &str) -> (Summary, Summary, bool) {
    let specs = cells::list(&pod["spec"]["initContainers"]);
    let mut sidecars = Summary::default();
    let mut summary = Summary {
        reason: reason.to_owned(),
        ..Summary::default()
    };
    for (index, container) in cells::list(&pod["status"]["initContainerStatuses"])
        .iter()
        .enumerate()
    {
        summary.count(container);
        let sidecar = specs
            .iter()
            .any(|c| c["name"] == container["name"] && is_sidecar(c));
        if sidecar {
            sidecars.count(container);
        }
        let state = &container["state"];
        let (ended, waiting) = (&state["terminated"], &state["waiting"]);
        let why = waiting["reason"].as_str().unwrap_or("");
        if ended.is_object() && ended["exitCode"].as_i64().unwrap_or(0) == 0 {
            continue;
        }
        if sidecar && container["started"] == true {
            summary.ready += usize::from(container["ready"] == true);
            continue;
        }
        summary.reason = if ended.is_object() {
            format!("Init:{}", ended_reason(ended))
        } else if !["", "PodInitializing"].contains(&why) {
            format!("Init:{why}")
        } else {
            format!("Init:{index}/{}", specs.len())
        };
        return (summary, sidecars, true);
    }
    (summary, sidecars, false)
}

fn ended_reason(ended: &Value) -> String {
    match ended["reason"].as_str().unwrap_or("") {
        "" if ended["signal"].as_i64().unwrap_or(0) != 0 => format!("Signal:{}", ended["signal"]),
        "" => format!("ExitCode:{}", ended["exitCode"].as_i64().unwrap_or(0)),
        reason => reason.to_owned(),
    }
}

/// The last container's state names the pod's; upstream walks backwards so the first one wins.
fn main_containers(status: &Value, summary: &mut Summary) {
    let mut running = false;
    for container in cells::list(&status["containerStatuses"]).iter().rev() {
        summary.count(container);
        let state = &container["state"];
        let why = state["waiting"]["reason"].as_str().unwrap_or("");
        if !why.is_empty() {
            summary.reason = why.to_owned();
        } else if state["terminated"].is_object() {
            summary.reason = ended_reason(&state["terminated"]);
        } else if container["ready"] == true && state["running"].is_object() {
            running = true;
            summary.ready += 1;
        }
    }
    if summary.reason == "Completed" && running {
        let text = if is_true(status, "Ready") {
            "Running"
        } else {
            "NotReady"
        };
        summary.reason = text.to_owned();
    }
}

fn readiness_gates(spec: &Value, status: &Value) -> String {
    let gates = cells::list(&spec["readinessGates"]);
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let met = gates
        .iter()
        .filter(|gate| is_true(status, gate["conditionType"].as_str().unwrap_or("")))
        .count();
    format!("{met}/{}", gates.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(pod: &Value) -> String {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        let cells = cells(pod, now);
        let texts: Vec<&str> = cells[1..5].iter().map(|c| c.as_str().unwrap()).collect();
        texts.join(" | ")
    }

    #[test]
    fn statuses() {
        let one = json!([{"name": "a"}]);
        let created = json!({"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z"});
        let table = [
            (json!({"phase": "Pending"}), "0/1 | Pending | 0 | 10m"),
            (
                json!({"phase": "Pending",
                    "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}),
                "0/1 | SchedulingGated | 0 | 10m",
            ),
            (
                json!({"phase": "Running", "containerStatuses": [
                    {"name": "a", "ready": true, "restartCount": 0, "state": {"running": {}}}]}),
                "1/1 | Running | 0 | 10m",
            ),
            (
                json!({"phase": "Running", "containerStatuses": [{"name": "a", "ready": false, "restartCount": 3,
                    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                    "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:09:55Z"}}}]}),
                "0/1 | CrashLoopBackOff | 3 (5s ago) | 10m",
            ),
            (
                json!({"phase": "Succeeded", "containerStatuses": [{"name": "a", "ready": false,
                    "restartCount": 0, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]}),
                "0/1 | Completed | 0 | 10m",
            ),
            (
                json!({"phase": "Failed", "containerStatuses": [{"name": "a", "ready": false,
                    "restartCount": 0, "state": {"terminated": {"exitCode": 3}}}]}),
                "0/1 | ExitCode:3 | 0 | 10m",
            ),
        ];
        for (status, expected) in table {
            let pod = json!({"metadata": created, "spec": {"containers": one}, "status": status});
            assert_eq!(row(&pod), expected, "{status}");
        }
    }

    #[test]
    fn init_containers_count() {
        let pod = json!({
            "metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "j"}]},
            "status": {"phase": "Pending", "initContainerStatuses": [
                {"name": "i", "restartCount": 0, "state": {"terminated": {"exitCode": 0}}},
                {"name": "j", "restartCount": 0, "state": {"waiting": {"reason": "PodInitializing"}}}]},
        });
        assert_eq!(row(&pod), "0/1 | Init:1/2 | 0 | 10m");
        let mut deleted = pod;
        deleted["metadata"]["deletionTimestamp"] = "2026-01-01T00:09:00Z".into();
        assert_eq!(row(&deleted), "0/1 | Terminating | 0 | 10m");
    }
}
