//! Protobuf framing that does not need an object in memory at once: lists are put together from encoded items.

use bytes::Bytes;
use keelson_machinery::{Status, Value};
use keelson_schema::protobuf;

/// `k8s\0` and a `runtime.Unknown`.
const MAGIC: &[u8] = b"k8s\0";

/// A JSON object as framed protobuf.
pub fn framed(json: &[u8]) -> Result<Bytes, Status> {
    let value: Value = serde_json::from_slice(json).map_err(|error| Status::internal(error.to_string()))?;
    framed_value(&value)
}

/// An object as framed protobuf.
pub fn framed_value(value: &Value) -> Result<Bytes, Status> {
    protobuf::encode(value)
        .map(Bytes::from)
        .map_err(|error| Status::internal(error.to_string()))
}

/// A list of framed objects, framed itself: field 1 is the `ListMeta`, field 2 the items, in every list kind.
pub fn list(api_version: &str, kind: &str, meta: &ListMeta, items: &[Bytes]) -> Bytes {
    let meta = meta.encode();
    let raws: Vec<&[u8]> = items.iter().map(|item| raw(item)).collect();
    let raw_len = field_len(meta.len()) + raws.iter().map(|raw| field_len(raw.len())).sum::<usize>();
    let mut type_meta = Vec::new();
    put_field(&mut type_meta, 1, api_version.as_bytes());
    put_field(&mut type_meta, 2, kind.as_bytes());
    let mut out = Vec::with_capacity(raw_len + type_meta.len() + 32);
    out.extend_from_slice(MAGIC);
    put_field(&mut out, 1, &type_meta);
    out.push((2 << 3) | 2);
    put_varint(&mut out, raw_len as u64);
    put_field(&mut out, 1, &meta);
    for raw in raws {
        put_field(&mut out, 2, raw);
    }
    put_field(&mut out, 3, b"");
    put_field(&mut out, 4, b"");
    out.into()
}

/// `meta.v1.ListMeta`.
#[derive(Clone, Debug, Default)]
pub struct ListMeta {
    pub resource_version: String,
    pub next: String,
    pub remaining: Option<i64>,
}

impl ListMeta {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_field(&mut out, 1, b"");
        put_field(&mut out, 2, self.resource_version.as_bytes());
        put_field(&mut out, 3, self.next.as_bytes());
        if let Some(remaining) = self.remaining {
            out.push(4 << 3);
            put_varint(&mut out, remaining.cast_unsigned());
        }
        out
    }
}

/// The `raw` field of a framed object.
fn raw(framed: &[u8]) -> &[u8] {
    let mut rest = framed.strip_prefix(MAGIC).unwrap_or(framed);
    while let Some((&tag, after)) = rest.split_first() {
        let Some((length, after)) = varint(after) else {
            break;
        };
        let Some((value, after)) = after.split_at_checked(length) else {
            break;
        };
        if tag == (2 << 3) | 2 {
            return value;
        }
        rest = after;
    }
    &[]
}

fn varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0_usize;
    for (position, byte) in bytes.iter().enumerate().take(10) {
        value |= usize::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[position + 1..]));
        }
    }
    None
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push((number << 3) | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn field_len(length: usize) -> usize {
    let varint = (usize::BITS - length.leading_zeros()).max(1).div_ceil(7) as usize;
    1 + varint + length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_holds_its_items_raw_bytes() {
        let mut unknown = MAGIC.to_vec();
        put_field(&mut unknown, 1, b"type");
        put_field(&mut unknown, 2, &[7; 300]);
        assert_eq!(raw(&unknown), &[7; 300]);
        let meta = ListMeta {
            resource_version: "12".to_owned(),
            ..ListMeta::default()
        };
        let list = list("v1", "PodList", &meta, &[unknown.clone().into(), unknown.into()]);
        let inner = raw(&list);
        let want = field_len(meta.encode().len()) + 2 * field_len(300);
        assert_eq!(inner.len(), want);
        assert!(list.ends_with(&[0x1a, 0, 0x22, 0]));
    }
}
