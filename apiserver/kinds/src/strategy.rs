//! The steps most kinds' strategies share: status kept or dropped, generation, selectable metadata.

use keelson_machinery::{FieldErrors, Value, meta};

use crate::check::NameRule;
use crate::kind::{Kind, Name, Subresource};
use crate::{equal, metadata, set};

/// Metadata of a create or an update, by the kind's scope and its rule of names.
pub fn metadata_errors(kind: &dyn Kind, new: &Value, old: Option<&Value>, rule: NameRule) -> FieldErrors {
    metadata::validate(new, old, kind.info().namespaced, rule)
}

/// A create starts without status and, where the kind counts generations, at 1.
pub fn start(obj: &mut Value) {
    set::remove(obj, "status");
    first_generation(obj);
}

/// The generation of a new object.
pub fn first_generation(obj: &mut Value) {
    set::put(set::object(obj, "metadata"), "generation", 1);
}

/// A plain update keeps the status and counts the generation up when the spec changed.
pub fn keep_status_and_count(new: &mut Value, old: &Value) {
    set::copy(new, old, "status");
    count_generation(new, old, &["spec"]);
}

/// The next generation where any of the fields changed, else the old one: clients cannot set it.
pub fn count_generation(new: &mut Value, old: &Value, fields: &[&str]) {
    let changed = fields.iter().any(|field| {
        !equal::same(
            new.get(field).unwrap_or(&Value::Null),
            old.get(field).unwrap_or(&Value::Null),
        )
    });
    let before = old["metadata"]["generation"].as_i64();
    let metadata = set::object(new, "metadata");
    match (changed, before) {
        (true, before) => set::put(metadata, "generation", before.unwrap_or(0) + 1),
        (false, Some(before)) => set::put(metadata, "generation", before),
        (false, None) => drop(set::remove(metadata, "generation")),
    }
}

/// The status subresource of most kinds: everything but the status comes from the old object; metadata may
/// change except for what the kind protects.
pub struct Status {
    /// Top-level fields put back from the old object.
    pub kept: &'static [&'static str],
    /// Metadata fields put back from the old object.
    pub kept_metadata: &'static [&'static str],
    /// Errors of the status itself, beside the metadata's.
    pub validate: fn(&Value, &Value, &mut FieldErrors),
}

/// A status without rules, under an unchanged spec and unchanged labels.
pub const STATUS: Status = Status {
    kept: &["spec"],
    kept_metadata: &[],
    validate: |_, _, _| {},
};

impl Subresource for Status {
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        for field in self.kept {
            set::copy(new, old, field);
        }
        let none = Value::Null;
        let old_metadata = old.get("metadata").unwrap_or(&none);
        for field in self.kept_metadata {
            set::copy(set::object(new, "metadata"), old_metadata, field);
        }
        set::copy(set::object(new, "metadata"), old_metadata, "generation");
    }

    fn validate(&self, new: &Value, old: &Value) -> FieldErrors {
        let mut errors = metadata::validate_update(new, old);
        (self.validate)(new, old, &mut errors);
        errors
    }
}

/// `metadata.name`, and `metadata.namespace` of namespaced kinds.
pub fn metadata_fields(obj: &Value, namespaced: bool) -> Vec<(Name, String)> {
    let mut fields = vec![("metadata.name".into(), meta::name(obj).to_owned())];
    if namespaced {
        fields.push(("metadata.namespace".into(), meta::namespace(obj).to_owned()));
    }
    fields
}

/// The field a selector may ask for, or upstream's refusal: kinds with fields of their own answer shorter.
pub fn convert_field_label(names: &[Name], label: &str) -> Result<Name, String> {
    match label {
        "metadata.name" => Ok("metadata.name".into()),
        "metadata.namespace" => Ok("metadata.namespace".into()),
        _ if names.is_empty() => Err(format!(
            "{label:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        )),
        _ => names
            .iter()
            .find(|name| *name == label)
            .cloned()
            .ok_or_else(|| format!("field label not supported: {label}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn generation_counts_spec_changes_only() {
        let old = json!({"metadata": {"generation": 3}, "spec": {"a": 1}, "status": {"x": 1}});
        let mut new = json!({"metadata": {"generation": 9, "labels": {"a": "b"}}, "spec": {"a": 1}});
        keep_status_and_count(&mut new, &old);
        assert_eq!(
            (&new["metadata"]["generation"], &new["status"]),
            (&json!(3), &json!({"x": 1}))
        );
        new["spec"]["a"] = 2.into();
        keep_status_and_count(&mut new, &old);
        assert_eq!(new["metadata"]["generation"], 4);
    }

    #[test]
    fn unknown_field_labels() {
        assert_eq!(
            convert_field_label(&[], "spec.x").unwrap_err(),
            "\"spec.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        );
        assert_eq!(
            convert_field_label(&["type".into()], "spec.x").unwrap_err(),
            "field label not supported: spec.x"
        );
    }
}
