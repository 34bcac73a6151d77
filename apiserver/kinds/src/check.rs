//! The checks that validation is made of, each with upstream's text.

use keelson_machinery::names;
use keelson_machinery::quantity::Quantity;
use keelson_machinery::{Cursor, FieldErrors, Value};

use crate::equal;

/// `apimachinery/pkg/api/validation.FieldImmutableErrorMsg`.
pub const IMMUTABLE: &str = "field is immutable";
/// `apimachinery/pkg/api/validation.IsNegativeErrorMsg`.
pub const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

/// A text that should have been a CIDR.
pub const NOT_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// A name rule: every message that applies.
pub type NameRule = fn(&str) -> Vec<String>;

/// The value itself is wrong.
pub fn invalid(e: &mut FieldErrors, c: &Cursor, detail: impl Into<String>) {
    e.invalid(c.path(), c.value().clone(), detail);
}

/// The string is wrong; absent prints as `""`.
pub fn invalid_str(e: &mut FieldErrors, c: &Cursor, detail: impl Into<String>) {
    e.invalid(c.path(), c.str(), detail);
}

/// The integer is wrong; absent prints as `0`.
pub fn invalid_int(e: &mut FieldErrors, c: &Cursor, detail: impl Into<String>) {
    e.invalid(c.path(), c.i64().unwrap_or(0), detail);
}

/// The string, against a name rule, empty included.
pub fn named(e: &mut FieldErrors, c: &Cursor, rule: NameRule) {
    for message in rule(c.str()) {
        invalid_str(e, c, message);
    }
}

/// The string is there.
pub fn required(e: &mut FieldErrors, c: &Cursor) -> bool {
    let missing = c.is_zero();
    if missing {
        e.required(c.path(), "");
    }
    !missing
}

/// There, and by the rule.
pub fn required_name(e: &mut FieldErrors, c: &Cursor, rule: NameRule) {
    if required(e, c) {
        named(e, c, rule);
    }
}

/// Absent counts as 0.
pub fn non_negative(e: &mut FieldErrors, c: &Cursor) {
    if c.i64().is_some_and(|value| value < 0) {
        invalid_int(e, c, NOT_NEGATIVE);
    }
}

/// An absent field is not judged.
pub fn positive(e: &mut FieldErrors, c: &Cursor) {
    if c.i64().is_some_and(|value| value <= 0) {
        invalid_int(e, c, "must be greater than 0");
    }
}

/// One of the listed values; absent is an error too. `supported` is sorted.
pub fn one_of(e: &mut FieldErrors, c: &Cursor, supported: &[&str]) {
    if c.str().is_empty() {
        e.required(c.path(), "");
    } else {
        one_of_or_absent(e, c, supported);
    }
}

/// One of the listed values, where there is one. `supported` is sorted.
pub fn one_of_or_absent(e: &mut FieldErrors, c: &Cursor, supported: &[&str]) {
    if !c.is_absent() && !supported.contains(&c.str()) {
        e.not_supported(c.path(), c.str(), supported);
    }
}

/// One of the listed values; empty is unsupported like any other.
pub fn supported(e: &mut FieldErrors, c: &Cursor, supported: &[&str]) {
    if !supported.contains(&c.str()) {
        e.not_supported(c.path(), c.str(), supported);
    }
}

/// The same as it was.
pub fn immutable(e: &mut FieldErrors, new: &Cursor, old: &Cursor) {
    if !equal::unchanged(new.value(), old.value()) {
        invalid(e, new, IMMUTABLE);
    }
}

/// A port number.
pub fn port(e: &mut FieldErrors, c: &Cursor) {
    for message in names::is_valid_port_num(c.i64().unwrap_or(0)) {
        invalid_int(e, c, message);
    }
}

/// An IP network in CIDR form.
pub fn cidr(e: &mut FieldErrors, c: &Cursor) {
    if c.str().parse::<ipnet::IpNet>().is_err() {
        invalid_str(e, c, NOT_CIDR);
    }
}

/// A port number or an IANA service name.
pub fn port_or_name(e: &mut FieldErrors, c: &Cursor) {
    match c.value() {
        Value::String(name) => {
            for message in names::is_valid_port_name(name) {
                invalid_str(e, c, message);
            }
        }
        _ => port(e, c),
    }
}

/// A label key.
pub fn label_name(e: &mut FieldErrors, c: &Cursor) {
    named(e, c, names::is_qualified_name);
}

/// A map of labels.
pub fn labels(e: &mut FieldErrors, c: &Cursor) {
    for (key, value) in c.entries() {
        for message in names::is_qualified_name(key) {
            e.invalid(c.path(), key, message);
        }
        for message in names::is_valid_label_value(value.str()) {
            e.invalid(c.path(), value.str(), message);
        }
    }
}

/// A map of annotations, with the limit of their total size.
pub fn annotations(e: &mut FieldErrors, c: &Cursor) {
    const TOTAL_BYTES_MAX: usize = 256 * 1024;
    let mut total = 0;
    for (key, value) in c.entries() {
        total += key.len() + value.str().len();
        for message in names::is_qualified_name(&key.to_lowercase()) {
            e.invalid(c.path(), key, message);
        }
    }
    if total > TOTAL_BYTES_MAX {
        e.too_long(c.path(), TOTAL_BYTES_MAX);
    }
}

/// A `meta.v1.LabelSelector`.
pub fn label_selector(e: &mut FieldErrors, c: &Cursor) {
    labels(e, &c.child("matchLabels"));
    for expression in c.child("matchExpressions").items() {
        let values = expression.child("values");
        match expression.child("operator").str() {
            "In" | "NotIn" => {
                if values.is_empty() {
                    e.required(
                        values.path(),
                        "must be specified when `operator` is 'In' or 'NotIn'",
                    );
                }
            }
            "Exists" | "DoesNotExist" => {
                if !values.is_empty() {
                    e.forbidden(
                        values.path(),
                        "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                    );
                }
            }
            _ => invalid_str(e, &expression.child("operator"), "not a valid selector operator"),
        }
        label_name(e, &expression.child("key"));
        for value in values.items() {
            for message in names::is_valid_label_value(value.str()) {
                invalid_str(e, &value, message);
            }
        }
    }
}

/// Neither `matchLabels` nor `matchExpressions`.
pub fn selects_everything(c: &Cursor) -> bool {
    c.child("matchLabels").is_empty() && c.child("matchExpressions").is_empty()
}

/// A quantity that is not below zero; returns it where it parses.
pub fn quantity(e: &mut FieldErrors, c: &Cursor) -> Option<Quantity> {
    let parsed = parse_quantity(c.value());
    if parsed.as_ref().is_some_and(|amount| amount.value() < 0) {
        e.invalid(c.path(), amount_text(c.value()), NOT_NEGATIVE);
    }
    parsed
}

/// A quantity as clients write it: a string, or a bare number.
pub fn parse_quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => Quantity::parse(text).ok(),
        Value::Number(number) => Quantity::parse(&number.to_string()).ok(),
        _ => None,
    }
}

/// A quantity in its canonical form.
pub fn amount_text(value: &Value) -> String {
    parse_quantity(value).map_or_else(|| value.to_string(), |amount| amount.to_string())
}

/// `meta.v1.Condition` lists.
pub fn conditions(e: &mut FieldErrors, c: &Cursor) {
    let mut seen: Vec<&str> = Vec::new();
    for one in c.items() {
        let type_ = one.child("type");
        match seen.contains(&type_.str()) {
            true => e.duplicate(type_.path(), type_.str()),
            false => seen.push(type_.str()),
        }
        condition(e, &one);
    }
}

fn condition(e: &mut FieldErrors, c: &Cursor) {
    const REASON_BYTES_MAX: usize = 1024;
    const MESSAGE_BYTES_MAX: usize = 32 * 1024;
    label_name(e, &c.child("type"));
    supported(e, &c.child("status"), &["False", "True", "Unknown"]);
    let observed = c.child("observedGeneration");
    if observed.i64().is_some_and(|value| value < 0) {
        invalid_int(e, &observed, "must be greater than or equal to zero");
    }
    if c.child("lastTransitionTime").is_zero() {
        e.required(c.child("lastTransitionTime").path(), "must be set");
    }
    let reason = c.child("reason");
    if reason.str().is_empty() {
        e.required(reason.path(), "must be set");
    } else {
        if !is_condition_reason(reason.str()) {
            invalid_str(e, &reason, CONDITION_REASON);
        }
        if reason.str().len() > REASON_BYTES_MAX {
            e.too_long(reason.path(), REASON_BYTES_MAX);
        }
    }
    if c.child("message").str().len() > MESSAGE_BYTES_MAX {
        e.too_long(c.child("message").path(), MESSAGE_BYTES_MAX);
    }
}

const CONDITION_REASON: &str = "a condition reason must start with alphabetic character, optionally followed by \
a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. \
'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation \
is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";

fn is_condition_reason(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ',' || c == ':';
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.chars().all(inner)
}

/// Items whose `key` repeats are duplicates.
pub fn unique(e: &mut FieldErrors, list: &Cursor, key: &str) {
    let mut seen: Vec<&str> = Vec::new();
    for item in list.items() {
        let field = item.child(key);
        if field.str().is_empty() {
            continue;
        }
        match seen.contains(&field.str()) {
            true => e.duplicate(field.path(), field.str()),
            false => seen.push(field.str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn label_selectors() {
        let selector = json!({"matchExpressions": [
            {"key": "a", "operator": "In"}, {"key": "a", "operator": "Exists", "values": ["x"]},
            {"key": "a", "operator": "Is"}]});
        let mut e = FieldErrors::default();
        label_selector(&mut e, &Cursor::root(&selector));
        let texts: Vec<String> = e.0.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
                "matchExpressions[1].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                "matchExpressions[2].operator: Invalid value: \"Is\": not a valid selector operator",
            ]
        );
    }
}
