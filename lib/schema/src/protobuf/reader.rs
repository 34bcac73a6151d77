//! Protobuf messages to JSON values.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use keelson_machinery::time;
use serde_json::{Map, Number, Value};

use super::wire::{self, Payload};
use super::{Error, is_framed};
use crate::decode::{self, DEPTH_MAX};
use crate::types::{FieldDef, Shape, TypeDef, WireTarget};

/// The JSON of a message, with the fields Go always writes.
pub(super) fn object(message: &[u8], def: &TypeDef) -> Result<Value, Error> {
    let mut map = Map::new();
    read_into(&mut map, message, def, DEPTH_MAX)?;
    decode::fill(&mut map, def);
    Ok(Value::Object(map))
}

fn nested(message: &[u8], def: &TypeDef, depth: usize) -> Result<Value, Error> {
    let mut map = Map::new();
    read_into(&mut map, message, def, depth)?;
    decode::fill(&mut map, def);
    Ok(Value::Object(map))
}

fn read_into(map: &mut Map<String, Value>, message: &[u8], def: &TypeDef, depth: usize) -> Result<(), Error> {
    let depth = depth.checked_sub(1).ok_or(Error::TooDeep(DEPTH_MAX))?;
    wire::each_field(message, |number, payload| {
        let Ok(at) = def.wire.binary_search_by_key(&number, |entry| entry.number) else {
            return Ok(());
        };
        match &def.wire[at].target {
            WireTarget::Inline(inlined) => read_into(map, payload.bytes("inlined")?, inlined, depth),
            WireTarget::Field(index) => read_field(map, &def.fields[*index as usize], payload, depth),
        }
    })
}

fn read_field(
    map: &mut Map<String, Value>,
    field: &FieldDef,
    payload: Payload<'_>,
    depth: usize,
) -> Result<(), Error> {
    match &field.shape {
        Shape::List(item) => {
            let list = map
                .entry(&*field.name)
                .or_insert_with(|| Value::Array(Vec::new()));
            let list = list.as_array_mut().expect("only this arm writes the field");
            // Numbers may come packed.
            if let (Shape::Int32 | Shape::Int64 | Shape::Bool, Payload::Bytes(packed)) = (&**item, payload) {
                return unpack(list, packed, item);
            }
            list.push(read(item, payload, &field.name, depth)?);
        }
        Shape::Map(item) => {
            let (mut key, mut value) = (String::new(), None);
            wire::each_field(payload.bytes(&field.name)?, |number, payload| {
                match number {
                    1 => payload.str(&field.name)?.clone_into(&mut key),
                    2 => value = Some(read(item, payload, &field.name, depth)?),
                    _ => {}
                }
                Ok(())
            })?;
            let value = match value {
                Some(value) => value,
                None => decode::zero(item),
            };
            let entries = map
                .entry(&*field.name)
                .or_insert_with(|| Value::Object(Map::new()));
            entries
                .as_object_mut()
                .expect("only this arm writes the field")
                .insert(key, value);
        }
        shape => {
            let value = read(shape, payload, &field.name, depth)?;
            if field.pointer || !field.omitempty || !decode::is_empty(&value, shape) {
                map.insert(field.name.to_string(), value);
            }
        }
    }
    Ok(())
}

fn unpack(list: &mut Vec<Value>, mut packed: &[u8], item: &Shape) -> Result<(), Error> {
    while !packed.is_empty() {
        let value = wire::take_varint(&mut packed)?;
        list.push(integer(value, item));
    }
    Ok(())
}

fn integer(value: u64, shape: &Shape) -> Value {
    match shape {
        Shape::Bool => (value != 0).into(),
        Shape::Int32 => (value as i32).into(),
        _ => (value as i64).into(),
    }
}

fn read(shape: &Shape, payload: Payload<'_>, field: &str, depth: usize) -> Result<Value, Error> {
    Ok(match shape {
        Shape::String => payload.str(field)?.into(),
        Shape::Bool | Shape::Int32 | Shape::Int64 => integer(payload.varint(field)?, shape),
        Shape::Double => match payload {
            Payload::Fixed64(bits) => {
                Number::from_f64(f64::from_bits(bits)).map_or(Value::Null, Value::Number)
            }
            other => return Err(other.wrong(field)),
        },
        Shape::Bytes => STANDARD.encode(payload.bytes(field)?).into(),
        Shape::Object(def) => nested(payload.bytes(field)?, def, depth)?,
        Shape::List(_) | Shape::Map(_) => return Err(payload.wrong(field)),
        _ => special(shape, payload.bytes(field)?, field, depth)?,
    })
}

fn special(shape: &Shape, message: &[u8], field: &str, depth: usize) -> Result<Value, Error> {
    match shape {
        Shape::Time | Shape::MicroTime => read_time(shape, message, field),
        Shape::Quantity => {
            let mut text = "0";
            wire::each_field(message, |number, payload| {
                if number == 1 {
                    text = payload.str(field)?;
                }
                Ok(())
            })?;
            Ok(text.into())
        }
        Shape::Duration => {
            let mut nanos = 0;
            wire::each_field(message, |number, payload| {
                if number == 1 {
                    nanos = payload.varint(field)? as i64;
                }
                Ok(())
            })?;
            Ok(time::format_duration(nanos).into())
        }
        Shape::IntOrString => read_int_or_string(message, field),
        Shape::Strings => {
            let mut items = Vec::new();
            wire::each_field(message, |number, payload| {
                if number == 1 {
                    items.push(payload.str(field)?.into());
                }
                Ok(())
            })?;
            Ok(Value::Array(items))
        }
        Shape::Any => read_raw(message, field),
        _ => read_schema(shape, message, field, depth),
    }
}

fn read_time(shape: &Shape, message: &[u8], field: &str) -> Result<Value, Error> {
    if message.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanos) = (0, 0);
    wire::each_field(message, |number, payload| {
        match number {
            1 => seconds = payload.varint(field)? as i64,
            2 => nanos = payload.varint(field)? as i32,
            _ => {}
        }
        Ok(())
    })?;
    let misfit = |why: jiff::Error| Error::Value {
        field: field.to_owned(),
        why: why.to_string(),
    };
    let at = Timestamp::new(seconds, nanos).map_err(misfit)?;
    Ok(match shape {
        Shape::MicroTime => time::format_micro(at).into(),
        _ => time::format_rfc3339(at).into(),
    })
}

fn read_int_or_string(message: &[u8], field: &str) -> Result<Value, Error> {
    let (mut is_text, mut whole, mut text) = (false, 0, "");
    wire::each_field(message, |number, payload| {
        match number {
            1 => is_text = payload.varint(field)? == 1,
            2 => whole = payload.varint(field)? as i32,
            3 => text = payload.str(field)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(if is_text { text.into() } else { whole.into() })
}

/// Embedded JSON, or an object framed like this one.
fn read_raw(message: &[u8], field: &str) -> Result<Value, Error> {
    let mut raw: &[u8] = &[];
    wire::each_field(message, |number, payload| {
        if number == 1 {
            raw = payload.bytes(field)?;
        }
        Ok(())
    })?;
    if raw.is_empty() {
        return Ok(Value::Null);
    }
    if is_framed(raw) {
        return super::decode(raw);
    }
    decode::untyped(raw).map_err(Error::EmbeddedJson)
}

/// apiextensions' unions.
fn read_schema(shape: &Shape, message: &[u8], field: &str, depth: usize) -> Result<Value, Error> {
    let (mut schema, mut list, mut allows) = (None, Vec::new(), false);
    wire::each_field(message, |number, payload| {
        match (shape, number) {
            (Shape::SchemaOrArray(def), 1)
            | (Shape::SchemaOrStrings(def), 1)
            | (Shape::SchemaOrBool(def), 2) => {
                schema = Some(nested(payload.bytes(field)?, def, depth)?);
            }
            (Shape::SchemaOrArray(def), 2) => list.push(nested(payload.bytes(field)?, def, depth)?),
            (Shape::SchemaOrStrings(_), 2) => list.push(payload.str(field)?.into()),
            (Shape::SchemaOrBool(_), 1) => allows = payload.varint(field)? != 0,
            _ => {}
        }
        Ok(())
    })?;
    Ok(match (schema, shape) {
        (Some(schema), _) => schema,
        (None, Shape::SchemaOrBool(_)) => allows.into(),
        (None, _) if list.is_empty() => Value::Null,
        (None, _) => Value::Array(list),
    })
}
