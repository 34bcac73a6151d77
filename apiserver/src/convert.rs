//! Which served resources are other forms of a stored one, which stored forms are none that is served, and the
//! functions between them.

use keelson_kinds::extensions::beta;
use keelson_kinds::{autoscaling, events};
use keelson_machinery::Value;
use keelson_schema::types::{self, TypeDef};

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

/// A stored object to the cached version; other versions of a kind than these have the fields of the cached one.
pub fn from_stored(value: &mut Value) {
    let convert: fn(&mut Value) = match (value["apiVersion"].as_str(), value["kind"].as_str()) {
        (Some("apiextensions.k8s.io/v1beta1"), Some("CustomResourceDefinition")) => beta::from_beta,
        (Some("autoscaling/v1"), Some("HorizontalPodAutoscaler")) => {
            |value| *value = autoscaling::to_v2(value)
        }
        (Some("events.k8s.io/v1"), Some("Event")) => |value| *value = events::to_core(value),
        _ => return,
    };
    convert(value);
}

/// How an object becomes what is stored, and the definition of that.
pub type Stored = (fn(&mut Value), &'static TypeDef);

/// From the cached version to the stored one, where that has other fields.
pub fn to_stored(kind: &str, storage_version: &str) -> Option<Stored> {
    match (storage_version, kind) {
        ("apiextensions.k8s.io/v1beta1", "CustomResourceDefinition") => {
            Some((beta::to_beta, types::of("apiextensions.k8s.io", "v1beta1", kind)?))
        }
        _ => None,
    }
}
