//! `PartialObjectMetadata`: the metadata cut out of the object's bytes.

use bytes::Bytes;

use crate::storage::codec::member;

const HEAD: &str = r#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":"#;

/// The object's metadata as an object of its own.
pub fn partial(object: &[u8]) -> Bytes {
    let metadata = member(object, 0, "metadata").map_or(&b"{}"[..], |range| &object[range]);
    let mut out = Vec::with_capacity(HEAD.len() + metadata.len() + 1);
    out.extend_from_slice(HEAD.as_bytes());
    out.extend_from_slice(metadata);
    out.push(b'}');
    out.into()
}

/// The item of a `PartialObjectMetadataList`, whose items carry no type.
pub fn item(object: &[u8]) -> Bytes {
    let metadata = member(object, 0, "metadata").map_or(&b"{}"[..], |range| &object[range]);
    let mut out = Vec::with_capacity(metadata.len() + 16);
    out.extend_from_slice(b"{\"metadata\":");
    out.extend_from_slice(metadata);
    out.push(b'}');
    out.into()
}
