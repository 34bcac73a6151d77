//! Kinds of `scheduling.k8s.io`.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, names};

use crate::kind::{Column, Kind, resource};
use crate::{cells, check, set, strategy};

const USER_VALUE_MAX: i64 = 1_000_000_000;
/// Priority classes only the system defines.
const SYSTEM: &[(&str, i64)] = &[
    ("system-node-critical", 2_000_001_000),
    ("system-cluster-critical", 2_000_000_000),
];

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::integer(
        "Value",
        "value represents the integer value of this priority class.",
    ),
    Column::new(
        "Global-Default",
        "boolean",
        "globalDefault specifies whether this PriorityClass should be considered as the default priority for pods that do not have any priority class.",
        0,
    ),
    cells::AGE,
    cells::text(
        "PreemptionPolicy",
        "preemptionPolicy is the Policy for preempting pods with lower priority.",
    ),
];

/// PriorityClass: a name for a pod priority.
pub struct PriorityClass;

impl Kind for PriorityClass {
    resource!("scheduling.k8s.io", "v1", "priorityclasses");

    fn set_defaults(&self, obj: &mut Value) {
        set::absent(obj, "preemptionPolicy", "PreemptLowerPriority");
    }

    fn prepare_create(&self, obj: &mut Value) {
        strategy::first_generation(obj);
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let class = Cursor::root(new);
        let value = class.child("value");
        if let Some(old) = old {
            if value.i64().unwrap_or(0) != old["value"].as_i64().unwrap_or(0) {
                e.forbidden(value.path(), "may not be changed in an update.");
            }
            let policy = class.child("preemptionPolicy");
            check::immutable(&mut e, &policy, &Cursor::root(old).child("preemptionPolicy"));
            return e;
        }
        self::value(&mut e, &class);
        check::one_of_or_absent(
            &mut e,
            &class.child("preemptionPolicy"),
            &["PreemptLowerPriority", "Never"],
        );
        e
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            cells::name(obj),
            cells::int(&obj["value"]),
            (obj["globalDefault"] == true).into(),
            cells::age(obj, now),
            obj["preemptionPolicy"].as_str().unwrap_or("").into(),
        ]
    }
}

fn value(e: &mut FieldErrors, class: &Cursor) {
    let name = class.child("metadata").child("name");
    let value = class.child("value");
    if name.str().starts_with("system-") {
        let known = SYSTEM.iter().find(|(known, _)| *known == name.str());
        if known.is_none_or(|(_, fixed)| value.i64() != Some(*fixed)) {
            let detail =
                "priority class names with 'system-' prefix are reserved for system use only. error: ";
            let why = match known {
                None => format!("{} is not a known system priority class", name.str()),
                Some((_, fixed)) => format!("value of {} PriorityClass must be {fixed}", name.str()),
            };
            e.forbidden(name.path(), format!("{detail}{why}"));
        }
    } else if value.i64().unwrap_or(0) > USER_VALUE_MAX {
        e.forbidden(
            value.path(),
            format!("maximum allowed value of a user defined priority is {USER_VALUE_MAX}"),
        );
    }
}
