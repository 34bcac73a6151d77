//! What the kinds' tests share.

use keelson_machinery::{FieldErrors, Value};

use crate::Kind;

/// Each error as printed.
pub fn errors(errors: &FieldErrors) -> Vec<String> {
    errors.0.iter().map(ToString::to_string).collect()
}

/// Defaults, prepares and validates a create; the errors.
pub fn create(kind: &dyn Kind, mut obj: Value) -> Vec<String> {
    kind.set_defaults(&mut obj);
    kind.prepare_create(&mut obj);
    errors(&kind.validate(&obj, None))
}

/// Defaults both, prepares and validates an update of `old`; the errors.
pub fn update(kind: &dyn Kind, mut new: Value, mut old: Value) -> Vec<String> {
    kind.set_defaults(&mut old);
    kind.prepare_create(&mut old);
    for obj in [&mut new, &mut old] {
        obj["metadata"]["resourceVersion"] = "1".into();
    }
    kind.set_defaults(&mut new);
    kind.prepare_update(&mut new, &old);
    errors(&kind.validate(&new, Some(&old)))
}
