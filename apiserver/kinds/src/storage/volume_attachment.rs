//! VolumeAttachment: the wish that a volume be attached to a node, and what came of it.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, names};
use serde_json::json;

use crate::kind::{Column, Kind, Subresource, resource};
use crate::pod::{defaults, volumes};
use crate::strategy::{self, Status};
use crate::{cells, check, equal, set};

const MESSAGE_BYTES_MAX: usize = 1024;

const COLUMNS: &[Column] = &[
    cells::NAME,
    Column::new(
        "Attacher",
        "string",
        "attacher indicates the name of the volume driver that MUST handle this request.",
        0,
    ),
    cells::text(
        "PV",
        "persistentVolumeName represents the name of the persistent volume to attach.",
    ),
    cells::text(
        "Node",
        "nodeName represents the node that the volume should be attached to.",
    ),
    Column::new(
        "Attached",
        "boolean",
        "attached indicates the volume is successfully attached.",
        0,
    ),
    cells::AGE,
];

pub struct VolumeAttachment;

impl Kind for VolumeAttachment {
    resource!("storage.k8s.io", "v1", "volumeattachments");

    fn set_defaults(&self, obj: &mut Value) {
        let inline = set::some(obj, "spec")
            .and_then(|spec| set::some(spec, "source"))
            .and_then(|source| set::some(source, "inlineVolumeSpec"));
        if let Some(volume) = inline {
            defaults::source_constants(volume);
        }
    }

    fn prepare_create(&self, obj: &mut Value) {
        set::put(obj, "status", json!({"attached": false}));
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        set::copy(new, old, "status");
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let spec = Cursor::root(new).child("spec");
        if let Some(old) = old {
            if !equal::unchanged(spec.value(), &old["spec"]) {
                check::invalid(&mut e, &spec, check::IMMUTABLE);
            }
            return e;
        }
        volumes::csi_driver(&mut e, &spec.child("attacher"));
        let source = spec.child("source");
        let (inline, volume) = (
            source.child("inlineVolumeSpec"),
            source.child("persistentVolumeName"),
        );
        match (inline.is_absent(), volume.is_absent()) {
            (true, true) => e.required(
                source.path(),
                "must specify exactly one of inlineVolumeSpec and persistentVolumeName",
            ),
            (false, false) => e.forbidden(
                source.path(),
                "must specify exactly one of inlineVolumeSpec and persistentVolumeName",
            ),
            (true, false) if volume.str().is_empty() => {
                e.required(volume.path(), "must specify non empty persistentVolumeName");
            }
            _ => {}
        }
        check::named(&mut e, &spec.child("nodeName"), names::is_dns1123_subdomain);
        e
    }

    fn subresource(&self, name: &str) -> Option<&dyn Subresource> {
        (name == "status").then_some(&STATUS)
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        let spec = &obj["spec"];
        vec![
            cells::name(obj),
            spec["attacher"].as_str().unwrap_or("").into(),
            spec["source"]["persistentVolumeName"]
                .as_str()
                .unwrap_or("")
                .into(),
            spec["nodeName"].as_str().unwrap_or("").into(),
            (obj["status"]["attached"] == true).into(),
            cells::age(obj, now),
        ]
    }
}

const STATUS: Status = Status {
    kept: &["spec"],
    kept_metadata: &[],
    validate: |new, _, e| {
        let status = Cursor::root(new).child("status");
        for key in ["attachError", "detachError"] {
            let message = status.child(key).child("message");
            if message.str().len() > MESSAGE_BYTES_MAX {
                e.too_long(message.path(), MESSAGE_BYTES_MAX);
            }
        }
    },
};
