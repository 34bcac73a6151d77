//! OpenAPI as protobuf: gnostic's `openapi.v2.Document`, the form kubectl asks for, and `openapi.v3.Document`.
//!
//! Values are encoded by the tables of [`messages`] and [`messages_v3`]; entry by entry, so that no document stands in memory twice. A field no
//! table has is left out, as protobuf has no place for it; tests see to it that the documents have none.

mod messages;
mod messages_v3;

use keelson_schema::yaml;
use serde_json::{Map, Value};

use messages::{Kind, Message};

/// Wire types of protobuf.
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH_DELIMITED: u32 = 2;

/// A document written field by field, its sections entry by entry.
pub(crate) struct Protobuf {
    document: &'static Message,
    out: Vec<u8>,
    /// The sections being written, innermost last: each one's kind, and where its length goes.
    sections: Vec<(&'static Kind, usize)>,
}

impl Protobuf {
    /// A document of OpenAPI v2.
    pub(crate) fn v2() -> Self {
        Self::of(&messages::DOCUMENT)
    }

    /// A document of OpenAPI v3.
    pub(crate) fn v3() -> Self {
        Self::of(&messages_v3::DOCUMENT)
    }

    fn of(document: &'static Message) -> Self {
        Self {
            document,
            out: Vec::new(),
            sections: Vec::new(),
        }
    }
}

impl super::Writer for Protobuf {
    fn section(&mut self, key: &str) {
        let around = match self.sections.last() {
            Some((Kind::Message(message), _)) => message,
            _ => self.document,
        };
        if let Some((number, kind)) = around.field(key) {
            put_tag(&mut self.out, number, LENGTH_DELIMITED);
            self.sections.push((kind, self.out.len()));
        }
    }

    fn entry(&mut self, key: &str, value: &Value) {
        match self.sections.last() {
            Some((Kind::Message(message), _)) => message.put(&mut self.out, key, value),
            Some((kind, _)) => named(&mut self.out, key, value, kind),
            None => self.document.put(&mut self.out, key, value),
        }
    }

    fn close(&mut self) {
        if let Some((_, start)) = self.sections.pop() {
            put_length(&mut self.out, start);
        }
    }

    fn finish(self) -> Vec<u8> {
        self.out
    }
}

impl Message {
    fn field(&self, key: &str) -> Option<(u32, &'static Kind)> {
        let found = self.fields.iter().find(|(name, ..)| *name == key);
        found.map(|(_, number, kind)| (*number, kind))
    }

    /// Writes one field of this message.
    fn put(&self, out: &mut Vec<u8>, key: &str, value: &Value) {
        match self.field(key) {
            Some((number, kind)) => put(out, number, value, kind),
            None if is_extension(key) => extension(out, self.extensions, key, value),
            None => {}
        }
    }
}

/// Any other field of a vendor's choice.
fn is_extension(key: &str) -> bool {
    key.starts_with("x-")
}

fn put(out: &mut Vec<u8>, number: u32, value: &Value, kind: &'static Kind) {
    match kind {
        Kind::Text => put_text(out, number, value.as_str().unwrap_or_default()),
        Kind::Flag => {
            put_tag(out, number, VARINT);
            out.push(u8::from(value.as_bool().unwrap_or_default()));
        }
        Kind::Double => {
            put_tag(out, number, FIXED64);
            out.extend_from_slice(&value.as_f64().unwrap_or_default().to_le_bytes());
        }
        Kind::Nothing => {}
        Kind::Any => nested(out, number, |out| put_text(out, 2, &yaml::to_string(value))),
        Kind::Repeated(item) => match value {
            Value::Array(values) => values.iter().for_each(|value| put(out, number, value, item)),
            single => put(out, number, single, item),
        },
        Kind::Named { .. } => nested(out, number, |out| {
            for (key, value) in fields(value) {
                named(out, key, value, kind);
            }
        }),
        Kind::Message(message) => nested(out, number, |out| {
            for (key, value) in fields(value) {
                message.put(out, key, value);
            }
        }),
        Kind::Within(inner, kind) => nested(out, number, |out| put(out, *inner, value, kind)),
        Kind::Choice(choose) => put(out, number, value, choose(value)),
    }
}

fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

/// One entry of a map: a message of its name and its value.
fn named(out: &mut Vec<u8>, key: &str, value: &Value, map: &'static Kind) {
    let Kind::Named {
        entries,
        extensions,
        value: kind,
    } = map
    else {
        return;
    };
    if *extensions > 0 && is_extension(key) {
        return extension(out, *extensions, key, value);
    }
    nested(out, *entries, |out| {
        put_text(out, 1, key);
        put(out, 2, value, kind);
    });
}

fn extension(out: &mut Vec<u8>, number: u32, key: &str, value: &Value) {
    nested(out, number, |out| {
        put_text(out, 1, key);
        put(out, 2, value, &Kind::Any);
    });
}

fn put_text(out: &mut Vec<u8>, number: u32, text: &str) {
    put_tag(out, number, LENGTH_DELIMITED);
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// A message within, its length put before it once it is known.
fn nested(out: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    put_tag(out, number, LENGTH_DELIMITED);
    let start = out.len();
    write(out);
    put_length(out, start);
}

/// Puts the length of what was written since `start` before it.
fn put_length(out: &mut Vec<u8>, start: usize) {
    let mut length = Vec::with_capacity(5);
    put_varint(&mut length, (out.len() - start) as u64);
    out.splice(start..start, length);
}

fn put_tag(out: &mut Vec<u8>, number: u32, wire_type: u32) {
    put_varint(out, u64::from(number << 3 | wire_type));
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(0x80 | (value & 0x7F) as u8);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests;
