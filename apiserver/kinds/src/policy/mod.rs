//! Kinds of `policy`.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, names};

use crate::kind::{Column, Kind, Subresource, resource};
use crate::strategy::{self, Status};
use crate::{cells, check, rolling};

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text(
        "Min Available",
        "The minimum number of pods that must be available.",
    ),
    cells::text(
        "Max Unavailable",
        "The maximum number of pods that may be unavailable.",
    ),
    cells::integer(
        "Allowed Disruptions",
        "Calculated number of pods that may be disrupted at this time.",
    ),
    cells::AGE,
];

/// PodDisruptionBudget: how many pods voluntary disruptions may take at once.
pub struct PodDisruptionBudget;

impl Kind for PodDisruptionBudget {
    resource!("policy", "v1", "poddisruptionbudgets");

    fn prepare_create(&self, obj: &mut Value) {
        strategy::start(obj);
        let status = crate::set::object(obj, "status");
        for key in [
            "currentHealthy",
            "desiredHealthy",
            "disruptionsAllowed",
            "expectedPods",
        ] {
            crate::set::put(status, key, 0);
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        strategy::keep_status_and_count(new, old);
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let spec = Cursor::root(new).child("spec");
        let (min, max) = (spec.child("minAvailable"), spec.child("maxUnavailable"));
        if !min.is_absent() && !max.is_absent() {
            check::invalid(
                &mut e,
                &spec,
                "minAvailable and maxUnavailable cannot be both set",
            );
        }
        for amount in [min, max] {
            rolling::int_or_percent(&mut e, &amount);
            rolling::at_most_all(&mut e, &amount);
        }
        check::label_selector(&mut e, &spec.child("selector"));
        check::one_of_or_absent(
            &mut e,
            &spec.child("unhealthyPodEvictionPolicy"),
            &["AlwaysAllow", "IfHealthyBudget"],
        );
        e
    }

    fn subresource(&self, name: &str) -> Option<&dyn Subresource> {
        (name == "status").then_some(&STATUS)
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        let amount = |value: &Value| -> Value {
            match value {
                Value::String(text) => text.clone().into(),
                Value::Number(number) => number.to_string().into(),
                _ => "N/A".into(),
            }
        };
        let spec = &obj["spec"];
        vec![
            cells::name(obj),
            amount(&spec["minAvailable"]),
            amount(&spec["maxUnavailable"]),
            cells::int(&obj["status"]["disruptionsAllowed"]),
            cells::age(obj, now),
        ]
    }
}

const STATUS: Status = Status {
    kept: &["spec"],
    kept_metadata: &[],
    validate: |new, _, e| {
        let status = Cursor::root(new).child("status");
        check::conditions(e, &status.child("conditions"));
        for key in [
            "disruptionsAllowed",
            "currentHealthy",
            "desiredHealthy",
            "expectedPods",
        ] {
            check::non_negative(e, &status.child(key));
        }
    },
};
