//! An object's raw protobuf message, kept beside its JSON without keeping twice what both spell alike.
//!
//! Owned fields (`managedFields`) are JSON in protobuf too, often more than half of an object: those stretches are taken
//! out of the object's JSON when the message is written.
//!
//! Example: a message `AB{...}C` whose `{...}` stands in the JSON at 40..90 is kept as `ABC` and `(2, 40..90)`.

use std::ops::Range;

use bytes::BytesMut;
use keelson_machinery::Status;
use keelson_schema::protobuf;
use keelson_schema::types::TypeDef;
use memchr::memmem;

/// Shorter stretches are not worth a reference.
const SHARED_BYTES_MIN: usize = 64;

/// A message, to be written with the JSON it was made from.
#[derive(Debug)]
pub struct Message {
    own: Box<[u8]>,
    shared: Box<[Shared]>,
    length: usize,
    /// Bytes of `own` and of the whole that are field 1, the metadata, with its tag.
    metadata: (usize, usize),
}

/// A stretch of JSON that belongs in the message before `own[at]`.
#[derive(Debug)]
struct Shared {
    at: u32,
    json: Range<u32>,
}

impl Message {
    /// The message of the object that `json` spells; `metadata` is where its metadata stand there.
    ///
    /// # Errors
    /// A kind without protobuf form, or JSON that does not fit its kind.
    pub fn of(json: &[u8], metadata: Range<usize>, def: &TypeDef) -> Result<Self, Status> {
        let value = serde_json::from_slice(json).map_err(|error| Status::internal(error.to_string()))?;
        let raw = protobuf::encode_as(&value, def).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Self::sharing(&raw, json, metadata))
    }

    fn sharing(raw: &[u8], json: &[u8], metadata: Range<usize>) -> Self {
        let metadata_len = protobuf::metadata_len(raw);
        let mut own = Vec::with_capacity(raw.len() / 2);
        let mut shared = Vec::new();
        let (mut taken, mut from) = (0, metadata.start);
        for stretch in protobuf::owned_fields(raw) {
            if stretch.len() < SHARED_BYTES_MIN {
                continue;
            }
            let Some(found) = memmem::find(&json[from..metadata.end], &raw[stretch.clone()]) else {
                continue;
            };
            let start = from + found;
            from = start + stretch.len();
            own.extend_from_slice(&raw[taken..stretch.start]);
            taken = stretch.end;
            // An object is at most some megabytes long.
            let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
            shared.push(Shared {
                at: place(own.len()),
                json: place(start)..place(from),
            });
        }
        let metadata_own = own.len() + metadata_len.saturating_sub(taken);
        own.extend_from_slice(&raw[taken..]);
        Self {
            own: own.into(),
            shared: shared.into(),
            length: raw.len(),
            metadata: (metadata_own, metadata_len),
        }
    }

    /// Bytes of the whole message.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Appends the whole message.
    pub fn write(&self, json: &[u8], out: &mut BytesMut) {
        self.write_until(self.own.len(), json, out);
    }

    /// Bytes of the message of the object's `PartialObjectMetadata`.
    pub fn metadata_length(&self) -> usize {
        self.metadata.1
    }

    /// Appends the message of the object's `PartialObjectMetadata`: its field 1 is the object's own.
    pub fn write_metadata(&self, json: &[u8], out: &mut BytesMut) {
        self.write_until(self.metadata.0, json, out);
    }

    fn write_until(&self, end: usize, json: &[u8], out: &mut BytesMut) {
        let mut written = 0;
        for stretch in &self.shared {
            out.extend_from_slice(&self.own[written..stretch.at as usize]);
            written = stretch.at as usize;
            out.extend_from_slice(&json[stretch.json.start as usize..stretch.json.end as usize]);
        }
        out.extend_from_slice(&self.own[written..end]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keelson_schema::{json, types};
    use serde_json::{Value, json};

    fn pod(owned: &[Value]) -> Value {
        let entries: Vec<Value> = owned
            .iter()
            .map(|fields| {
                json!({"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
                    "fieldsV1": fields})
            })
            .collect();
        json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p", "managedFields": entries},
            "spec": {"containers": [{"name": "c", "image": "i"}]}})
    }

    fn check(pod: &Value, shared: usize) {
        let def = types::of("", "v1", "Pod").unwrap();
        let text = json::to_vec(pod, def);
        let metadata = crate::storage::codec::member(&text, 0, "metadata").unwrap();
        let message = Message::of(&text, metadata, def).unwrap();
        let whole = protobuf::encode_as(pod, def).unwrap();
        let mut out = BytesMut::new();
        message.write(&text, &mut out);
        assert_eq!(&out[..], whole);
        assert_eq!(message.length(), whole.len());
        assert_eq!(message.shared.len(), shared);
        let partial = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
            "metadata": pod["metadata"]});
        let partial_def = types::of("meta.k8s.io", "v1", "PartialObjectMetadata").unwrap();
        let whole = protobuf::encode_as(&partial, partial_def).unwrap();
        out.clear();
        message.write_metadata(&text, &mut out);
        assert_eq!(&out[..], whole);
        assert_eq!(message.metadata_length(), whole.len());
    }

    #[test]
    fn owned_fields_are_shared_with_the_json_and_the_message_is_whole() {
        let long =
            |letter: &str| json!({"f:metadata": {"f:labels": {format!("f:{}", letter.repeat(90)): {}}}});
        check(&pod(&[]), 0);
        check(&pod(&[json!({"f:spec": {}})]), 0);
        check(&pod(&[long("a")]), 1);
        // Equal stretches are told apart by their order.
        check(&pod(&[long("a"), json!({"f:x": {}}), long("a"), long("b")]), 3);
    }

    #[test]
    fn text_that_json_escapes_is_written_as_it_is_there() {
        let odd = json!({"f:metadata": {"f:annotations": {format!("f:{}<&>", "é".repeat(40)): {}}}});
        check(&pod(&[odd]), 1);
    }

    #[test]
    fn every_stored_kind_has_its_metadata_in_field_1() {
        for info in keelson_schema::resources::all() {
            if info.storage_prefix.is_empty() {
                continue;
            }
            let def = types::of_kind(&info.group_version_kind()).unwrap();
            let mut value = json!({"metadata": {"name": "x"}});
            value["kind"] = info.group_version_kind().kind.as_ref().into();
            let raw = protobuf::encode_as(&value, def).unwrap();
            let metadata = protobuf::metadata_len(&raw);
            assert!(memmem::find(&raw[..metadata], b"x").is_some(), "{}", def.name);
        }
    }
}
