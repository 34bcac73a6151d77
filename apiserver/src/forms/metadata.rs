//! `PartialObjectMetadata`: the metadata cut out of the object's bytes.

use bytes::{Bytes, BytesMut};

use crate::storage::codec::member;

const HEAD: &[u8] = br#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":"#;

/// The metadata's JSON within the object's.
pub fn of(object: &[u8]) -> &[u8] {
    member(object, 0, "metadata").map_or(b"{}", |range| &object[range])
}

/// The object's metadata as an object of its own.
pub fn partial(object: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    write_partial(of(object), &mut out);
    out.freeze()
}

/// Appends metadata as an object of its own.
pub fn write_partial(metadata: &[u8], out: &mut BytesMut) {
    out.reserve(HEAD.len() + metadata.len() + 1);
    out.extend_from_slice(HEAD);
    out.extend_from_slice(metadata);
    out.extend_from_slice(b"}");
}

/// Appends an item of a `PartialObjectMetadataList`, whose items carry no type.
pub fn write_item(metadata: &[u8], out: &mut BytesMut) {
    out.extend_from_slice(b"{\"metadata\":");
    out.extend_from_slice(metadata);
    out.extend_from_slice(b"}");
}
