//! Metrics of a HorizontalPodAutoscaler: their rules, and their cell in the table.

use keelson_machinery::{Cursor, FieldErrors, Value};

use crate::{cells, check, metadata};

const SHOWN_MAX: usize = 2;

/// Type and the field that carries it.
const SOURCES: &[(&str, &str)] = &[
    ("ContainerResource", "containerResource"),
    ("External", "external"),
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
];

/// `metrics`; scaling to zero needs a metric that exists without pods.
pub fn specs(e: &mut FieldErrors, list: &Cursor, min: Option<i64>) {
    let mut has_outer = false;
    for metric in list.items() {
        let kind = metric.child("type");
        let types: Vec<&str> = SOURCES.iter().map(|(name, _)| *name).collect();
        if check_type(e, &kind, &types) {
            has_outer |= ["External", "Object"].contains(&kind.str());
        }
        for (name, field) in SOURCES {
            let source = metric.child(field);
            match (*name == kind.str(), source.is_absent()) {
                (true, true) => e.required(
                    source.path(),
                    format!("must populate information for the given metric source of type {name}"),
                ),
                (false, false) => e.forbidden(source.path(), "must populate the given metric source only"),
                (true, false) => self::source(e, &source, name),
                (false, true) => {}
            }
        }
    }
    if min == Some(0) && !has_outer {
        e.forbidden(
            list.path(),
            "must specify at least one Object or External metric to support scaling to zero replicas",
        );
    }
}

fn check_type(e: &mut FieldErrors, kind: &Cursor, types: &[&str]) -> bool {
    if kind.str().is_empty() {
        e.required(kind.path(), "must specify a metric source type");
        return false;
    }
    check::supported(e, kind, types);
    true
}

fn source(e: &mut FieldErrors, c: &Cursor, kind: &str) {
    match kind {
        "Resource" | "ContainerResource" => {
            if c.child("name").str().is_empty() {
                e.required(c.child("name").path(), "must specify a resource name");
            }
            if kind == "ContainerResource" && c.child("container").str().is_empty() {
                e.required(c.child("container").path(), "must specify a container");
            }
        }
        _ => {
            let metric = c.child("metric");
            check::required_name(e, &metric.child("name"), metadata::path_segment_name);
            check::label_selector(e, &metric.child("selector"));
        }
    }
    target(e, &c.child("target"), kind);
}

fn target(e: &mut FieldErrors, c: &Cursor, kind: &str) {
    let (value, average, utilization) = (
        c.child("value"),
        c.child("averageValue"),
        c.child("averageUtilization"),
    );
    check_type_of_target(e, &c.child("type"));
    for amount in [&value, &average] {
        let parsed = check::parse_quantity(amount.value());
        if parsed.is_some_and(|parsed| parsed.sign() != 1) {
            check::invalid(e, amount, "must be positive");
        }
    }
    if utilization.i64().is_some_and(|percent| percent < 1) {
        check::invalid_int(e, &utilization, "must be greater than 0");
    }
    match kind {
        "Resource" | "ContainerResource" => {
            if utilization.is_absent() && average.is_absent() {
                e.required(
                    utilization.path(),
                    "must set either a target raw value or a target utilization",
                );
            }
            if !utilization.is_absent() && !average.is_absent() {
                e.forbidden(
                    average.path(),
                    "may not set both a target raw value and a target utilization",
                );
            }
        }
        "Pods" if average.is_absent() => {
            e.required(average.path(), "must specify a positive target averageValue");
        }
        "Object" | "External" if value.is_absent() && average.is_absent() => e.required(
            average.path(),
            "must set either a target value for metric or a per-pod target",
        ),
        _ => {}
    }
}

fn check_type_of_target(e: &mut FieldErrors, c: &Cursor) {
    if c.str().is_empty() {
        e.required(c.path(), "must specify a metric target type");
    } else {
        check::one_of_or_absent(e, c, &["AverageValue", "Utilization", "Value"]);
    }
}

/// `cpu: 12%/80%`, up to two metrics, then ` + N more...`.
pub fn cell(specs: &Value, current: &Value) -> String {
    let specs = cells::list(specs);
    if specs.is_empty() {
        return "<none>".to_owned();
    }
    let parts: Vec<String> = specs
        .iter()
        .enumerate()
        .map(|(index, spec)| one(spec, &current[index]))
        .collect();
    let more = parts.len() > SHOWN_MAX;
    let shown = parts[..parts.len().min(SHOWN_MAX)].join(", ");
    match more {
        true => format!("{shown} + {} more...", parts.len() - SHOWN_MAX),
        false => shown,
    }
}

fn one(spec: &Value, current: &Value) -> String {
    let kind = spec["type"].as_str().unwrap_or("");
    let Some((_, field)) = SOURCES.iter().find(|(name, _)| *name == kind) else {
        return "<unknown type>".to_owned();
    };
    let (target, seen) = (&spec[*field]["target"], &current[*field]["current"]);
    let amount = |value: &Value| match value.is_null() {
        true => "<unknown>".to_owned(),
        false => check::amount_text(value),
    };
    match kind {
        "Resource" | "ContainerResource" => {
            let name = spec[*field]["name"].as_str().unwrap_or("");
            if !target["averageValue"].is_null() {
                let seen = amount(&seen["averageValue"]);
                return format!("{name}: {seen}/{}", amount(&target["averageValue"]));
            }
            let percent = |value: &Value, none: &str| {
                value
                    .as_i64()
                    .map_or(none.to_owned(), |percent| format!("{percent}%"))
            };
            let seen = percent(&seen["averageUtilization"], "<unknown>");
            format!(
                "{name}: {seen}/{}",
                percent(&target["averageUtilization"], "<auto>")
            )
        }
        "Pods" => format!(
            "{}/{}",
            amount(&seen["averageValue"]),
            amount(&target["averageValue"])
        ),
        _ if !target["averageValue"].is_null() => {
            let seen = amount(&seen["averageValue"]);
            format!("{seen}/{} (avg)", amount(&target["averageValue"]))
        }
        _ => format!("{}/{}", amount(&seen["value"]), amount(&target["value"])),
    }
}
