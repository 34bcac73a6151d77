//! What ReplicaSets and ReplicationControllers share: status, columns, selectable fields.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value};

use crate::kind::{Column, Name};
use crate::strategy::{self, Status};
use crate::{cells, check, set};

pub const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::integer("Desired", "Replicas is the number of desired pods."),
    cells::integer(
        "Current",
        "Replicas is the most recently observed number of non-terminating pods.",
    ),
    cells::integer(
        "Ready",
        "The number of non-terminating pods with a Ready Condition.",
    ),
    cells::AGE,
    cells::CONTAINERS,
    cells::IMAGES,
    cells::wide(
        "Selector",
        "Selector is a label query over pods that should match the replica count.",
    ),
];

pub const FIELDS: &[Name] = &[Name::Borrowed("status.replicas")];

pub fn fields(obj: &Value) -> Vec<(Name, String)> {
    let mut fields = strategy::metadata_fields(obj, true);
    let replicas = obj["status"]["replicas"].as_i64().unwrap_or(0);
    fields.push((FIELDS[0].clone(), replicas.to_string()));
    fields
}

pub fn row(obj: &Value, selector: String, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&obj["spec"], &obj["status"]);
    let [names, images] = cells::containers_and_images(&spec["template"]["spec"]);
    vec![
        cells::name(obj),
        cells::int(&spec["replicas"]),
        cells::int(&status["replicas"]),
        cells::int(&status["readyReplicas"]),
        cells::age(obj, now),
        names,
        images,
        selector.into(),
    ]
}

/// `status.replicas` is always there.
pub fn start(obj: &mut Value) {
    set::put(set::object(obj, "status"), "replicas", 0);
}

/// Pods of a controller that keeps them running restart always and have no deadline.
pub fn always_running(e: &mut FieldErrors, template: &Cursor, kind: &str) {
    let pod = template.child("spec");
    let policy = pod.child("restartPolicy");
    if policy.str() != "Always" {
        e.not_supported(policy.path(), policy.str(), &["Always"]);
    }
    let deadline = pod.child("activeDeadlineSeconds");
    if !deadline.is_absent() {
        e.forbidden(
            deadline.path(),
            format!("activeDeadlineSeconds in {kind} is not Supported"),
        );
    }
}

/// Counts that are bounded by another count of the same status.
pub fn bounded(e: &mut FieldErrors, status: &Cursor, rows: &[(&str, &str)]) {
    let number = |key: &str| status.child(key).i64().unwrap_or(0);
    for (key, bound) in rows {
        if number(key) > number(bound) {
            let text = match *bound {
                "replicas" => "cannot be greater than status.replicas",
                _ => "cannot be greater than readyReplicas",
            };
            check::invalid_int(e, &status.child(key), text);
        }
    }
}

pub const STATUS: Status = Status {
    kept: &["spec"],
    kept_metadata: &[],
    validate: |new, _, e| {
        let status = Cursor::root(new).child("status");
        for key in [
            "replicas",
            "fullyLabeledReplicas",
            "readyReplicas",
            "availableReplicas",
            "terminatingReplicas",
            "observedGeneration",
        ] {
            check::non_negative(e, &status.child(key));
        }
        bounded(
            e,
            &status,
            &[
                ("fullyLabeledReplicas", "replicas"),
                ("readyReplicas", "replicas"),
                ("availableReplicas", "replicas"),
                ("availableReplicas", "readyReplicas"),
            ],
        );
    },
};
