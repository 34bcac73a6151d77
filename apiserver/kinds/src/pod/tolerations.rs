//! Tolerations and taint effects.

use keelson_machinery::{Cursor, FieldErrors, names};

use crate::check;

const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// The effect of a taint, which it must have.
pub fn taint_effect(e: &mut FieldErrors, c: &Cursor) {
    check::one_of(e, c, EFFECTS);
}

/// `tolerations`.
pub fn list(e: &mut FieldErrors, list: &Cursor) {
    for c in list.items() {
        let (key, operator, effect) = (c.child("key"), c.child("operator"), c.child("effect"));
        if !key.str().is_empty() {
            check::label_name(e, &key);
        } else if operator.str() != "Exists" {
            check::invalid_str(
                e,
                &operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            );
        }
        if !c.child("tolerationSeconds").is_absent() && effect.str() != "NoExecute" {
            check::invalid_str(
                e,
                &effect,
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            );
        }
        let value = c.child("value").str();
        match operator.str() {
            "Equal" | "" => {
                let messages = names::is_valid_label_value(value);
                if !messages.is_empty() {
                    e.invalid(operator.path(), value, messages.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                e.invalid(
                    operator.path(),
                    value,
                    "value must be empty when `operator` is 'Exists'",
                );
            }
            "Exists" => {}
            other => e.not_supported(operator.path(), other, &["Equal", "Exists"]),
        }
        if !effect.str().is_empty() {
            check::supported(e, &effect, EFFECTS);
        }
    }
}
