//! VolumeAttributesClass: attributes of volumes that may change while they are in use.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, meta, names};

use super::storage_class::{name_with_default, parameters};
use crate::kind::{Column, Kind, resource};
use crate::pod::volumes;
use crate::{cells, check, strategy};

const DEFAULT: &str = "volumeattributesclass.alpha.kubernetes.io/is-default-class";

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text("DriverName", "Name of the CSI driver"),
    cells::AGE,
];

pub struct VolumeAttributesClass;

impl Kind for VolumeAttributesClass {
    resource!("storage.k8s.io", "v1", "volumeattributesclasses");

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let class = Cursor::root(new);
        volumes::csi_driver(&mut e, &class.child("driverName"));
        let options = class.child("parameters");
        if options.is_empty() {
            e.required(options.path(), "must contain at least one key/value pair");
        }
        parameters(&mut e, &options);
        if let Some(old) = old {
            for key in ["driverName", "parameters"] {
                check::immutable(&mut e, &class.child(key), &Cursor::root(old).child(key));
            }
        }
        e
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        let is_default = meta::annotation(obj, DEFAULT) == Some("true");
        vec![
            name_with_default(obj, is_default).into(),
            obj["driverName"].as_str().unwrap_or("").into(),
            cells::age(obj, now),
        ]
    }
}
