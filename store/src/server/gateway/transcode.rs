//! JSON to protobuf and back by the schema. Pure.
//!
//! As protobuf's JSON mapping has it: bytes are base64, 64-bit numbers are strings (numbers are read, too), enums are names
//! (numbers are read, too), fields at their default are left out. Names are written as the definitions have them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD};
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use bytes::{Buf, Bytes};
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};
use serde_json::Value;

use super::schema::{Field, Kind, Schema};

/// Deepest nesting of messages that is followed.
const DEPTH_MAX: usize = 64;
/// Takes base64 with padding or without.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Encodes a JSON object as a message.
pub fn to_protobuf(schema: &Schema, message: &str, value: &Value) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    encode(schema, message, value, &mut out)?;
    Ok(out)
}

fn encode(schema: &Schema, message: &str, value: &Value, out: &mut Vec<u8>) -> Result<(), String> {
    let Value::Object(object) = value else {
        return Err(format!("{message}: expected an object, found {}", shown(value)));
    };
    let fields = schema.fields(message);
    for (name, value) in object {
        // As etcd does: what is not known is passed over.
        let named = |field: &&Field| field.name == *name || field.camel == *name;
        let Some(field) = fields.iter().find(named) else {
            continue;
        };
        match value {
            Value::Null => {}
            Value::Array(items) if field.repeated => {
                for item in items {
                    encode_field(schema, field, item, out)?;
                }
            }
            _ if field.repeated => return Err(format!("{name}: expected a list, found {}", shown(value))),
            value => encode_field(schema, field, value, out)?,
        }
    }
    Ok(())
}

fn encode_field(schema: &Schema, field: &Field, value: &Value, out: &mut Vec<u8>) -> Result<(), String> {
    let wrong = |what: &str| format!("{}: expected {what}, found {}", field.name, shown(value));
    let mut bytes = |content: &[u8]| {
        encode_key(field.number, WireType::LengthDelimited, out);
        encode_varint(content.len() as u64, out);
        out.extend_from_slice(content);
    };
    let number = match &field.kind {
        Kind::Text => {
            bytes(value.as_str().ok_or_else(|| wrong("text"))?.as_bytes());
            return Ok(());
        }
        Kind::Bytes => {
            let text = value.as_str().ok_or_else(|| wrong("base64"))?;
            // The alphabet for URLs is taken as well.
            let text = text.replace('-', "+").replace('_', "/");
            bytes(&LENIENT.decode(text).map_err(|_| wrong("base64"))?);
            return Ok(());
        }
        Kind::Message(name) => {
            bytes(&to_protobuf(schema, name, value)?);
            return Ok(());
        }
        Kind::Bool => u64::from(value.as_bool().ok_or_else(|| wrong("true or false"))?),
        Kind::Enum(name) => {
            let named = schema
                .values(name)
                .iter()
                .find(|(known, _)| value.as_str() == Some(known));
            let number = named.map(|(_, number)| i64::from(*number));
            let number = number.or_else(|| value.as_i64()).ok_or_else(|| wrong(name))?;
            number.cast_unsigned()
        }
        Kind::Int32 | Kind::Int64 => {
            let number = match value {
                Value::String(text) => text.parse().ok(),
                other => other.as_i64(),
            };
            number.ok_or_else(|| wrong("a whole number"))?.cast_unsigned()
        }
        Kind::Uint32 | Kind::Uint64 => {
            let number = match value {
                Value::String(text) => text.parse().ok(),
                other => other.as_u64(),
            };
            number.ok_or_else(|| wrong("a whole number that is not negative"))?
        }
    };
    encode_key(field.number, WireType::Varint, out);
    encode_varint(number, out);
    Ok(())
}

/// A value in an error, cut.
fn shown(value: &Value) -> String {
    let text: String = value.to_string().chars().take(40).collect();
    text
}

/// Decodes a message as JSON text, fields in the order of the message.
pub fn to_json(schema: &Schema, message: &str, bytes: Bytes) -> Result<String, String> {
    let mut out = String::new();
    decode(schema, message, bytes, 0, &mut out)?;
    Ok(out)
}

/// One field on the wire.
enum Content {
    Number(u64),
    Bytes(Bytes),
}

fn decode(
    schema: &Schema,
    message: &str,
    bytes: Bytes,
    depth: usize,
    out: &mut String,
) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err(format!("{message} is nested too deep"));
    }
    let fields = schema.fields(message);
    // A repeated field's values may lie apart.
    let mut found: BTreeMap<u32, Vec<Content>> = BTreeMap::new();
    for (number, content) in wire_fields(message, bytes)? {
        found.entry(number).or_default().push(content);
    }
    out.push('{');
    let mut first = true;
    for field in fields {
        let Some(contents) = found.remove(&field.number) else {
            continue;
        };
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        out.push_str(&format!("\"{}\":", field.name));
        if field.repeated {
            list(schema, field, contents, depth, out)?;
        } else if let Some(last) = contents.into_iter().next_back() {
            value(schema, field, last, depth, out)?;
        }
    }
    out.push('}');
    Ok(())
}

fn wire_fields(message: &str, mut bytes: Bytes) -> Result<Vec<(u32, Content)>, String> {
    let wrong = |error: prost::DecodeError| format!("{message}: {error}");
    let mut fields = Vec::new();
    while bytes.has_remaining() {
        let (number, wire) = decode_key(&mut bytes).map_err(wrong)?;
        let content = match wire {
            WireType::Varint => Content::Number(decode_varint(&mut bytes).map_err(wrong)?),
            WireType::LengthDelimited => {
                let length = decode_varint(&mut bytes).map_err(wrong)?;
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                if length > bytes.len() {
                    return Err(format!("{message} is cut off"));
                }
                Content::Bytes(bytes.split_to(length))
            }
            other => return Err(format!("{message}: the wire type {other:?} is not etcd's")),
        };
        fields.push((number, content));
    }
    Ok(fields)
}

fn list(
    schema: &Schema,
    field: &Field,
    contents: Vec<Content>,
    depth: usize,
    out: &mut String,
) -> Result<(), String> {
    let scalar = !matches!(field.kind, Kind::Text | Kind::Bytes | Kind::Message(_));
    let mut items = Vec::new();
    for content in contents {
        match content {
            Content::Bytes(mut packed) if scalar => {
                while packed.has_remaining() {
                    let number = decode_varint(&mut packed);
                    let number = number.map_err(|error| format!("{}: {error}", field.name))?;
                    items.push(Content::Number(number));
                }
            }
            content => items.push(content),
        }
    }
    out.push('[');
    for (place, item) in items.into_iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        value(schema, field, item, depth, out)?;
    }
    out.push(']');
    Ok(())
}

fn value(
    schema: &Schema,
    field: &Field,
    content: Content,
    depth: usize,
    out: &mut String,
) -> Result<(), String> {
    match (&field.kind, content) {
        (Kind::Bool, Content::Number(number)) => out.push_str(if number == 0 { "false" } else { "true" }),
        (Kind::Int32, Content::Number(number)) => out.push_str(&number.cast_signed().to_string()),
        (Kind::Uint32, Content::Number(number)) => out.push_str(&number.to_string()),
        (Kind::Int64, Content::Number(number)) => out.push_str(&format!("\"{}\"", number.cast_signed())),
        (Kind::Uint64, Content::Number(number)) => out.push_str(&format!("\"{number}\"")),
        (Kind::Enum(name), Content::Number(number)) => {
            let known = schema
                .values(name)
                .iter()
                .find(|(_, value)| i64::from(*value) == number.cast_signed());
            match known {
                Some((name, _)) => out.push_str(&format!("\"{name}\"")),
                None => out.push_str(&number.cast_signed().to_string()),
            }
        }
        (Kind::Text, Content::Bytes(bytes)) => {
            out.push_str(&Value::from(String::from_utf8_lossy(&bytes)).to_string());
        }
        (Kind::Bytes, Content::Bytes(bytes)) => {
            out.push('"');
            STANDARD.encode_string(bytes, out);
            out.push('"');
        }
        (Kind::Message(name), Content::Bytes(bytes)) => decode(schema, name, bytes, depth + 1, out)?,
        _ => return Err(format!("{} has another wire type", field.name)),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use keelson_proto::etcd::etcdserverpb as pb;
    use prost::Message;
    use serde_json::json;

    use super::super::schema::SCHEMA;
    use super::*;

    #[test]
    fn a_transaction_passes_both_ways() {
        let json = json!({
            "compare": [{"target": "VALUE", "result": "GREATER", "key": "YQ==", "value": "Yg"}],
            "success": [{"request_put": {"key": "YQ==", "value": "Yg==", "lease": "-7"}}],
            "failure": [{"requestRange": {"key": "YQ==", "limit": 3, "sortOrder": 2, "keys_only": true}}],
        });
        let bytes = to_protobuf(&SCHEMA, "etcdserverpb.TxnRequest", &json).unwrap();
        let txn = pb::TxnRequest::decode(&bytes[..]).unwrap();
        let Some(pb::request_op::Request::RequestPut(put)) = &txn.success[0].request else {
            panic!("{txn:?}")
        };
        assert_eq!((&put.value[..], put.lease), (&b"b"[..], -7));
        let Some(pb::request_op::Request::RequestRange(range)) = &txn.failure[0].request else {
            panic!("{txn:?}")
        };
        assert_eq!((range.limit, range.sort_order, range.keys_only), (3, 2, true));
        let back = to_json(&SCHEMA, "etcdserverpb.TxnRequest", txn.encode_to_vec().into()).unwrap();
        let expected = json!({
            "compare": [{"target": "VALUE", "result": "GREATER", "key": "YQ==", "value": "Yg=="}],
            "success": [{"request_put": {"key": "YQ==", "value": "Yg==", "lease": "-7"}}],
            "failure": [{"request_range": {"key": "YQ==", "limit": "3", "sort_order": "DESCEND", "keys_only": true}}],
        });
        assert_eq!(serde_json::from_str::<Value>(&back).unwrap(), expected);
    }

    #[test]
    fn packed_numbers_and_lists_are_read() {
        let create = pb::WatchCreateRequest {
            key: "a".into(),
            filters: vec![0, 1],
            ..Default::default()
        };
        let back = to_json(
            &SCHEMA,
            "etcdserverpb.WatchCreateRequest",
            create.encode_to_vec().into(),
        )
        .unwrap();
        assert_eq!(back, r#"{"key":"YQ==","filters":["NOPUT","NODELETE"]}"#);
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        for (value, part) in [
            (json!([]), "expected an object"),
            (json!({"key": 1}), "key: expected base64"),
            (json!({"key": "*"}), "key: expected base64"),
            (json!({"limit": "x"}), "limit: expected a whole number"),
            (json!({"sort_order": "UP"}), "sort_order"),
            (json!({"serializable": 1}), "true or false"),
        ] {
            let refused = to_protobuf(&SCHEMA, "etcdserverpb.RangeRequest", &value).unwrap_err();
            assert!(refused.contains(part), "{refused}");
        }
        assert!(to_protobuf(&SCHEMA, "etcdserverpb.RangeRequest", &json!({"nosuch": 1})).is_ok());
        let cut = Bytes::from_static(&[0x0a, 9, 1]);
        assert!(to_json(&SCHEMA, "etcdserverpb.RangeRequest", cut).is_err());
    }
}
