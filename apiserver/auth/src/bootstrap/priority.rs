//! The two PriorityClasses of the system.

use serde_json::{Value, json};

/// The highest value a user's PriorityClass may have.
pub const HIGHEST_USER_PRIORITY: i64 = 1_000_000_000;
/// What the system's classes start at.
pub const SYSTEM_CRITICAL_PRIORITY: i64 = 2 * HIGHEST_USER_PRIORITY;

/// Name, value and description.
pub const SYSTEM_PRIORITY_CLASSES: [(&str, i64, &str); 2] = [
    (
        "system-node-critical",
        SYSTEM_CRITICAL_PRIORITY + 1000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        SYSTEM_CRITICAL_PRIORITY,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
];

pub fn priority_classes() -> impl Iterator<Item = Value> {
    SYSTEM_PRIORITY_CLASSES.iter().map(|(name, value, description)| {
        json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value, "description": description, "preemptionPolicy": "PreemptLowerPriority",
        })
    })
}
