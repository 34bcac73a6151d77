//! Strategic merge (`k8s.io/apimachinery/pkg/util/strategicpatch`): what merges is said by the definition.

use keelson_machinery::Status;
use serde_json::{Map, Value};

use super::order::{normalize_order, partition, position};
use super::unprocessable;
use crate::types::{Shape, TypeDef};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ELEMENT_ORDER: &str = "$setElementOrder/";
const DELETE_FROM_PRIMITIVE_LIST: &str = "$deleteFromPrimitiveList/";

/// What is known about the fields of a map.
#[derive(Clone, Copy)]
pub(super) enum Schema<'a> {
    Def(&'a TypeDef),
    /// A map of values of one shape.
    Values(&'a Shape),
    Unknown,
}

/// How one field merges.
struct Meta<'a> {
    merge: bool,
    replace: bool,
    key: &'a str,
    inner: Schema<'a>,
}

impl<'a> Schema<'a> {
    fn of(shape: &'a Shape) -> Self {
        match shape {
            Shape::Object(def)
            | Shape::SchemaOrArray(def)
            | Shape::SchemaOrBool(def)
            | Shape::SchemaOrStrings(def) => Self::Def(def),
            Shape::List(item) => Self::of(item),
            Shape::Map(item) => Self::Values(item),
            _ => Self::Unknown,
        }
    }

    fn meta(self, name: &str) -> Meta<'a> {
        let plain = |inner| Meta {
            merge: false,
            replace: false,
            key: "",
            inner,
        };
        match self {
            Self::Def(def) => match def.field(name) {
                Some(field) => Meta {
                    merge: field.patch_merge,
                    replace: field.patch_replace,
                    key: field.merge_key.as_deref().unwrap_or(""),
                    inner: Self::of(&field.shape),
                },
                None => plain(Self::Unknown),
            },
            Self::Values(shape) => plain(Self::of(shape)),
            Self::Unknown => plain(Self::Unknown),
        }
    }
}

pub(super) fn merge_map(
    mut original: Map<String, Value>,
    mut patch: Map<String, Value>,
    schema: Schema<'_>,
) -> Result<Map<String, Value>, Status> {
    if let Some(directive) = patch.remove(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Map::new()),
            _ => Err(bad_patch_type(&directive, &patch)),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    merge_ordered_lists(&mut original, &mut patch, schema)?;
    for (key, patch) in patch {
        let (key, deletes) = match key.strip_prefix(DELETE_FROM_PRIMITIVE_LIST) {
            Some(list) => (list.to_owned(), true),
            None => (key, false),
        };
        if patch.is_null() {
            original.remove(&key);
            continue;
        }
        let Some(present) = original.get_mut(&key) else {
            if !deletes {
                original.insert(key, plain(patch));
            }
            continue;
        };
        let meta = schema.meta(&key);
        let merged = match (present.take(), patch) {
            (Value::Object(present), Value::Object(patch)) if !meta.replace => {
                Value::Object(merge_map(present, patch, meta.inner)?)
            }
            (Value::Array(present), Value::Array(patch)) if deletes => {
                Value::Array(present.into_iter().filter(|one| !patch.contains(one)).collect())
            }
            (Value::Array(present), Value::Array(patch)) if meta.merge => {
                Value::Array(merge_list(present, patch, &meta)?)
            }
            (present, _) if deletes => present,
            (_, patch) => plain(patch),
        };
        original.insert(key, merged);
    }
    Ok(original)
}

/// Drops what the patch's `$retainKeys` does not name.
fn retain_keys(original: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<(), Status> {
    let Some(retained) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let malformed = || Status::bad_request("invalid patch format of $retainKeys list");
    let retained = retained.as_array().ok_or_else(malformed)?;
    let names = |key: &str| retained.iter().any(|one| one == key);
    let directives = |key: &str| key.starts_with('$');
    if patch.keys().any(|key| !directives(key) && !names(key)) {
        return Err(malformed());
    }
    original.retain(|key, _| names(key));
    Ok(())
}

/// Merges the lists that come with a `$setElementOrder` and puts them in that order.
fn merge_ordered_lists(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    schema: Schema<'_>,
) -> Result<(), Status> {
    let ordered: Vec<String> = patch
        .keys()
        .filter_map(|key| key.strip_prefix(SET_ELEMENT_ORDER))
        .map(str::to_owned)
        .collect();
    for name in ordered {
        let malformed = || Status::bad_request("invalid patch format of $setElementOrder list");
        let Some(Value::Array(order)) = patch.remove(&format!("{SET_ELEMENT_ORDER}{name}")) else {
            return Err(malformed());
        };
        let list = |map: &mut Map<String, Value>| match map.remove(&name) {
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(Value::Null) | None => Ok(None),
            Some(_) => Err(malformed()),
        };
        let nulled = patch.get(&name).is_some_and(Value::is_null);
        if nulled {
            continue;
        }
        let (server, patched) = (list(original)?, list(patch)?);
        let meta = schema.meta(&name);
        if let Some(patched) = &patched {
            validate_order(patched, &order, meta.key).ok_or_else(malformed)?;
        }
        let merged = match (server.clone(), patched) {
            (None, None) => continue,
            (Some(server), None) => server,
            (None, Some(patched)) => patched.into_iter().filter_map(plain_item).collect(),
            (Some(server), Some(patched)) if meta.merge => merge_list(server, patched, &meta)?,
            (Some(_), Some(patched)) => patched.into_iter().filter_map(plain_item).collect(),
        };
        let (in_order, others) = partition(merged, &order, meta.key);
        let merged = normalize_order(in_order, others, &order, &server.unwrap_or_default(), meta.key);
        original.insert(name, Value::Array(merged));
    }
    Ok(())
}

/// Every item of the patch (without a directive) stands in the order list, in that order.
fn validate_order(patch: &[Value], order: &[Value], key: &str) -> Option<()> {
    let mut from = 0;
    for item in patch.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
        from += 1 + position(order.get(from..)?, item, key)?;
    }
    Some(())
}

fn merge_list(mut original: Vec<Value>, patch: Vec<Value>, meta: &Meta<'_>) -> Result<Vec<Value>, Status> {
    let server_order = original.clone();
    let mut of_one_kind = original.iter().chain(&patch).map(Value::is_object);
    let maps = of_one_kind.next().unwrap_or(false);
    if of_one_kind.any(|is_map| is_map != maps) || original.iter().chain(&patch).any(Value::is_array) {
        return Err(unprocessable());
    }
    if !maps {
        for item in &patch {
            if !original.contains(item) {
                original.push(item.clone());
            }
        }
        let (patched, others) = partition(original, &patch, "");
        return Ok(normalize_order(patched, others, &patch, &server_order, ""));
    }
    if meta.key.is_empty() {
        return Err(failed("cannot merge lists without merge key".to_owned()));
    }
    let mut plain_patch = Vec::with_capacity(patch.len());
    let mut replaces = false;
    for item in patch {
        match item
            .get(DIRECTIVE)
            .map(|directive| directive.as_str().unwrap_or(""))
        {
            None => plain_patch.push(item),
            Some("delete") => {
                let value = item.get(meta.key).ok_or_else(|| no_merge_key(&item, meta.key))?;
                original.retain(|one| one.get(meta.key) != Some(value));
            }
            Some("replace") => replaces = true,
            Some("merge") => {
                return Err(failed(
                    "merging lists cannot yet be specified in the patch".to_owned(),
                ));
            }
            Some(_) => {
                let fields = item.as_object().cloned().unwrap_or_default();
                return Err(bad_patch_type(&item[DIRECTIVE], &fields));
            }
        }
    }
    if replaces {
        return Ok(plain_patch.into_iter().filter_map(plain_item).collect());
    }
    let patch_order = plain_patch.clone();
    for item in plain_patch {
        let value = item.get(meta.key).ok_or_else(|| no_merge_key(&item, meta.key))?;
        match original.iter_mut().find(|one| one.get(meta.key) == Some(value)) {
            Some(found) => {
                let (Value::Object(found_map), Value::Object(item)) = (found.take(), item) else {
                    return Err(unprocessable());
                };
                *found = Value::Object(merge_map(found_map, item, meta.inner)?);
            }
            None => original.extend(plain_item(item)),
        }
    }
    let (patched, others) = partition(original, &patch_order, meta.key);
    Ok(normalize_order(
        patched,
        others,
        &patch_order,
        &server_order,
        meta.key,
    ))
}

/// A value of the patch that the object did not have, without nulls and directives.
fn plain(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(key, value)| {
                let directive = key == DIRECTIVE
                    || key == RETAIN_KEYS
                    || key.starts_with(SET_ELEMENT_ORDER)
                    || key.starts_with(DELETE_FROM_PRIMITIVE_LIST);
                !directive && !value.is_null()
            });
            Value::Object(kept.map(|(key, value)| (key, plain(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().filter_map(plain_item).collect()),
        other => other,
    }
}

/// An item of a list; none where it only carries a deletion.
fn plain_item(item: Value) -> Option<Value> {
    let directive = item.get(DIRECTIVE).and_then(Value::as_str);
    match directive {
        Some("delete") => None,
        Some("replace") if item.as_object().is_some_and(|map| map.len() == 1) => None,
        _ => Some(plain(item)),
    }
}

fn bad_patch_type(directive: &Value, patch: &Map<String, Value>) -> Status {
    let patch = Value::Object(patch.clone());
    failed(format!(
        "unknown patch type: {} in map: {patch}",
        directive.as_str().unwrap_or("")
    ))
}

fn no_merge_key(item: &Value, key: &str) -> Status {
    failed(format!("map: {item} does not contain declared merge key: {key}"))
}

/// Upstream lets these errors through without a reason of their own.
fn failed(message: String) -> Status {
    Status::new(500, "", message, Value::Null)
}
