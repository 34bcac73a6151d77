//! The node's conditions with upstream's reasons and messages. Pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::NodeCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// What the conditions say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    pub memory_pressure: bool,
    pub disk_pressure: bool,
    pub pid_pressure: bool,
    /// Why the node is not ready; empty when it is.
    pub not_ready: Vec<String>,
}

struct Pressure {
    type_: &'static str,
    bad: (&'static str, &'static str, &'static str),
    good: (&'static str, &'static str, &'static str),
}

/// Type; reason, message, event when under pressure; the same when not.
const PRESSURES: [Pressure; 3] = [
    Pressure {
        type_: "MemoryPressure",
        bad: (
            "KubeletHasInsufficientMemory",
            "kubelet has insufficient memory available",
            "NodeHasInsufficientMemory",
        ),
        good: (
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
            "NodeHasSufficientMemory",
        ),
    },
    Pressure {
        type_: "DiskPressure",
        bad: (
            "KubeletHasDiskPressure",
            "kubelet has disk pressure",
            "NodeHasDiskPressure",
        ),
        good: (
            "KubeletHasNoDiskPressure",
            "kubelet has no disk pressure",
            "NodeHasNoDiskPressure",
        ),
    },
    Pressure {
        type_: "PIDPressure",
        bad: (
            "KubeletHasInsufficientPID",
            "kubelet has insufficient PID available",
            "NodeHasInsufficientPID",
        ),
        good: (
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
            "NodeHasSufficientPID",
        ),
    },
];

/// The new conditions, and the events of those that changed.
pub fn render(
    old: &[NodeCondition],
    health: &Health,
    now: Timestamp,
) -> (Vec<NodeCondition>, Vec<&'static str>) {
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let mut out = Vec::new();
    let mut events = Vec::new();
    let flags = [health.memory_pressure, health.disk_pressure, health.pid_pressure];
    for (pressure, bad) in PRESSURES.iter().zip(flags) {
        let (reason, message, event) = if bad { pressure.bad } else { pressure.good };
        let (condition, changed) = one(old, pressure.type_, bad, reason, message.to_owned(), now);
        if changed {
            events.push(event);
        }
        out.push(condition);
    }
    let ready = health.not_ready.is_empty();
    let (reason, message, event) = if ready {
        (
            "KubeletReady",
            "kubelet is posting ready status".to_owned(),
            "NodeReady",
        )
    } else {
        ("KubeletNotReady", health.not_ready.join(", "), "NodeNotReady")
    };
    let (condition, changed) = one(old, "Ready", ready, reason, message, now);
    // A node that has just registered has not become anything yet.
    if changed && old.iter().any(|before| before.type_ == "Ready") {
        events.push(event);
    }
    out.push(condition);
    // Conditions of others stay (NetworkUnavailable, node problem detectors).
    out.splice(0..0, old.iter().filter(|o| !is_own(&o.type_)).cloned());
    (out, events)
}

fn is_own(type_: &str) -> bool {
    type_ == "Ready" || PRESSURES.iter().any(|p| p.type_ == type_)
}

fn one(
    old: &[NodeCondition],
    type_: &str,
    status: bool,
    reason: &str,
    message: String,
    now: Timestamp,
) -> (NodeCondition, bool) {
    let status = if status { "True" } else { "False" };
    let before = old.iter().find(|c| c.type_ == type_);
    let same = before.is_some_and(|b| b.status == status);
    let condition = NodeCondition {
        type_: type_.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_heartbeat_time: Some(Time(now)),
        last_transition_time: before
            .filter(|_| same)
            .and_then(|b| b.last_transition_time.clone())
            .or(Some(Time(now))),
    };
    (condition, !same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transitions_make_events_once() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let sick = Health {
            not_ready: vec!["container runtime is down".into()],
            ..Health::default()
        };
        let (first, events) = render(&[], &sick, at(1));
        assert_eq!(
            events,
            [
                "NodeHasSufficientMemory",
                "NodeHasNoDiskPressure",
                "NodeHasSufficientPID",
            ]
        );
        let (second, events) = render(&first, &Health::default(), at(2));
        assert_eq!(events, ["NodeReady"]);
        assert_eq!(second[0].last_transition_time, Some(Time(at(1))));
        assert_eq!(
            second[3].message.as_deref(),
            Some("kubelet is posting ready status")
        );
        assert!(render(&second, &Health::default(), at(3)).1.is_empty());
    }
}
