//! StorageClass: how volumes are made for claims.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, meta, names};

use crate::kind::{Column, Kind, resource};
use crate::{cells, check, equal, set, strategy};

/// Of the class claims get that name none; the beta form is still honoured.
const DEFAULT: &[&str] = &[
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
const PARAMETERS_BYTES_MAX: usize = 256 * 1024;
const PARAMETERS_MAX: usize = 512;

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text(
        "Provisioner",
        "provisioner indicates the type of the provisioner.",
    ),
    cells::text(
        "ReclaimPolicy",
        "reclaimPolicy controls the reclaimPolicy for dynamically provisioned PersistentVolumes of this storage class.",
    ),
    cells::text(
        "VolumeBindingMode",
        "volumeBindingMode indicates how PersistentVolumeClaims should be provisioned and bound.",
    ),
    Column::new(
        "AllowVolumeExpansion",
        "string",
        "allowVolumeExpansion shows whether the storage class allow volume expand.",
        0,
    ),
    cells::AGE,
];

pub struct StorageClass;

impl Kind for StorageClass {
    resource!("storage.k8s.io", "v1", "storageclasses");

    fn set_defaults(&self, obj: &mut Value) {
        set::absent(obj, "reclaimPolicy", "Delete");
        set::absent(obj, "volumeBindingMode", "Immediate");
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let class = Cursor::root(new);
        provisioner(&mut e, &class.child("provisioner"));
        parameters(&mut e, &class.child("parameters"));
        check::one_of(&mut e, &class.child("reclaimPolicy"), &["Delete", "Retain"]);
        check::one_of(
            &mut e,
            &class.child("volumeBindingMode"),
            &["Immediate", "WaitForFirstConsumer"],
        );
        if let Some(old) = old {
            for key in ["parameters", "provisioner", "reclaimPolicy"] {
                if !equal::same(class.child(key).value(), &old[key]) {
                    e.forbidden(
                        class.child(key).path(),
                        format!("updates to {key} are forbidden."),
                    );
                }
            }
            let mode = class.child("volumeBindingMode");
            check::immutable(&mut e, &mode, &Cursor::root(old).child("volumeBindingMode"));
        }
        e
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        let is_default = DEFAULT
            .iter()
            .any(|key| meta::annotation(obj, key) == Some("true"));
        vec![
            name_with_default(obj, is_default).into(),
            obj["provisioner"].as_str().unwrap_or("").into(),
            obj["reclaimPolicy"].as_str().unwrap_or("Delete").into(),
            obj["volumeBindingMode"].as_str().unwrap_or("<unset>").into(),
            (obj["allowVolumeExpansion"] == true).into(),
            cells::age(obj, now),
        ]
    }
}

/// `standard (default)`.
pub fn name_with_default(obj: &Value, is_default: bool) -> String {
    match is_default {
        true => format!("{} (default)", meta::name(obj)),
        false => meta::name(obj).to_owned(),
    }
}

fn provisioner(e: &mut FieldErrors, c: &Cursor) {
    check::required(e, c);
    if !c.str().is_empty() {
        for message in names::is_qualified_name(&c.str().to_lowercase()) {
            check::invalid_str(e, c, message);
        }
    }
}

/// Options of a driver: bounded in number and size.
pub fn parameters(e: &mut FieldErrors, c: &Cursor) {
    if c.len() > PARAMETERS_MAX {
        e.too_long(c.path(), PARAMETERS_MAX);
        return;
    }
    let mut total = 0;
    for (key, value) in c.entries() {
        if key.is_empty() {
            e.invalid(c.path(), key, "field can not be empty.");
        }
        total += key.len() + value.str().len();
    }
    if total > PARAMETERS_BYTES_MAX {
        e.too_long(c.path(), PARAMETERS_BYTES_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::update;
    use serde_json::json;

    #[test]
    fn default_class_is_marked() {
        let obj = json!({"metadata": {"name": "s", "annotations": {DEFAULT[0]: "true"}}, "provisioner": "p"});
        assert_eq!(StorageClass.cells(&obj, Timestamp::UNIX_EPOCH)[0], "s (default)");
        let mut new = obj.clone();
        new["provisioner"] = "q".into();
        assert_eq!(
            update(&StorageClass, new, obj),
            ["provisioner: Forbidden: updates to provisioner are forbidden."]
        );
    }
}
