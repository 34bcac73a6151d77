//! Equality as Go's semantic comparison of typed objects sees it, on untyped values.

use serde_json::Value;

use crate::set::is_zero;

/// Equal where absent, `null`, `""`, `[]` and `{}` count as the same; used to see whether a spec changed.
pub fn same(a: &Value, b: &Value) -> bool {
    compare(a, b, &is_empty)
}

/// Equal where also `0` and `false` count as absent: Go clients drop such plain fields when they write an
/// object back, which must not be taken for a change of an immutable field.
pub fn unchanged(a: &Value, b: &Value) -> bool {
    compare(a, b, &is_zero)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Bool(_) | Value::Number(_) => false,
        other => is_zero(other),
    }
}

fn compare(a: &Value, b: &Value, unset: &dyn Fn(&Value) -> bool) -> bool {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            x.iter().all(|(key, value)| match y.get(key) {
                Some(old) => compare(value, old, unset),
                None => unset(value),
            }) && y
                .iter()
                .filter(|(key, _)| !x.contains_key(*key))
                .all(|(_, value)| unset(value))
        }
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(a, b)| compare(a, b, unset))
        }
        _ => a == b || (unset(a) && unset(b)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_counts_as_equal() {
        let table = [
            (json!({"a": []}), json!({}), true, true),
            (json!({"a": false}), json!({}), false, true),
            (json!({"a": {"b": 0}}), json!({"a": {}}), false, true),
            (json!({"a": 1}), json!({"a": 2}), false, false),
            (json!([1]), json!([1, 2]), false, false),
        ];
        for (a, b, is_same, is_unchanged) in table {
            assert_eq!(
                (same(&a, &b), unchanged(&a, &b)),
                (is_same, is_unchanged),
                "{a} {b}"
            );
            assert_eq!(
                (same(&b, &a), unchanged(&b, &a)),
                (is_same, is_unchanged),
                "{b} {a}"
            );
        }
    }
}
