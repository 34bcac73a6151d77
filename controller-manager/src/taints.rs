//! Taints and tolerations. Pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
pub const MEMORY_PRESSURE: &str = "node.kubernetes.io/memory-pressure";
pub const DISK_PRESSURE: &str = "node.kubernetes.io/disk-pressure";
pub const PID_PRESSURE: &str = "node.kubernetes.io/pid-pressure";
pub const NETWORK_UNAVAILABLE: &str = "node.kubernetes.io/network-unavailable";
pub const NO_SCHEDULE: &str = "NoSchedule";
pub const NO_EXECUTE: &str = "NoExecute";

/// A taint without a value.
pub fn taint(key: &str, effect: &str, added: Option<Timestamp>) -> Taint {
    Taint {
        key: key.to_owned(),
        effect: effect.to_owned(),
        value: None,
        time_added: added.map(Time),
    }
}

/// A node's taints.
pub fn of_node(node: &Node) -> &[Taint] {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref());
    taints.unwrap_or_default()
}

/// Whether a toleration covers a taint.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        None | Some("" | "Equal") if !key.is_empty() => {
            toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
        }
        Some("Lt" | "Gt") if !key.is_empty() => compares(toleration, taint),
        _ => false,
    }
}

/// Numeric operators: the taint's value against the toleration's.
fn compares(toleration: &Toleration, taint: &Taint) -> bool {
    let number = |text: Option<&str>| text.and_then(|t| t.parse::<i64>().ok());
    let (Some(theirs), Some(ours)) = (
        number(taint.value.as_deref()),
        number(toleration.value.as_deref()),
    ) else {
        return false;
    };
    match toleration.operator.as_deref() {
        Some("Lt") => theirs < ours,
        _ => theirs > ours,
    }
}

/// Whether any of the tolerations covers a taint.
pub fn tolerated(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| tolerates(toleration, taint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coverage() {
        let toleration = |key: &str, operator: &str, value: &str, effect: &str| Toleration {
            key: Some(key.into()),
            operator: Some(operator.into()),
            value: Some(value.into()),
            effect: Some(effect.into()),
            toleration_seconds: None,
        };
        let mut valued = taint("k", NO_EXECUTE, None);
        valued.value = Some("5".into());
        let table = [
            (toleration("k", "Equal", "5", NO_EXECUTE), true),
            (toleration("k", "Equal", "6", NO_EXECUTE), false),
            (toleration("k", "", "5", ""), true),
            (toleration("k", "Exists", "", NO_SCHEDULE), false),
            (toleration("", "Exists", "", ""), true),
            (toleration("other", "Exists", "", ""), false),
            (toleration("k", "Gt", "4", ""), true),
            (toleration("k", "Lt", "4", ""), false),
        ];
        for (toleration, expected) in table {
            assert_eq!(tolerates(&toleration, &valued), expected, "{toleration:?}");
        }
    }
}
