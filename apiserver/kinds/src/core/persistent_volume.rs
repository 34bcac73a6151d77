//! PersistentVolume.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Path, Value, names};
use serde_json::json;

use super::claim;
use crate::kind::{Column, Kind, Name, Subresource, resource};
use crate::pod::{affinity, defaults, volumes};
use crate::{cells, check, equal, set, strategy};

/// The fields of the spec that are no volume source.
const OTHER: &[&str] = &[
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text(
        "Capacity",
        "capacity is the description of the persistent volume's resources and capacity.",
    ),
    cells::text(
        "Access Modes",
        "accessModes contains all ways the volume can be mounted.",
    ),
    cells::text(
        "Reclaim Policy",
        "persistentVolumeReclaimPolicy defines what happens to a persistent volume when released from its claim.",
    ),
    cells::text(
        "Status",
        "phase indicates if a volume is available, bound to a claim, or released by a claim.",
    ),
    cells::text(
        "Claim",
        "claimRef is part of a bi-directional binding between PersistentVolume and PersistentVolumeClaim.",
    ),
    cells::text("StorageClass", "StorageClass of the pv"),
    cells::text("VolumeAttributesClass", "VolumeAttributesClass of the pv"),
    cells::text(
        "Reason",
        "reason is a brief CamelCase string that describes any failure.",
    ),
    cells::AGE,
    cells::wide(
        "VolumeMode",
        "volumeMode defines if a volume is intended to be used with a formatted filesystem or to remain in raw block state.",
    ),
];

pub struct PersistentVolume;

impl Kind for PersistentVolume {
    resource!("", "v1", "persistentvolumes");

    fn set_defaults(&self, obj: &mut Value) {
        set::zero(set::object(obj, "status"), "phase", "Pending");
        let spec = set::object(obj, "spec");
        set::zero(spec, "persistentVolumeReclaimPolicy", "Retain");
        set::absent(spec, "volumeMode", "Filesystem");
        defaults::source_constants(spec);
    }

    fn prepare_create(&self, obj: &mut Value) {
        set::put(obj, "status", json!({"phase": "Pending"}));
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        set::copy(new, old, "status");
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let spec = Cursor::root(new).child("spec");
        self::spec(&mut e, &spec);
        if let Some(old) = old {
            unchanged(&mut e, &spec, &old["spec"]);
        }
        e
    }

    fn subresource(&self, name: &str) -> Option<&dyn Subresource> {
        (name == "status").then_some(&strategy::STATUS)
    }

    fn selectable_field_names(&self) -> &[Name] {
        const FIELDS: &[Name] = &[Name::Borrowed("name")];
        FIELDS
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(Name, String)> {
        let mut fields = strategy::metadata_fields(obj, false);
        fields.push(("name".into(), fields[0].1.clone()));
        fields
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        let spec = &obj["spec"];
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        let claim = &spec["claimRef"];
        let claim = match claim.is_null() {
            true => String::new(),
            false => format!("{}/{}", text(&claim["namespace"]), text(&claim["name"])),
        };
        let phase = match obj["metadata"]["deletionTimestamp"].is_null() {
            true => text(&obj["status"]["phase"]),
            false => "Terminating".to_owned(),
        };
        vec![
            cells::name(obj),
            amount(&spec["capacity"]["storage"]).into(),
            access_modes(&spec["accessModes"]).into(),
            text(&spec["persistentVolumeReclaimPolicy"]).into(),
            phase.into(),
            claim.into(),
            class(obj).into(),
            unset(&spec["volumeAttributesClassName"]).into(),
            text(&obj["status"]["reason"]).into(),
            cells::age(obj, now),
            unset(&spec["volumeMode"]).into(),
        ]
    }
}

/// A quantity cell; absent is 0, as Go prints an empty one.
pub fn amount(value: &Value) -> String {
    if value.is_null() {
        "0".to_owned()
    } else {
        check::amount_text(value)
    }
}

/// `RWO,ROX,RWX,RWOP` in this order.
pub fn access_modes(list: &Value) -> String {
    let modes = cells::list(list);
    let parts: Vec<&str> = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ]
    .iter()
    .filter(|(mode, _)| modes.iter().any(|one| one == mode))
    .map(|(_, short)| *short)
    .collect();
    parts.join(",")
}

/// The storage class of a volume or claim; the old annotation wins.
pub fn class(obj: &Value) -> String {
    let annotation = &obj["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"];
    let class = annotation
        .as_str()
        .or_else(|| obj["spec"]["storageClassName"].as_str());
    class.unwrap_or("").to_owned()
}

/// The text, or `<unset>` where there is none.
pub fn unset(value: &Value) -> String {
    value
        .as_str()
        .filter(|text| !text.is_empty())
        .unwrap_or("<unset>")
        .to_owned()
}

fn spec(e: &mut FieldErrors, c: &Cursor) {
    claim::access_modes(e, &c.child("accessModes"), "");
    let capacity = c.child("capacity");
    if capacity.is_empty() {
        e.required(capacity.path(), "");
    }
    if capacity.value().get("storage").is_none() || capacity.len() > 1 {
        e.not_supported(capacity.path(), capacity.value().clone(), &["storage"]);
    }
    for (_, amount) in capacity.entries() {
        if check::parse_quantity(amount.value()).is_some_and(|amount| amount.sign() <= 0) {
            let text = check::amount_text(amount.value());
            e.invalid(amount.path(), text, "must be greater than zero");
        }
    }
    check::one_of_or_absent(
        e,
        &c.child("persistentVolumeReclaimPolicy"),
        &["Delete", "Recycle", "Retain"],
    );
    let node = c.child("nodeAffinity");
    if !node.is_absent() {
        match node.child("required").is_absent() {
            true => e.required(
                node.child("required").path(),
                "must specify required node constraints",
            ),
            false => affinity::node_selector(e, &node.child("required")),
        }
    }
    if !volumes::sources(e, c) {
        e.required(c.path(), "must specify a volume type");
    }
    if !c.child("csi").is_absent() {
        check::required(e, &c.child("csi").child("volumeHandle"));
    }
    for key in ["storageClassName", "volumeAttributesClassName"] {
        if !c.child(key).str().is_empty() {
            check::named(e, &c.child(key), names::is_dns1123_subdomain);
        }
    }
    check::one_of_or_absent(e, &c.child("volumeMode"), &["Block", "Filesystem"]);
}

fn unchanged(e: &mut FieldErrors, spec: &Cursor, old: &Value) {
    let sources = |value: &Value| {
        let mut value = value.clone();
        for key in OTHER {
            set::remove(&mut value, key);
        }
        value
    };
    let mut new = sources(spec.value());
    let before = sources(old);
    if before["csi"]["controllerExpandSecretRef"].is_null()
        && let Some(csi) = set::some(&mut new, "csi")
    {
        set::remove(csi, "controllerExpandSecretRef");
    }
    if !equal::unchanged(&new, &before) {
        e.forbidden(
            &spec.path().child("persistentvolumesource"),
            "spec.persistentvolumesource is immutable after creation\n",
        );
    }
    if spec.child("volumeMode").value() != &old["volumeMode"] {
        e.invalid(
            &Path::new("volumeMode"),
            spec.child("volumeMode").value().clone(),
            check::IMMUTABLE,
        );
    }
}
