//! The spec of a PersistentVolumeClaim, also as a template in pods and StatefulSets.

use keelson_machinery::{Cursor, FieldErrors, names};

use crate::check;

const MODES: &[&str] = &[
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];

/// A `PersistentVolumeClaimTemplate`: labels and annotations are all its metadata.
pub fn template(e: &mut FieldErrors, c: &Cursor) {
    let meta = c.child("metadata");
    check::annotations(e, &meta.child("annotations"));
    check::labels(e, &meta.child("labels"));
    for (key, _) in meta.entries() {
        let field = meta.child(key);
        if !["annotations", "labels"].contains(&key) && !field.is_zero() {
            e.forbidden(field.path(), "cannot be set");
        }
    }
    spec(e, &c.child("spec"));
}

/// A `PersistentVolumeClaimSpec`.
pub fn spec(e: &mut FieldErrors, c: &Cursor) {
    access_modes(e, &c.child("accessModes"), "at least 1 access mode is required");
    check::label_selector(e, &c.child("selector"));
    let resources = c.child("resources");
    let at = resources.path().key("storage");
    match check::parse_quantity(&resources.value()["requests"]["storage"]) {
        None => e.required(&at, ""),
        Some(amount) if amount.sign() <= 0 => {
            e.invalid(&at, amount.to_string(), "must be greater than zero");
        }
        Some(_) => {}
    }
    let class = c.child("storageClassName");
    if !class.str().is_empty() {
        check::named(e, &class, names::is_dns1123_subdomain);
    }
    check::one_of_or_absent(e, &c.child("volumeMode"), &["Block", "Filesystem"]);
    for key in ["dataSource", "dataSourceRef"] {
        data_source(e, &c.child(key));
    }
    let attributes = c.child("volumeAttributesClassName");
    if !attributes.str().is_empty() {
        check::named(e, &attributes, names::is_dns1123_subdomain);
    }
}

/// At least one mode; errors stand at the list.
pub fn access_modes(e: &mut FieldErrors, list: &Cursor, missing: &str) {
    if list.is_empty() {
        e.required(list.path(), missing);
    }
    let (mut pod, mut other) = (false, false);
    for mode in list.items() {
        if !MODES.contains(&mode.str()) {
            e.not_supported(list.path(), mode.str(), MODES);
        } else if mode.str() == "ReadWriteOncePod" {
            pod = true;
        } else {
            other = true;
        }
    }
    if pod && other {
        e.forbidden(
            list.path(),
            "may not use ReadWriteOncePod with other access modes",
        );
    }
}

fn data_source(e: &mut FieldErrors, c: &Cursor) {
    if c.is_absent() {
        return;
    }
    check::required(e, &c.child("name"));
    check::required(e, &c.child("kind"));
    let group = c.child("apiGroup");
    if group.str().is_empty() && c.child("kind").str() != "PersistentVolumeClaim" {
        e.invalid(
            c.path(),
            c.child("kind").str(),
            "must be 'PersistentVolumeClaim' when referencing the default apiGroup",
        );
    }
    if !group.str().is_empty() {
        check::named(e, &group, names::is_dns1123_subdomain);
    }
}
