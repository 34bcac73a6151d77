//! Setters for defaulting. Go's two kinds of unset are kept apart: a pointer that is nil (`absent`) and a
//! plain value that is zero (`zero`).

use serde_json::{Map, Value};

/// Sets a pointer field that is absent.
pub fn absent(obj: &mut Value, key: &str, value: impl Into<Value>) {
    if obj.get(key).is_none_or(Value::is_null) {
        put(obj, key, value);
    }
}

/// Sets a plain field that is absent or zero.
pub fn zero(obj: &mut Value, key: &str, value: impl Into<Value>) {
    if obj.get(key).is_none_or(is_zero) {
        put(obj, key, value);
    }
}

/// Sets a field whatever it was.
pub fn put(obj: &mut Value, key: &str, value: impl Into<Value>) {
    if let Some(fields) = fields(obj) {
        fields.insert(key.to_owned(), value.into());
    }
}

/// Removes a field.
pub fn remove(obj: &mut Value, key: &str) -> Option<Value> {
    obj.as_object_mut()?.remove(key)
}

/// Copies a field from another object, absence included.
pub fn copy(to: &mut Value, from: &Value, key: &str) {
    match from.get(key) {
        Some(value) => put(to, key, value.clone()),
        None => drop(remove(to, key)),
    }
}

/// The field as an object, made where absent. A value of another type gives way to an empty object: decoding has
/// refused such bodies, so only a store written by somebody else can hold one, and it must not bring us down.
pub fn object<'a>(obj: &'a mut Value, key: &str) -> &'a mut Value {
    if !obj.get(key).is_some_and(Value::is_object) {
        put(obj, key, Map::new());
    }
    &mut obj[key]
}

/// The field where it is present.
pub fn some<'a>(obj: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    obj.get_mut(key).filter(|value| !value.is_null())
}

/// The items of a list field; none where absent.
pub fn items<'a>(obj: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Value> + use<'a> {
    obj.get_mut(key)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

/// What Go cannot tell from unset in a plain field.
pub fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

/// A quantity of nothing, as a plain field of that type is written when it is unset.
pub fn is_zero_amount(value: &Value) -> bool {
    value == "0" || is_zero(value)
}

/// The object's map; what is no object becomes an empty one.
fn fields(obj: &mut Value) -> Option<&mut Map<String, Value>> {
    if !obj.is_object() {
        *obj = Value::Object(Map::new());
    }
    obj.as_object_mut()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn zero_and_absent_differ() {
        let mut obj = json!({"a": 0, "b": ""});
        absent(&mut obj, "a", 5);
        zero(&mut obj, "b", "x");
        absent(&mut obj, "c", true);
        assert_eq!(obj, json!({"a": 0, "b": "x", "c": true}));
    }
}
