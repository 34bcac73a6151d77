//! Stored values that this server did not write: protobuf, JSON of another version, JSON of another server.
//!
//! What this server writes starts with its kind's head and ends without a line end, and its defaults are in it. All
//! else goes through here: decoded, converted to the cached version, defaulted, and written as this server writes.

use bytes::Bytes;
use keelson_machinery::Value;
use keelson_schema::{decode, json, protobuf};

use crate::convert;
use crate::registry::Hub;
use crate::storage::codec::CodecError;

/// Whether this server wrote the value.
pub fn is_own(stored: &[u8], head: &str) -> bool {
    stored.starts_with(head.as_bytes()) && stored.last() != Some(&b'\n')
}

/// The value as this server would have written it in the cached version.
///
/// # Errors
/// What is encrypted, or no object of the kind.
pub fn normal(stored: &[u8], hub: &Hub) -> Result<Bytes, CodecError> {
    if stored.starts_with(b"k8s:enc:") {
        return Err(CodecError::Encrypted);
    }
    let mut value = parse(stored, hub)?;
    convert::from_stored(&mut value);
    decode::normalize(&mut value, hub.def).map_err(CodecError::Shape)?;
    let Some(object) = value.as_object_mut() else {
        return Err(CodecError::Shape("it is no object".to_owned()));
    };
    object.insert("kind".to_owned(), hub.gvk.kind.as_ref().into());
    object.insert("apiVersion".to_owned(), hub.gvk.api_version().into());
    hub.kind.set_defaults(&mut value);
    Ok(json::to_vec(&value, hub.def).into())
}

/// The object in the version it was stored in. A version without a definition has the cached one's fields.
fn parse(stored: &[u8], hub: &Hub) -> Result<Value, CodecError> {
    let shape = |why: String| CodecError::Shape(why);
    if !protobuf::is_framed(stored) {
        return serde_json::from_slice(stored).map_err(|error| shape(error.to_string()));
    }
    match protobuf::decode(stored) {
        Err(protobuf::Error::UnknownKind { .. }) => {
            let (_, raw) = protobuf::unframe(stored).map_err(|error| shape(error.to_string()))?;
            protobuf::decode_as(raw, hub.def).map_err(|error| shape(error.to_string()))
        }
        decoded => decoded.map_err(|error| shape(error.to_string())),
    }
}
