//! Which served resources are other forms of a stored one, and the functions between them.

use keelson_kinds::{autoscaling, events};

use crate::registry::Conversion;

/// The conversion of a resource that is not cached in this form; `None` for all that are.
pub fn conversion(group: &str, version: &str, resource: &str) -> Option<Conversion> {
    TABLE
        .iter()
        .find(|(g, v, r, _)| *g == group && *v == version && *r == resource)
        .map(|(_, _, _, conversion)| *conversion)
}

const TABLE: &[(&str, &str, &str, Conversion)] = &[
    (
        "events.k8s.io",
        "v1",
        "events",
        Conversion {
            to_hub: |value| *value = events::to_core(value),
            from_hub: |value| *value = events::to_events(value),
        },
    ),
    (
        "autoscaling",
        "v1",
        "horizontalpodautoscalers",
        Conversion {
            to_hub: |value| *value = autoscaling::to_v2(value),
            from_hub: |value| *value = autoscaling::to_v1(value),
        },
    ),
];
