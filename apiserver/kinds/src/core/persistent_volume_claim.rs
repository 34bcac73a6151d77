//! PersistentVolumeClaim.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, names};
use serde_json::json;

use super::{claim, persistent_volume as volume};
use crate::kind::{Column, Kind, Name, Subresource, resource};
use crate::strategy::{self, Status};
use crate::{cells, check, equal, set};

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text(
        "Status",
        "phase represents the current phase of PersistentVolumeClaim.",
    ),
    cells::text(
        "Volume",
        "volumeName is the binding reference to the PersistentVolume backing this claim.",
    ),
    cells::text(
        "Capacity",
        "capacity represents the actual resources of the underlying volume.",
    ),
    cells::text(
        "Access Modes",
        "accessModes contains the actual access modes the volume backing the PVC has.",
    ),
    cells::text("StorageClass", "StorageClass of the pvc"),
    cells::text("VolumeAttributesClass", "VolumeAttributesClass of the pvc"),
    cells::AGE,
    cells::wide(
        "VolumeMode",
        "volumeMode defines what type of volume is required by the claim.",
    ),
];

pub struct PersistentVolumeClaim;

impl Kind for PersistentVolumeClaim {
    resource!("", "v1", "persistentvolumeclaims");

    fn set_defaults(&self, obj: &mut Value) {
        set::zero(set::object(obj, "status"), "phase", "Pending");
        let spec = set::object(obj, "spec");
        set::absent(spec, "volumeMode", "Filesystem");
        set::object(spec, "resources");
    }

    /// The two forms of the data source follow each other.
    fn prepare_create(&self, obj: &mut Value) {
        set::put(obj, "status", json!({"phase": "Pending"}));
        let spec = set::object(obj, "spec");
        let (source, reference) = (spec["dataSource"].clone(), spec["dataSourceRef"].clone());
        match (source.is_null(), reference.is_null()) {
            (false, true) => set::put(spec, "dataSourceRef", source),
            (true, false) if reference["namespace"].is_null() => set::put(spec, "dataSource", reference),
            _ => {}
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        set::copy(new, old, "status");
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let spec = Cursor::root(new).child("spec");
        claim::spec(&mut e, &spec);
        if let Some(old) = old {
            unchanged(&mut e, &spec, new, old);
        }
        e
    }

    fn subresource(&self, name: &str) -> Option<&dyn Subresource> {
        (name == "status").then_some(&STATUS)
    }

    fn selectable_field_names(&self) -> &[Name] {
        const FIELDS: &[Name] = &[Name::Borrowed("name")];
        FIELDS
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(Name, String)> {
        let mut fields = strategy::metadata_fields(obj, true);
        fields.push(("name".into(), fields[0].1.clone()));
        fields
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        let (spec, status) = (&obj["spec"], &obj["status"]);
        let volume_name = spec["volumeName"].as_str().unwrap_or("");
        let (capacity, modes) = match volume_name {
            "" => (String::new(), String::new()),
            _ => (
                volume::amount(&status["capacity"]["storage"]),
                volume::access_modes(&status["accessModes"]),
            ),
        };
        let phase = match obj["metadata"]["deletionTimestamp"].is_null() {
            true => status["phase"].as_str().unwrap_or(""),
            false => "Terminating",
        };
        vec![
            cells::name(obj),
            phase.into(),
            volume_name.into(),
            capacity.into(),
            modes.into(),
            volume::class(obj).into(),
            volume::unset(&spec["volumeAttributesClassName"]).into(),
            cells::age(obj, now),
            volume::unset(&spec["volumeMode"]).into(),
        ]
    }
}

/// A claim is bound once; afterwards only its size may grow and its attributes class may change.
fn unchanged(e: &mut FieldErrors, spec: &Cursor, new: &Value, old: &Value) {
    let bound = new["status"]["phase"] == "Bound";
    let (mut now, mut before) = (new["spec"].clone(), old["spec"].clone());
    if set::is_zero(&before["volumeName"]) {
        set::copy(&mut before, &new["spec"], "volumeName");
    }
    if before["storageClassName"].is_null() && !now["storageClassName"].is_null() {
        set::copy(&mut before, &new["spec"], "storageClassName");
    }
    if bound {
        set::copy(
            set::object(set::object(&mut now, "resources"), "requests"),
            &old["spec"]["resources"]["requests"],
            "storage",
        );
        if !now["volumeAttributesClassName"].is_null() {
            set::copy(&mut now, &old["spec"], "volumeAttributesClassName");
        }
    }
    if !equal::unchanged(&now, &before) {
        e.forbidden(
            spec.path(),
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound \
             claims\n",
        );
    }
    let size = |obj: &Value| check::parse_quantity(&obj["spec"]["resources"]["requests"]["storage"]);
    let has = check::parse_quantity(&old["status"]["capacity"]["storage"]);
    if let (Some(asked), Some(previous)) = (size(new), size(old))
        && asked < previous
        && has.is_none_or(|has| asked <= has)
    {
        let at = spec.path().child("resources").child("requests").child("storage");
        e.forbidden(&at, "field can not be less than status.capacity");
    }
}

const STATUS: Status = Status {
    kept: &["spec"],
    kept_metadata: &[],
    validate: |new, _, e| {
        let status = Cursor::root(new).child("status");
        for (_, amount) in status.child("capacity").entries() {
            if check::parse_quantity(amount.value()).is_some_and(|amount| amount.sign() < 0) {
                let text = check::amount_text(amount.value());
                e.invalid(amount.path(), text, "must be a valid resource quantity");
            }
        }
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{create, update};

    fn claim(size: &str) -> Value {
        json!({"metadata": {"name": "c", "namespace": "d"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}})
    }

    #[test]
    fn sizes() {
        assert_eq!(create(&PersistentVolumeClaim, claim("1Gi")), Vec::<String>::new());
        assert_eq!(
            create(&PersistentVolumeClaim, claim("0")),
            ["spec.resources[storage]: Invalid value: \"0\": must be greater than zero"]
        );
        assert_eq!(
            update(&PersistentVolumeClaim, claim("2Gi"), claim("1Gi")),
            [
                "spec: Forbidden: spec is immutable after creation except resources.requests and \
                 volumeAttributesClassName for bound claims\n",
            ]
        );
    }
}
