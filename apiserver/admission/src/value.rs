//! Short ways to read and extend JSON.

use serde_json::Value;

/// The items of a list; none where it is absent or no list.
pub fn items(list: &Value) -> std::slice::Iter<'_, Value> {
    list.as_array().map_or(&[][..], Vec::as_slice).iter()
}

/// The text, or "".
pub fn str_of(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

/// Appends, making the list where there is none.
pub fn push(list: &mut Value, item: Value) {
    match list.as_array_mut() {
        Some(items) => items.push(item),
        None => *list = Value::Array(vec![item]),
    }
}

/// The items of a field's list, to be changed; none where it is absent, which it stays.
pub fn items_mut<'a>(object: &'a mut Value, field: &str) -> impl Iterator<Item = &'a mut Value> {
    object
        .get_mut(field)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}
