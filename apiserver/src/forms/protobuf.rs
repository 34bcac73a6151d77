//! Protobuf framing around messages that are kept: lists and events are put together without holding their objects twice.

use bytes::{BufMut, Bytes, BytesMut};
use keelson_machinery::{Status, Value};
use keelson_schema::protobuf;

use super::message::Message;
use crate::cache::Entry;
use crate::registry::Served;
use crate::wire::negotiate::Shape;

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

/// An object's raw message, from what is kept of it or converted for this once.
pub enum Raw<'a> {
    Kept(&'a Message, &'a [u8]),
    Metadata(&'a Message, &'a [u8]),
    Converted(Vec<u8>),
}

impl<'a> Raw<'a> {
    /// The message of an object in the version of the request, or of its metadata.
    ///
    /// # Errors
    /// A kind without protobuf form.
    pub fn of(served: &Served, entry: &'a Entry, shape: Shape) -> Result<Self, Status> {
        let kept = || entry.message(|entry| Message::of(&entry.json, entry.metadata_range(), served.hub.def));
        match (&served.conversion, shape) {
            (_, Shape::Metadata) => Ok(Self::Metadata(kept()?, &entry.json)),
            (None, _) => Ok(Self::Kept(kept()?, &entry.json)),
            (Some(conversion), _) => {
                let mut value = Value::clone(&entry.value());
                (conversion.from_hub)(&mut value);
                let raw = protobuf::encode_as(&value, served.def);
                raw.map(Self::Converted)
                    .map_err(|error| Status::internal(error.to_string()))
            }
        }
    }

    pub fn length(&self) -> usize {
        match self {
            Self::Kept(message, _) => message.length(),
            Self::Metadata(message, _) => message.metadata_length(),
            Self::Converted(raw) => raw.len(),
        }
    }

    pub fn write(&self, out: &mut BytesMut) {
        match self {
            Self::Kept(message, json) => message.write(json, out),
            Self::Metadata(message, json) => message.write_metadata(json, out),
            Self::Converted(raw) => out.extend_from_slice(raw),
        }
    }
}

/// What stands around a raw message: `k8s\0`, then a `runtime.Unknown` of type and message.
#[derive(Clone, Debug)]
pub struct Frame {
    type_meta: Vec<u8>,
}

/// The last two fields of a `runtime.Unknown`, which upstream writes empty.
const CLOSE: &[u8] = &[(3 << 3) | 2, 0, (4 << 3) | 2, 0];

impl Frame {
    pub fn new(api_version: &str, kind: &str) -> Self {
        let mut type_meta = Vec::new();
        put_field(&mut type_meta, 1, api_version.as_bytes());
        put_field(&mut type_meta, 2, kind.as_bytes());
        Self { type_meta }
    }

    /// The frame of a resource's objects in a shape.
    pub fn of(served: &Served, shape: Shape) -> Self {
        match shape {
            Shape::Metadata => Self::new("meta.k8s.io/v1", "PartialObjectMetadata"),
            _ => Self::new(&served.api_version, &served.gvk.kind),
        }
    }

    /// Bytes of a framed message of this length.
    fn len(&self, raw: usize) -> usize {
        protobuf::MAGIC.len() + field_len(self.type_meta.len()) + field_len(raw) + CLOSE.len()
    }

    /// Everything before the message.
    fn open(&self, raw: usize, out: &mut impl BufMut) {
        out.put_slice(protobuf::MAGIC);
        put_field(out, 1, &self.type_meta);
        put_head(out, 2, raw);
    }

    /// A framed object.
    pub fn object(&self, raw: &Raw<'_>) -> Bytes {
        let mut out = BytesMut::with_capacity(self.len(raw.length()));
        self.open(raw.length(), &mut out);
        raw.write(&mut out);
        out.put_slice(CLOSE);
        out.freeze()
    }

    /// Appends an event of a watch stream: its length, then `WatchEvent{type, object{raw}}`.
    pub fn event(&self, kind: &str, raw: &Raw<'_>, out: &mut BytesMut) {
        let framed = self.len(raw.length());
        let object = field_len(framed);
        let event = field_len(kind.len()) + field_len(object);
        out.put_u32(u32::try_from(event).unwrap_or(u32::MAX));
        put_field(out, 1, kind.as_bytes());
        put_head(out, 2, object);
        put_head(out, 1, framed);
        self.open(raw.length(), out);
        raw.write(out);
        out.put_slice(CLOSE);
    }
}

/// A list around items that are appended one by one: field 1 is the `ListMeta`, field 2 each item, in every list kind.
pub struct List {
    frame: Frame,
    meta: Vec<u8>,
    /// Bytes of all items with their tags and lengths.
    items: usize,
}

impl List {
    pub fn new(api_version: &str, kind: &str, meta: &ListMeta) -> Self {
        Self {
            frame: Frame::new(api_version, kind),
            meta: meta.encode(),
            items: 0,
        }
    }

    /// Reckons with an item of this length.
    pub fn expect(&mut self, item: usize) {
        self.items += field_len(item);
    }

    /// Everything before the items, once all are reckoned with.
    pub fn head(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.meta.len() + 128);
        self.frame.open(field_len(self.meta.len()) + self.items, &mut out);
        put_field(&mut out, 1, &self.meta);
        out.freeze()
    }

    /// Appends an item.
    pub fn item(raw: &Raw<'_>, out: &mut BytesMut) {
        put_head(out, 2, raw.length());
        raw.write(out);
    }

    /// Everything after the items.
    pub fn foot() -> Bytes {
        Bytes::from_static(CLOSE)
    }
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
            out.put_u8(4 << 3);
            put_varint(&mut out, remaining.cast_unsigned());
        }
        out
    }
}

fn put_varint(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value as u8) | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Tag and length of a field of bytes.
fn put_head(out: &mut impl BufMut, number: u8, length: usize) {
    out.put_u8((number << 3) | 2);
    put_varint(out, length as u64);
}

fn put_field(out: &mut impl BufMut, number: u8, bytes: &[u8]) {
    put_head(out, number, bytes.len());
    out.put_slice(bytes);
}

fn field_len(length: usize) -> usize {
    let varint = (usize::BITS - length.leading_zeros()).max(1).div_ceil(7) as usize;
    1 + varint + length
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_is_what_the_encoder_of_whole_lists_makes() {
        let pods = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "12"}, "items": [
            {"metadata": {"name": "a"}}, {"metadata": {"name": "b".repeat(200)}}]});
        let meta = ListMeta {
            resource_version: "12".to_owned(),
            ..ListMeta::default()
        };
        let def = keelson_schema::types::of("", "v1", "Pod").unwrap();
        let raws: Vec<Raw<'_>> = pods["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pod| Raw::Converted(protobuf::encode_as(pod, def).unwrap()))
            .collect();
        let mut list = List::new("v1", "PodList", &meta);
        raws.iter().for_each(|raw| list.expect(raw.length()));
        let mut out = BytesMut::from(&list.head()[..]);
        raws.iter().for_each(|raw| List::item(raw, &mut out));
        out.extend_from_slice(&List::foot());
        assert_eq!(&out[..], protobuf::encode(&pods).unwrap());
    }

    #[test]
    fn objects_and_events_are_framed_as_the_encoder_frames_them() {
        for size in [0, 3, 100, 127, 128, 20_000] {
            let bytes = vec![7; size];
            let raw = Raw::Converted(bytes.clone());
            let frame = Frame::new("v1", "Pod");
            let framed = protobuf::frame("v1", "Pod", &bytes);
            assert_eq!(&frame.object(&raw)[..], framed, "{size}");
            let mut event = BytesMut::new();
            frame.event("ADDED", &raw, &mut event);
            assert_eq!(
                &event[..],
                protobuf::encode_watch_event("ADDED", &framed),
                "{size}"
            );
        }
    }
}
