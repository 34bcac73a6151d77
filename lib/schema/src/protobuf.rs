//! Kubernetes' protobuf form of objects, both ways, from the wire numbers of the types table.
//!
//! Frame: `k8s\0`, then `runtime.Unknown{typeMeta, raw}`. In a watch stream: four bytes of big-endian length, then a bare
//! `meta.v1.WatchEvent` whose object is framed. Bytes are upstream's to the last: scalars that are no pointer are
//! always written, maps by key, fields by number.

mod message;
mod place;
mod reader;
mod wire;

pub use place::{metadata_len, owned_fields};

use keelson_machinery::gvk::{GroupVersion, GroupVersionKind};
use serde_json::Value;

use crate::types::{self, TypeDef};

/// What every framed object starts with.
pub const MAGIC: &[u8; 4] = b"k8s\0";

/// Why bytes are no object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NotFramed,
    #[error("unexpected EOF")]
    Truncated,
    #[error("proto: illegal wireType {0}")]
    WireType(u8),
    #[error("proto: integer overflow")]
    Overflow,
    #[error("proto: wrong wireType = {wire_type} for field {field}")]
    WrongWireType { wire_type: u8, field: String },
    #[error("proto: nesting exceeds {0} levels")]
    TooDeep(usize),
    #[error("string field contains invalid UTF-8")]
    Utf8,
    #[error("object holds embedded JSON that cannot be read: {0}")]
    EmbeddedJson(String),
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    UnknownKind { api_version: String, kind: String },
    #[error("{0} has no protobuf form")]
    NoForm(String),
    #[error("{field}: {why}")]
    Value { field: String, why: String },
}

/// The bytes claim to be a framed object.
pub fn is_framed(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// The kind a frame names and its raw object, unread.
///
/// # Errors
/// Bytes that are no frame.
pub fn unframe(bytes: &[u8]) -> Result<(GroupVersionKind, &[u8]), Error> {
    let unknown = bytes.strip_prefix(MAGIC).ok_or(Error::NotFramed)?;
    let (mut type_meta, mut raw): (&[u8], &[u8]) = (&[], &[]);
    wire::each_field(unknown, |number, field| {
        match number {
            1 => type_meta = field.bytes("typeMeta")?,
            2 => raw = field.bytes("raw")?,
            _ => {}
        }
        Ok(())
    })?;
    let (mut api_version, mut kind) = ("", "");
    wire::each_field(type_meta, |number, field| {
        match number {
            1 => api_version = field.str("apiVersion")?,
            2 => kind = field.str("kind")?,
            _ => {}
        }
        Ok(())
    })?;
    let unknown = || Error::UnknownKind {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
    };
    let GroupVersion { group, version } = GroupVersion::parse(api_version).ok_or_else(unknown)?;
    Ok((
        GroupVersionKind {
            group,
            version,
            kind: kind.to_owned().into(),
        },
        raw,
    ))
}

/// A framed object as JSON of its kind, `apiVersion` and `kind` included.
///
/// # Errors
/// Bytes that are no frame, a kind the table does not have, a broken message.
pub fn decode(bytes: &[u8]) -> Result<Value, Error> {
    let (kind, raw) = unframe(bytes)?;
    let (api_version, name) = (kind.api_version(), kind.kind.to_string());
    let def = types::of_kind(&kind).ok_or_else(|| Error::UnknownKind {
        api_version: api_version.clone(),
        kind: name.clone(),
    })?;
    let mut value = decode_as(raw, def)?;
    if let (true, Value::Object(map)) = (def.has_kind, &mut value) {
        for (field, text) in [("apiVersion", api_version), ("kind", name)] {
            if !text.is_empty() {
                map.insert(field.to_owned(), text.into());
            }
        }
    }
    Ok(value)
}

/// A bare message as JSON of a definition.
///
/// # Errors
/// A broken message.
pub fn decode_as(raw: &[u8], def: &TypeDef) -> Result<Value, Error> {
    reader::object(raw, def)
}

/// An object as framed bytes, by its own `apiVersion` and `kind`.
///
/// # Errors
/// A kind the table does not have, or a value that does not fit its field.
pub fn encode(object: &Value) -> Result<Vec<u8>, Error> {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or("");
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let unknown = || Error::UnknownKind {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
    };
    let gv = GroupVersion::parse(api_version).ok_or_else(unknown)?;
    let def = types::of(&gv.group, &gv.version, kind).ok_or_else(unknown)?;
    Ok(frame(api_version, kind, &encode_as(object, def)?))
}

/// A framed object from its raw message.
pub fn frame(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut type_meta = Vec::new();
    wire::put_bytes(&mut type_meta, 1, api_version.as_bytes());
    wire::put_bytes(&mut type_meta, 2, kind.as_bytes());
    let mut out = Vec::with_capacity(raw.len() + type_meta.len() + 24);
    out.extend_from_slice(MAGIC);
    wire::put_bytes(&mut out, 1, &type_meta);
    wire::put_bytes(&mut out, 2, raw);
    wire::put_bytes(&mut out, 3, b"");
    wire::put_bytes(&mut out, 4, b"");
    out
}

/// An object of a definition as a bare message.
///
/// # Errors
/// A definition without protobuf form, or a value that does not fit its field.
pub fn encode_as(object: &Value, def: &TypeDef) -> Result<Vec<u8>, Error> {
    if def.wire.is_empty()
        && def
            .fields
            .iter()
            .any(|field| field.name != "kind" && field.name != "apiVersion")
    {
        return Err(Error::NoForm(def.name.to_string()));
    }
    message::object(object, def)
}

/// One event of a watch stream: length, then `WatchEvent{type, object.raw}`.
pub fn encode_watch_event(kind: &str, framed_object: &[u8]) -> Vec<u8> {
    let mut object = Vec::with_capacity(framed_object.len() + 8);
    wire::put_bytes(&mut object, 1, framed_object);
    let mut event = Vec::with_capacity(object.len() + kind.len() + 16);
    event.extend_from_slice(&[0; 4]);
    wire::put_bytes(&mut event, 1, kind.as_bytes());
    wire::put_bytes(&mut event, 2, &object);
    let length = u32::try_from(event.len() - 4).unwrap_or(u32::MAX);
    event[..4].copy_from_slice(&length.to_be_bytes());
    event
}

/// One event of a watch stream without its length: the type and the framed object.
///
/// # Errors
/// A broken message.
pub fn decode_watch_event(event: &[u8]) -> Result<(&str, &[u8]), Error> {
    let (mut kind, mut object): (&str, &[u8]) = ("", &[]);
    wire::each_field(event, |number, field| {
        match number {
            1 => kind = field.str("type")?,
            2 => wire::each_field(field.bytes("object")?, |number, field| {
                if number == 1 {
                    object = field.bytes("raw")?;
                }
                Ok(())
            })?,
            _ => {}
        }
        Ok(())
    })?;
    Ok((kind, object))
}

#[cfg(test)]
mod tests;
