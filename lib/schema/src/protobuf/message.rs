//! JSON values to protobuf messages.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use keelson_machinery::{Quantity, time};
use serde_json::{Map, Value};

use super::{Error, wire};
use crate::decode::DEPTH_MAX;
use crate::json;
use crate::types::{FieldDef, Shape, TypeDef, WireTarget};

static NULL: Value = Value::Null;

/// The message of an object.
pub(super) fn object(value: &Value, def: &TypeDef) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(1024);
    put_object(&mut out, value, def, DEPTH_MAX)?;
    Ok(out)
}

fn put_object(out: &mut Vec<u8>, value: &Value, def: &TypeDef, depth: usize) -> Result<(), Error> {
    let depth = depth.checked_sub(1).ok_or(Error::TooDeep(DEPTH_MAX))?;
    let empty = Map::new();
    let map = match value {
        Value::Object(map) => map,
        Value::Null => &empty,
        _ => return Err(misfit(&def.name, "is no object")),
    };
    for entry in &def.wire {
        match &entry.target {
            WireTarget::Inline(inlined) => {
                wire::put_message(out, entry.number, |out| put_object(out, value, inlined, depth))?;
            }
            WireTarget::Field(index) => {
                let field = &def.fields[*index as usize];
                let value = map.get(&*field.name).unwrap_or(&NULL);
                put_field(out, entry.number, field, value, depth)?;
            }
        }
    }
    Ok(())
}

fn put_field(
    out: &mut Vec<u8>,
    number: u32,
    field: &FieldDef,
    value: &Value,
    depth: usize,
) -> Result<(), Error> {
    match (&field.shape, value) {
        // Absent: pointers, lists, maps and byte strings are left out, all else is written as zero.
        (_, Value::Null) if field.pointer => Ok(()),
        (Shape::List(_) | Shape::Map(_) | Shape::Bytes, Value::Null) => Ok(()),
        (Shape::List(item), Value::Array(items)) => items
            .iter()
            .try_for_each(|one| put(out, number, item, one, &field.name, depth)),
        (Shape::Map(item), Value::Object(entries)) => entries.iter().try_for_each(|(key, one)| {
            wire::put_message(out, number, |out| {
                wire::put_bytes(out, 1, key.as_bytes());
                put(out, 2, item, one, &field.name, depth)
            })
        }),
        (shape, value) => put(out, number, shape, value, &field.name, depth),
    }
}

/// One value; null is the shape's zero.
fn put(
    out: &mut Vec<u8>,
    number: u32,
    shape: &Shape,
    value: &Value,
    field: &str,
    depth: usize,
) -> Result<(), Error> {
    let wrong = || misfit(field, &format!("{value} is no {}", shape.go_type()));
    match shape {
        Shape::String => {
            let text = if value.is_null() {
                ""
            } else {
                value.as_str().ok_or_else(wrong)?
            };
            wire::put_bytes(out, number, text.as_bytes());
        }
        Shape::Bool => {
            let set = !value.is_null() && value.as_bool().ok_or_else(wrong)?;
            wire::put_int(out, number, i64::from(set));
        }
        Shape::Int32 | Shape::Int64 => {
            let whole = if value.is_null() {
                0
            } else {
                value.as_i64().ok_or_else(wrong)?
            };
            wire::put_int(out, number, whole);
        }
        Shape::Double => {
            let float = if value.is_null() {
                0.0
            } else {
                value.as_f64().ok_or_else(wrong)?
            };
            wire::put_tag(out, number, wire::FIXED64);
            out.extend_from_slice(&float.to_le_bytes());
        }
        Shape::Bytes => {
            let text = if value.is_null() {
                ""
            } else {
                value.as_str().ok_or_else(wrong)?
            };
            let bytes = STANDARD
                .decode(text)
                .or_else(|_| STANDARD.decode(text.replace(['\r', '\n'], "")));
            wire::put_bytes(
                out,
                number,
                &bytes.map_err(|why| misfit(field, &why.to_string()))?,
            );
        }
        Shape::Object(def) => {
            return wire::put_message(out, number, |out| put_object(out, value, def, depth));
        }
        _ => return wire::put_message(out, number, |out| put_special(out, shape, value, field, depth)),
    }
    Ok(())
}

/// The forms whose message differs from what JSON shows.
fn put_special(
    out: &mut Vec<u8>,
    shape: &Shape,
    value: &Value,
    field: &str,
    depth: usize,
) -> Result<(), Error> {
    let wrong = || misfit(field, &format!("{value} is no {}", shape.go_type()));
    let depth = depth.checked_sub(1).ok_or(Error::TooDeep(DEPTH_MAX))?;
    match (shape, value) {
        (Shape::Quantity, Value::Null) => wire::put_bytes(out, 1, b"0"),
        (Shape::Quantity, Value::String(text)) => {
            let quantity = Quantity::parse(text).map_err(|why| misfit(field, &why))?;
            wire::put_bytes(out, 1, quantity.to_string().as_bytes());
        }
        (Shape::Quantity, Value::Number(number)) => wire::put_bytes(out, 1, number.to_string().as_bytes()),
        (Shape::Time | Shape::MicroTime | Shape::Any, Value::Null) => {}
        (Shape::Time | Shape::MicroTime, Value::String(text)) => {
            put_time(out, shape, time::parse(text).map_err(|why| misfit(field, &why))?);
        }
        (Shape::Duration, Value::Null) => wire::put_int(out, 1, 0),
        (Shape::Duration, Value::String(text)) => {
            wire::put_int(
                out,
                1,
                time::parse_duration(text).map_err(|why| misfit(field, &why))?,
            );
        }
        (Shape::IntOrString, Value::String(text)) => put_int_or_string(out, 1, 0, text),
        (Shape::IntOrString, Value::Null) => put_int_or_string(out, 0, 0, ""),
        (Shape::IntOrString, value) => put_int_or_string(out, 0, value.as_i64().ok_or_else(wrong)?, ""),
        (Shape::Strings, Value::Null) => {}
        (Shape::Strings, Value::Array(items)) => {
            items
                .iter()
                .try_for_each(|one| put(out, 1, &Shape::String, one, field, depth))?;
        }
        (Shape::Any, value) => wire::put_bytes(out, 1, &json::to_vec_untyped(value)),
        _ => return put_schema(out, shape, value, field, depth),
    }
    Ok(())
}

/// apiextensions' unions.
fn put_schema(
    out: &mut Vec<u8>,
    shape: &Shape,
    value: &Value,
    field: &str,
    depth: usize,
) -> Result<(), Error> {
    let mut schema = |number: u32, def: &TypeDef, value: &Value| {
        wire::put_message(out, number, |out| put_object(out, value, def, depth))
    };
    match (shape, value) {
        (Shape::SchemaOrArray(def) | Shape::SchemaOrStrings(def), Value::Object(_)) => schema(1, def, value),
        (Shape::SchemaOrArray(def), Value::Array(items)) => {
            items.iter().try_for_each(|one| schema(2, def, one))
        }
        (Shape::SchemaOrStrings(_), Value::Array(items)) => items
            .iter()
            .try_for_each(|one| put(out, 2, &Shape::String, one, field, depth)),
        (Shape::SchemaOrBool(def), Value::Object(_)) => {
            wire::put_int(out, 1, 1);
            wire::put_message(out, 2, |out| put_object(out, value, def, depth))
        }
        (Shape::SchemaOrBool(_), value) => {
            wire::put_int(out, 1, i64::from(value == &Value::Bool(true)));
            Ok(())
        }
        _ => Err(misfit(field, &format!("{value} is no {}", shape.go_type()))),
    }
}

fn put_time(out: &mut Vec<u8>, shape: &Shape, at: Timestamp) {
    let nanos = match shape {
        Shape::MicroTime => at.subsec_nanosecond() / 1000 * 1000,
        _ => 0,
    };
    // jiff's parts share a sign; protobuf's nanoseconds count forward.
    let (seconds, nanos) = if nanos < 0 {
        (at.as_second() - 1, nanos + 1_000_000_000)
    } else {
        (at.as_second(), nanos)
    };
    wire::put_int(out, 1, seconds);
    wire::put_int(out, 2, i64::from(nanos));
}

fn put_int_or_string(out: &mut Vec<u8>, kind: i64, number: i64, text: &str) {
    wire::put_int(out, 1, kind);
    wire::put_int(out, 2, number);
    wire::put_bytes(out, 3, text.as_bytes());
}

fn misfit(field: &str, why: &str) -> Error {
    const SHOWN_MAX: usize = 200;
    let why: String = why.chars().take(SHOWN_MAX).collect();
    Error::Value {
        field: field.to_owned(),
        why,
    }
}
