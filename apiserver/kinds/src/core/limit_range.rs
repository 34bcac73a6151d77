//! LimitRange: bounds and defaults of what containers, pods and claims of a namespace may ask for.

use jiff::Timestamp;
use keelson_machinery::quantity::Quantity;
use keelson_machinery::{Cursor, FieldErrors, Value, names};

use crate::kind::{Column, Kind, resource};
use crate::pod::resources;
use crate::{cells, check, set, strategy};

const COLUMNS: &[Column] = &[
    cells::NAME,
    Column::new(
        "Created At",
        "date",
        "CreationTimestamp is a timestamp representing the server time when this object was created.",
        0,
    ),
];

pub struct LimitRange;

impl Kind for LimitRange {
    resource!("", "v1", "limitranges");

    /// Limits of containers: a default not given is the maximum, a default request the default or the minimum.
    fn set_defaults(&self, obj: &mut Value) {
        for item in set::items(set::object(obj, "spec"), "limits") {
            if item["type"] != "Container" {
                continue;
            }
            for (from, to) in [
                ("max", "default"),
                ("default", "defaultRequest"),
                ("min", "defaultRequest"),
            ] {
                let amounts = item[from].as_object().cloned().unwrap_or_default();
                for (name, amount) in amounts {
                    set::absent(set::object(item, to), &name, amount);
                }
            }
        }
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let mut seen: Vec<&str> = Vec::new();
        for item in Cursor::root(new).child("spec").child("limits").items() {
            let kind = item.child("type");
            type_name(&mut e, &kind);
            match seen.contains(&kind.str()) {
                true => e.duplicate(kind.path(), kind.str()),
                false => seen.push(kind.str()),
            }
            self::item(&mut e, &item);
        }
        e
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, _now: Timestamp) -> Vec<Value> {
        vec![cells::name(obj), obj["metadata"]["creationTimestamp"].clone()]
    }
}

fn type_name(e: &mut FieldErrors, c: &Cursor) {
    let messages = names::is_qualified_name(c.str());
    if messages.is_empty()
        && !c.str().contains('/')
        && !["Pod", "Container", "PersistentVolumeClaim"].contains(&c.str())
    {
        check::invalid_str(e, c, "must be a standard limit type or fully qualified");
    }
    for message in messages {
        check::invalid_str(e, c, message);
    }
}

fn item(e: &mut FieldErrors, c: &Cursor) {
    let kind = c.child("type").str();
    let mut keys: Vec<&str> = Vec::new();
    for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        let amounts = c.child(list);
        if kind == "Pod" && list.starts_with("default") {
            if !amounts.is_empty() {
                e.forbidden(amounts.path(), "may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        for (name, amount) in amounts.entries() {
            match ["Pod", "Container"].contains(&kind) {
                true => resources::container_name(e, &amount, name),
                false => drop(resources::name(e, &amount, name)),
            }
            if !keys.contains(&name) {
                keys.push(name);
            }
        }
    }
    let storage = |list: &str| c.child(list).value().get("storage").is_some();
    if kind == "PersistentVolumeClaim" && !storage("min") && !storage("max") {
        e.required(
            c.child("limits").path(),
            "either minimum or maximum storage value is required, but neither was provided",
        );
    }
    for key in keys {
        order(e, c, key);
    }
}

/// Minimum, default request, default, maximum: in this order.
fn order(e: &mut FieldErrors, c: &Cursor, key: &str) {
    let is_pod = c.child("type").str() == "Pod";
    let get = |list: &str| match is_pod && list.starts_with("default") {
        true => None,
        false => check::parse_quantity(&c.child(list).value()[key]),
    };
    let (min, max) = (get("min"), get("max"));
    let (default, request) = (get("default"), get("defaultRequest"));
    let mut refuse = |list: &str, value: &Quantity, detail: String| {
        e.invalid(&c.child(list).path().key(key), value.to_string(), detail);
    };
    for (low, low_text, high, high_text, at, shows_low) in [
        (&min, "min value", &max, "max value", "min", true),
        (
            &min,
            "min value",
            &request,
            "default request value",
            "defaultRequest",
            false,
        ),
        (
            &request,
            "default request value",
            &max,
            "max value",
            "defaultRequest",
            true,
        ),
        (
            &request,
            "default request value",
            &default,
            "default limit value",
            "defaultRequest",
            true,
        ),
        (&min, "min value", &default, "default value", "default", true),
        (&default, "default value", &max, "max value", "default", false),
    ] {
        if let (Some(low), Some(high)) = (low, high)
            && low > high
        {
            let shown = if shows_low { low } else { high };
            let detail = format!("{low_text} {low} is greater than {high_text} {high}");
            refuse(at, shown, detail);
        }
    }
    if let Some(ratio) = get("maxLimitRequestRatio") {
        if ratio < Quantity::from_i64(1) {
            refuse(
                "maxLimitRequestRatio",
                &ratio,
                format!("ratio {ratio} is less than 1"),
            );
        }
        if let (Some(min), Some(max)) = (&min, &max) {
            let most = max.as_f64() / min.as_f64();
            if ratio.as_f64() > most {
                let detail = format!("ratio {ratio} is greater than max/min = {most:.6}");
                refuse("maxLimitRequestRatio", &ratio, detail);
            }
        }
    }
}
