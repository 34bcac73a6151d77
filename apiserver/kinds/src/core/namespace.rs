//! Namespace: the `kubernetes` finalizer in its spec keeps it until its contents are gone.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Path, Value, names};
use serde_json::json;

use crate::kind::{Column, Kind, Name, Subresource, resource};
use crate::strategy::{self, Status};
use crate::{cells, metadata, set};

/// The finalizer of the namespace controller.
pub const FINALIZER: &str = "kubernetes";
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text("Status", "The status of the namespace"),
    cells::AGE,
];
const FIELDS: &[Name] = &[Name::Borrowed("status.phase")];

pub struct Namespace;

impl Kind for Namespace {
    resource!("", "v1", "namespaces");

    /// Every namespace carries its name as a label, so that selectors can pick it.
    fn set_defaults(&self, obj: &mut Value) {
        set::zero(set::object(obj, "status"), "phase", "Active");
        label(obj);
        set::object(obj, "spec");
    }

    fn prepare_create(&self, obj: &mut Value) {
        // Once more: the name may have been generated since the defaults were set.
        label(obj);
        set::put(obj, "status", json!({"phase": "Active"}));
        let spec = set::object(obj, "spec");
        let has = spec["finalizers"]
            .as_array()
            .is_some_and(|list| list.iter().any(|f| f == FINALIZER));
        if !has {
            set::absent(spec, "finalizers", json!([]));
            if let Some(list) = spec["finalizers"].as_array_mut() {
                list.push(FINALIZER.into());
            }
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        let finalizers = old["spec"]["finalizers"].clone();
        set::put(set::object(new, "spec"), "finalizers", finalizers);
        set::copy(new, old, "status");
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_label);
        if old.is_none() {
            finalizers(&mut e, &Cursor::root(new).child("spec").child("finalizers"));
        }
        e
    }

    fn subresource(&self, name: &str) -> Option<&dyn Subresource> {
        match name {
            "status" => Some(&STATUS),
            "finalize" => Some(&Finalize),
            _ => None,
        }
    }

    fn selectable_field_names(&self) -> &[Name] {
        FIELDS
    }

    /// Upstream's selectable set has the bare `name` too.
    fn selectable_fields(&self, obj: &Value) -> Vec<(Name, String)> {
        let mut fields = strategy::metadata_fields(obj, false);
        let phase = obj["status"]["phase"].as_str().unwrap_or("").to_owned();
        fields.push((FIELDS[0].clone(), phase));
        fields
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            cells::name(obj),
            obj["status"]["phase"].clone(),
            cells::age(obj, now),
        ]
    }
}

fn label(obj: &mut Value) {
    let name = obj["metadata"]["name"].clone();
    if !set::is_zero(&name) {
        set::put(
            set::object(set::object(obj, "metadata"), "labels"),
            NAME_LABEL,
            name,
        );
    }
}

fn finalizers(e: &mut FieldErrors, list: &Cursor) {
    for finalizer in list.items() {
        let name = finalizer.str();
        for message in names::is_qualified_name(name) {
            e.invalid(list.path(), name, message);
        }
        if !name.contains('/') && name != FINALIZER {
            e.invalid(
                list.path(),
                name,
                "name is neither a standard finalizer name nor is it fully qualified",
            );
        }
    }
}

const STATUS: Status = Status {
    kept: &["spec"],
    kept_metadata: &[],
    validate: |new, _, e| {
        // Upstream's path has the Go name.
        let value = &new["status"]["phase"];
        let phase = Cursor::at(value, Path::new("status").child("Phase"));
        let deleting = !new["metadata"]["deletionTimestamp"].is_null();
        if deleting && phase.str() != "Terminating" {
            e.invalid(
                phase.path(),
                phase.str(),
                "may only be 'Terminating' if `deletionTimestamp` is not empty",
            );
        } else if !deleting && phase.str() != "Active" {
            e.invalid(
                phase.path(),
                phase.str(),
                "may only be 'Active' if `deletionTimestamp` is empty",
            );
        }
    },
};

/// The `finalize` subresource: removes finalizers from the spec.
struct Finalize;

impl Subresource for Finalize {
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        set::copy(new, old, "status");
    }

    fn validate(&self, new: &Value, old: &Value) -> FieldErrors {
        let mut e = metadata::validate_update(new, old);
        finalizers(&mut e, &Cursor::root(new).child("spec").child("finalizers"));
        e
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::create;

    #[test]
    fn created_with_label_and_finalizer() {
        let mut obj = json!({"metadata": {"name": "a"}});
        Namespace.set_defaults(&mut obj);
        Namespace.prepare_create(&mut obj);
        assert_eq!(
            obj,
            json!({"metadata": {"name": "a", "labels": {"kubernetes.io/metadata.name": "a"}},
                "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}})
        );
        assert_eq!(
            create(
                &Namespace,
                json!({"metadata": {"name": "a"}, "spec": {"finalizers": ["x"]}})
            ),
            [
                "spec.finalizers: Invalid value: \"x\": name is neither a standard finalizer name nor is it fully qualified"
            ]
        );
    }
}
