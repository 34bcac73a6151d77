//! Lists: a header, the objects' own bytes, a footer; made as the connection takes them.
//!
//! A reader holds a share of the list of objects, which all readers of one state have in common, and one piece.

use std::io::Write;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderValue, StatusCode, header};
use keelson_machinery::{Status, Value};
use keelson_schema::yaml;

use super::protobuf::{List, ListMeta, Raw};
use super::{View, metadata, object, table};
use crate::cache::Entry;
use crate::limits::{FRAME_BYTES, GZIP_BYTES_MIN, LIST_TURN};
use crate::registry::Served;
use crate::wire::body::{self, Body, Response};
use crate::wire::negotiate::{Encoding, Form, Shape};
use crate::wire::pretty::pretty;

/// The objects of a list, shared by all who read the same state.
pub type Entries = Arc<Vec<Arc<Entry>>>;

/// The answer that carries a list.
pub async fn respond(
    served: &Arc<Served>,
    entries: Entries,
    meta: &ListMeta,
    form: Form,
    view: View,
) -> Result<Response, Status> {
    if form.encoding == Encoding::Protobuf {
        let pieces = in_protobuf(served, entries, meta, form.shape).await?;
        return Ok(made(form, Body::pieces(pieces)));
    }
    let large = form.gzip && entries.iter().map(|entry| entry.json.len()).sum::<usize>() >= GZIP_BYTES_MIN;
    let mut pieces = in_json(served, entries, meta, form, view);
    if form.encoding == Encoding::Yaml || form.pretty {
        let mut text = BytesMut::new();
        while pieces(&mut text) {}
        let text = match form.encoding {
            Encoding::Yaml => {
                let value: Value =
                    serde_json::from_slice(&text).map_err(|error| Status::internal(error.to_string()))?;
                yaml::to_string(&value).into()
            }
            _ => pretty(text.trim_ascii_end()),
        };
        return Ok(made(form, Body::whole(text)));
    }
    let mut response = match large {
        true => {
            let mut response = made(form, Body::pieces(gzip(pieces)));
            let gzip = HeaderValue::from_static("gzip");
            response.headers_mut().insert(header::CONTENT_ENCODING, gzip);
            response
        }
        false => made(form, Body::pieces(pieces)),
    };
    response
        .headers_mut()
        .insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    Ok(response)
}

fn made(form: Form, body: Body) -> Response {
    body::response(StatusCode::OK, form.encoding.content_type(), body)
}

/// `ListMeta` as JSON.
pub fn meta_json(meta: &ListMeta) -> String {
    let mut out = format!(r#"{{"resourceVersion":"{}""#, meta.resource_version);
    if !meta.next.is_empty() {
        out.push_str(&format!(r#","continue":"{}""#, meta.next));
    }
    if let Some(remaining) = meta.remaining {
        out.push_str(&format!(r#","remainingItemCount":{remaining}"#));
    }
    out.push('}');
    out
}

/// Head, items and foot as pieces: `item` appends one entry, told whether it is the first.
fn pieces(
    head: Bytes,
    entries: Entries,
    foot: Bytes,
    mut item: impl FnMut(&Entry, bool, &mut BytesMut) + Send + 'static,
) -> impl FnMut(&mut BytesMut) -> bool + Send + 'static {
    let (mut head, mut foot) = (Some(head), Some(foot));
    let mut next = 0;
    move |out| {
        if let Some(head) = head.take() {
            out.extend_from_slice(&head);
        } else if let Some(entry) = entries.get(next) {
            item(entry, next == 0, out);
            next += 1;
        } else if let Some(foot) = foot.take() {
            out.extend_from_slice(&foot);
        } else {
            return false;
        }
        true
    }
}

fn in_json(
    served: &Arc<Served>,
    entries: Entries,
    meta: &ListMeta,
    form: Form,
    view: View,
) -> impl FnMut(&mut BytesMut) -> bool + Send + use<> {
    let meta = meta_json(meta);
    let head = match form.shape {
        Shape::Whole => format!(
            r#"{{"kind":"{}","apiVersion":"{}","metadata":{meta},"items":["#,
            served.list_kind, served.api_version
        ),
        Shape::Metadata => format!(
            r#"{{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{meta},"items":["#
        ),
        Shape::Table => table::head(served, &meta, true),
    };
    let served = served.clone();
    let foot = Bytes::from_static(b"]}\n");
    pieces(head.into(), entries, foot, move |entry, first, out| {
        if !first {
            out.extend_from_slice(b",");
        }
        match form.shape {
            Shape::Whole => write_item(&served, entry, out),
            Shape::Metadata => metadata::write_item(entry.metadata(), out),
            Shape::Table => table::write_row(&served, entry, view, out),
        }
    })
}

/// Appends one item: typed lists' items carry no type of their own.
fn write_item(served: &Served, entry: &Entry, out: &mut BytesMut) {
    let json = object::versioned(served, &entry.json);
    match json.strip_prefix(served.head.as_bytes()) {
        Some(rest) => {
            out.extend_from_slice(b"{");
            out.extend_from_slice(rest);
        }
        None => out.extend_from_slice(&json),
    }
}

/// A list in protobuf says its length first: messages not yet kept are made before the first byte is sent.
async fn in_protobuf(
    served: &Arc<Served>,
    entries: Entries,
    meta: &ListMeta,
    shape: Shape,
) -> Result<impl FnMut(&mut BytesMut) -> bool + Send + use<>, Status> {
    let mut list = match shape {
        Shape::Metadata => List::new("meta.k8s.io/v1", "PartialObjectMetadataList", meta),
        _ => List::new(&served.api_version, &served.list_kind, meta),
    };
    for some in entries.chunks(LIST_TURN) {
        for entry in some {
            list.expect(Raw::of(served, entry, shape)?.length());
        }
        // Many messages take long to make: others have their turn in between.
        tokio::task::yield_now().await;
    }
    let served = served.clone();
    Ok(pieces(
        list.head(),
        entries,
        List::foot(),
        move |entry, _, out| {
            let raw = Raw::of(&served, entry, shape).expect("its length was told, so it can be made");
            List::item(&raw, out);
        },
    ))
}

/// Upstream's level for lists.
const GZIP_LEVEL: Compression = Compression::new(1);

/// Compresses piece by piece.
fn gzip(
    mut pieces: impl FnMut(&mut BytesMut) -> bool + Send + 'static,
) -> impl FnMut(&mut BytesMut) -> bool + Send + 'static {
    let mut encoder = Some(GzEncoder::new(Vec::new(), GZIP_LEVEL));
    let mut plain = BytesMut::new();
    move |out| {
        let Some(mut writer) = encoder.take() else {
            return false;
        };
        // Writing to a Vec cannot fail; the encoder's own errors are those of its writer.
        while writer.get_ref().len() < FRAME_BYTES {
            plain.clear();
            if !pieces(&mut plain) {
                out.extend_from_slice(&writer.finish().unwrap_or_default());
                return true;
            }
            let _ = writer.write_all(&plain);
        }
        out.extend_from_slice(writer.get_ref());
        writer.get_mut().clear();
        encoder = Some(writer);
        true
    }
}
