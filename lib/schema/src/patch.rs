//! The three patches that need no field ownership: JSON patch (RFC 6902), merge patch (RFC 7386), strategic merge.
//!
//! Results are not yet fitted to their definition; the caller decodes them again (`decode::value`), as upstream does.

mod order;
mod strategic;

use keelson_machinery::Status;
use serde_json::{Map, Value};

use crate::decode::DEPTH_MAX;
use crate::types::TypeDef;

/// Most operations of one JSON patch.
pub const JSON_PATCH_OPERATIONS_MAX: usize = 10_000;
/// Greatest growth of an object by JSON patch `copy`, in bytes of JSON: a few copies may double it many times.
const PATCHED_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Applies the operations of a JSON patch.
///
/// # Errors
/// 400 where `patch` is no list of operations, 413 for too many, 422 where one cannot be applied.
pub fn json_patch(original: &Value, patch: &Value) -> Result<Value, Status> {
    let operations = patch.as_array().map_or(0, Vec::len);
    if operations > JSON_PATCH_OPERATIONS_MAX {
        let message = format!(
            "The allowed maximum operations in a JSON patch is {JSON_PATCH_OPERATIONS_MAX}, got {operations}"
        );
        return Err(Status::new(413, "RequestEntityTooLarge", message, Value::Null));
    }
    let patch: json_patch::Patch = serde::Deserialize::deserialize(patch)
        .map_err(|why| Status::bad_request(format!("error decoding patch: {why}")))?;
    let mut patched = original.clone();
    for operation in patch.0 {
        let copies = matches!(operation, json_patch::PatchOperation::Copy(_));
        json_patch::patch(&mut patched, std::slice::from_ref(&operation)).map_err(|_| unprocessable())?;
        let mut budget = PATCHED_BYTES_MAX;
        if copies && exceeds(&patched, &mut budget) {
            return Err(Status::request_entity_too_large(PATCHED_BYTES_MAX));
        }
    }
    if depth_exceeds(&patched, DEPTH_MAX) {
        Err(unprocessable())
    } else {
        Ok(patched)
    }
}

/// Whether a value is larger than what is left of `budget` bytes, roughly as JSON counts them.
fn exceeds(value: &Value, budget: &mut usize) -> bool {
    let (own, inner) = match value {
        Value::String(text) => (text.len() + 2, false),
        Value::Array(items) => (2, items.iter().any(|one| exceeds(one, budget))),
        Value::Object(map) => {
            let mut over = false;
            for (key, one) in map {
                over |= key.len() > *budget || exceeds(one, budget);
                *budget = budget.saturating_sub(key.len() + 4);
                if over {
                    break;
                }
            }
            (2, over)
        }
        _ => (4, false),
    };
    let over = inner || own > *budget;
    *budget = budget.saturating_sub(own);
    over
}

fn depth_exceeds(value: &Value, left: usize) -> bool {
    match value {
        Value::Array(items) => left == 0 || items.iter().any(|one| depth_exceeds(one, left - 1)),
        Value::Object(map) => left == 0 || map.values().any(|one| depth_exceeds(one, left - 1)),
        _ => false,
    }
}

/// Applies a merge patch: maps merge, null deletes, all else replaces.
///
/// # Errors
/// 400 where the patch is no object.
pub fn merge_patch(original: &Value, patch: &Value) -> Result<Value, Status> {
    if !patch.is_object() {
        let message =
            "error decoding patch: json: cannot unmarshal into Go value of type map[string]interface {}";
        return Err(Status::bad_request(message));
    }
    let mut merged = original.clone();
    merge(&mut merged, patch);
    Ok(merged)
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let target = target.as_object_mut().expect("made an object above");
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

/// Applies a strategic merge patch with the definition's merge keys and strategies, and the patch's own directives
/// (`$patch`, `$retainKeys`, `$setElementOrder/x`, `$deleteFromPrimitiveList/x`).
///
/// # Errors
/// 400 for a malformed directive or a patch that is no object, 500 (as upstream) for an item without its merge key.
pub fn strategic_merge(original: &Value, patch: &Value, def: &TypeDef) -> Result<Value, Status> {
    let Value::Object(patch) = patch else {
        return Err(Status::bad_request("invalid JSON document"));
    };
    let original = original.as_object().cloned().unwrap_or_default();
    strategic::merge_map(original, patch.clone(), strategic::Schema::Def(def)).map(Value::Object)
}

/// The operation cannot be applied to this object.
fn unprocessable() -> Status {
    let message = "the server rejected our request due to an error in our request";
    Status::new(422, "Invalid", message, Value::Object(Map::new()))
}

#[cfg(test)]
mod tests;
