//! Rolling update parameters: a number or a percentage of the replicas.

use keelson_machinery::{Cursor, FieldErrors, Value, names};

use crate::check;

/// A `RollingUpdateDeployment`: valid, not both zero, and no more unavailable than there are.
pub fn update(e: &mut FieldErrors, c: &Cursor) {
    let (unavailable, surge) = (c.child("maxUnavailable"), c.child("maxSurge"));
    int_or_percent(e, &unavailable);
    int_or_percent(e, &surge);
    if amount(&unavailable) == 0 && amount(&surge) == 0 {
        check::invalid(e, &unavailable, "may not be 0 when `maxSurge` is 0");
    }
    at_most_all(e, &unavailable);
}

/// A number that is not negative, or a percentage.
pub fn int_or_percent(e: &mut FieldErrors, c: &Cursor) {
    match c.value() {
        Value::String(text) => {
            for message in names::is_valid_percent(text) {
                check::invalid_str(e, c, message);
            }
        }
        Value::Number(_) => check::non_negative(e, c),
        _ => {}
    }
}

/// A percentage of at most 100.
pub fn at_most_all(e: &mut FieldErrors, c: &Cursor) {
    if c.value().is_string() && amount(c) > 100 {
        check::invalid(e, c, "must not be greater than 100%");
    }
}

/// The number, or the percentage's.
pub fn amount(c: &Cursor) -> i64 {
    match c.value() {
        Value::String(text) => text.trim_end_matches('%').parse().unwrap_or(0),
        other => other.as_i64().unwrap_or(0),
    }
}

/// Names of revisions must never repeat, so the count only grows.
pub fn collision_count(e: &mut FieldErrors, status: &Cursor, old: &Value) {
    let c = status.child("collisionCount");
    let Some(before) = old["status"]["collisionCount"].as_i64() else {
        return;
    };
    match c.i64() {
        None => check::invalid_int(e, &c, "cannot be decremented"),
        Some(count) if count < before => check::invalid_int(e, &c, "cannot be decremented"),
        Some(_) => {}
    }
}
