//! ConfigMap: text and bytes under keys that are file names, at most 1 MiB together.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Path, Value, names};

use crate::kind::{Column, Kind, resource};
use crate::{cells, equal, strategy};

/// Of a Secret's or ConfigMap's data together.
pub const DATA_BYTES_MAX: usize = 1024 * 1024;

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text("Data", "Data contains the configuration data."),
    cells::AGE,
];

pub struct ConfigMap;

impl Kind for ConfigMap {
    resource!("", "v1", "configmaps");

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let map = Cursor::root(new);
        let (text, bytes) = (map.child("data"), map.child("binaryData"));
        if let Some(old) = old {
            unchanged_if_immutable(&mut e, new, old, &["data", "binaryData"]);
        }
        let mut total = 0;
        for (key, entry) in text.entries() {
            check_key(&mut e, &entry, key);
            if bytes.value().get(key).is_some() {
                let detail = "duplicate of key present in binaryData";
                e.invalid(entry.path(), key, detail);
            }
            total += entry.str().len();
        }
        for (key, entry) in bytes.entries() {
            check_key(&mut e, &entry, key);
            total += decoded_len(entry.str());
        }
        if total > DATA_BYTES_MAX {
            e.too_long(&Path::default(), DATA_BYTES_MAX);
        }
        e
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        let count = |key: &str| obj[key].as_object().map_or(0, |entries| entries.len());
        vec![
            cells::name(obj),
            (count("data") + count("binaryData")).into(),
            cells::age(obj, now),
        ]
    }
}

/// A key of `data`.
pub fn check_key(e: &mut FieldErrors, entry: &Cursor, key: &str) {
    for message in names::is_config_map_key(key) {
        e.invalid(entry.path(), key, message);
    }
}

/// The length of what base64 text stands for.
pub fn decoded_len(base64: &str) -> usize {
    base64.trim_end_matches('=').len() * 3 / 4
}

/// `immutable: true` freezes the data and itself.
pub fn unchanged_if_immutable(e: &mut FieldErrors, new: &Value, old: &Value, fields: &[&str]) {
    if old["immutable"] != true {
        return;
    }
    let map = Cursor::root(new);
    if new["immutable"] != true {
        e.forbidden(
            map.child("immutable").path(),
            "field is immutable when `immutable` is set",
        );
    }
    for field in fields {
        if !equal::same(&new[*field], &old[*field]) {
            e.forbidden(
                map.child(field).path(),
                "field is immutable when `immutable` is set",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{create, errors};
    use serde_json::json;

    #[test]
    fn keys_and_size() {
        let map = |data: Value| json!({"metadata": {"name": "a", "namespace": "b"}, "data": data});
        assert_eq!(
            create(&ConfigMap, map(json!({"a.txt": "x"}))),
            Vec::<String>::new()
        );
        assert_eq!(
            create(&ConfigMap, map(json!({"a/b": "x"}))),
            [
                "data[a/b]: Invalid value: \"a/b\": a valid config key must consist of alphanumeric characters, '-', \
              '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is \
              '[-._a-zA-Z0-9]+')"
            ]
        );
        assert_eq!(
            create(&ConfigMap, map(json!({"a": "x".repeat(DATA_BYTES_MAX + 1)}))),
            [": Too long: may not be more than 1048576 bytes"]
        );
    }

    #[test]
    fn immutable() {
        let old = json!({"metadata": {"name": "a", "namespace": "b", "resourceVersion": "1"},
            "immutable": true, "data": {"a": "1"}});
        let mut new = old.clone();
        new["data"]["a"] = "2".into();
        assert_eq!(
            errors(&ConfigMap.validate(&new, Some(&old))),
            ["data: Forbidden: field is immutable when `immutable` is set"]
        );
    }
}
