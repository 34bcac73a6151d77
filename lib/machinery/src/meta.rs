//! `metadata` of an object, read without unwrapping every step; absent reads as empty.

use serde_json::{Map, Value};

static NULL: Value = Value::Null;

/// A field of `metadata`, or null.
pub fn field<'a>(object: &'a Value, name: &str) -> &'a Value {
    object
        .get("metadata")
        .and_then(|meta| meta.get(name))
        .unwrap_or(&NULL)
}

fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    field(object, name).as_str().unwrap_or("")
}

/// `apiVersion`, or "".
pub fn api_version(object: &Value) -> &str {
    object.get("apiVersion").and_then(Value::as_str).unwrap_or("")
}

/// `kind`, or "".
pub fn kind(object: &Value) -> &str {
    object.get("kind").and_then(Value::as_str).unwrap_or("")
}

pub fn name(object: &Value) -> &str {
    text(object, "name")
}

pub fn generate_name(object: &Value) -> &str {
    text(object, "generateName")
}

pub fn namespace(object: &Value) -> &str {
    text(object, "namespace")
}

pub fn uid(object: &Value) -> &str {
    text(object, "uid")
}

pub fn resource_version(object: &Value) -> &str {
    text(object, "resourceVersion")
}

pub fn generation(object: &Value) -> i64 {
    field(object, "generation").as_i64().unwrap_or(0)
}

pub fn creation_timestamp(object: &Value) -> Option<&str> {
    field(object, "creationTimestamp").as_str()
}

pub fn deletion_timestamp(object: &Value) -> Option<&str> {
    field(object, "deletionTimestamp").as_str()
}

pub fn deletion_grace_period_seconds(object: &Value) -> Option<i64> {
    field(object, "deletionGracePeriodSeconds").as_i64()
}

/// The labels map, or null.
pub fn labels(object: &Value) -> &Value {
    field(object, "labels")
}

/// The annotations map, or null.
pub fn annotations(object: &Value) -> &Value {
    field(object, "annotations")
}

pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    labels(object).get(key).and_then(Value::as_str)
}

pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    annotations(object).get(key).and_then(Value::as_str)
}

pub fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    items(field(object, "finalizers"))
        .iter()
        .filter_map(Value::as_str)
}

pub fn owner_references(object: &Value) -> &[Value] {
    items(field(object, "ownerReferences"))
}

/// The owner reference with `controller: true`.
pub fn controller_of(object: &Value) -> Option<&Value> {
    owner_references(object)
        .iter()
        .find(|owner| owner.get("controller") == Some(&Value::Bool(true)))
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

/// The `metadata` map to write to; made where absent.
pub fn of_mut(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let fields = object.as_object_mut().expect("made an object above");
    let meta = fields.entry("metadata").or_insert(Value::Null);
    if !meta.is_object() {
        *meta = Value::Object(Map::new());
    }
    meta.as_object_mut().expect("made an object above")
}

/// Sets a field of `metadata`; "" removes it, as Go's `omitempty` would.
pub fn set_str(object: &mut Value, name: &str, value: &str) {
    let meta = of_mut(object);
    if value.is_empty() {
        meta.remove(name);
    } else {
        meta.insert(name.to_owned(), value.into());
    }
}

/// Sets a field of `metadata`; null removes it.
pub fn set(object: &mut Value, name: &str, value: Value) {
    let meta = of_mut(object);
    if value.is_null() {
        meta.remove(name);
    } else {
        meta.insert(name.to_owned(), value);
    }
}

/// Sets an annotation.
pub fn set_annotation(object: &mut Value, key: &str, value: &str) {
    set_entry(object, "annotations", key, value);
}

/// Sets a label.
pub fn set_label(object: &mut Value, key: &str, value: &str) {
    set_entry(object, "labels", key, value);
}

fn set_entry(object: &mut Value, map: &str, key: &str, value: &str) {
    let entries = of_mut(object).entry(map).or_insert(Value::Null);
    if !entries.is_object() {
        *entries = Value::Object(Map::new());
    }
    entries
        .as_object_mut()
        .expect("made an object above")
        .insert(key.to_owned(), value.into());
}

/// `namespace/name`, or the name of a cluster-scoped object: the key of caches and queues.
pub fn key(object: &Value) -> String {
    match (namespace(object), name(object)) {
        ("", name) => name.to_owned(),
        (namespace, name) => format!("{namespace}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn absent_reads_as_empty_and_writes_make_room() {
        let mut object = json!({});
        assert_eq!((name(&object), labels(&object)), ("", &Value::Null));
        set_str(&mut object, "name", "a");
        set_label(&mut object, "k", "v");
        assert_eq!(object, json!({"metadata": {"name": "a", "labels": {"k": "v"}}}));
        set_str(&mut object, "name", "");
        assert_eq!(name(&object), "");
    }

    #[test]
    fn the_controller_is_the_marked_owner() {
        let object =
            json!({"metadata": {"ownerReferences": [{"name": "a"}, {"name": "b", "controller": true}]}});
        assert_eq!(controller_of(&object).unwrap()["name"], "b");
    }
}
