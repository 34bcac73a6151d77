//! Lists: a header, the objects' own bytes, a footer; made as the connection takes them.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderValue, StatusCode, header};
use keelson_machinery::{Status, Value};
use keelson_schema::yaml;

use super::protobuf::{self, ListMeta};
use super::{View, metadata, object, table};
use crate::cache::Entry;
use crate::limits::GZIP_BYTES_MIN;
use crate::registry::Served;
use crate::wire::body::{self, Body, Response};
use crate::wire::negotiate::{Encoding, Form, Shape};
use crate::wire::pretty::pretty;

/// The answer that carries a list.
pub fn respond(
    served: &Arc<Served>,
    entries: Vec<Arc<Entry>>,
    meta: &ListMeta,
    form: Form,
    view: View,
) -> Result<Response, Status> {
    if form.encoding == Encoding::Protobuf {
        let bytes = in_protobuf(served, &entries, meta, form)?;
        return Ok(whole(bytes, form));
    }
    let size: usize = entries.iter().map(|entry| entry.json.len()).sum();
    let pieces = in_json(served, entries, meta, form, view);
    if form.encoding == Encoding::Yaml || form.pretty {
        let text: Vec<u8> = pieces.flatten().collect();
        let text = match form.encoding {
            Encoding::Yaml => {
                let value: Value =
                    serde_json::from_slice(&text).map_err(|error| Status::internal(error.to_string()))?;
                yaml::to_string(&value).into()
            }
            _ => pretty(text.trim_ascii_end()),
        };
        return Ok(whole(text.into(), form));
    }
    let mut response = body::response(StatusCode::OK, form.encoding.content_type(), Body::Empty);
    *response.body_mut() = if form.gzip && size >= GZIP_BYTES_MIN {
        response
            .headers_mut()
            .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        Body::pieces(gzip(pieces))
    } else {
        Body::pieces(pieces)
    };
    response
        .headers_mut()
        .insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    Ok(response)
}

fn whole(bytes: Bytes, form: Form) -> Response {
    body::response(StatusCode::OK, form.encoding.content_type(), Body::whole(bytes))
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

fn in_json(
    served: &Arc<Served>,
    entries: Vec<Arc<Entry>>,
    meta: &ListMeta,
    form: Form,
    view: View,
) -> impl Iterator<Item = Bytes> + Send + use<> {
    let meta = meta_json(meta);
    let (head, foot) = match form.shape {
        Shape::Whole => (
            format!(
                r#"{{"kind":"{}","apiVersion":"{}","metadata":{meta},"items":["#,
                served.list_kind, served.api_version
            ),
            "]}\n",
        ),
        Shape::Metadata => (
            format!(
                r#"{{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{meta},"items":["#
            ),
            "]}\n",
        ),
        Shape::Table => (table::head(served, &meta, true), "]}\n"),
    };
    let served = served.clone();
    let items = entries.into_iter().enumerate().flat_map(move |(index, entry)| {
        let comma = (index > 0).then_some(Bytes::from_static(b","));
        comma.into_iter().chain(item(&served, &entry, form.shape, view))
    });
    std::iter::once(Bytes::from(head))
        .chain(items)
        .chain(std::iter::once(Bytes::from_static(foot.as_bytes())))
}

/// The pieces of one item: typed lists' items carry no type of their own.
fn item(served: &Served, entry: &Entry, shape: Shape, view: View) -> Vec<Bytes> {
    match shape {
        Shape::Whole => {
            let json = object::versioned(served, &entry.json);
            let cut = served.head.len();
            match json.starts_with(served.head.as_bytes()) {
                true => vec![Bytes::from_static(b"{"), json.slice(cut..)],
                false => vec![json],
            }
        }
        Shape::Metadata => vec![metadata::item(&entry.json)],
        Shape::Table => vec![table::row(served, &entry.json, view).into()],
    }
}

fn in_protobuf(
    served: &Served,
    entries: &[Arc<Entry>],
    meta: &ListMeta,
    form: Form,
) -> Result<Bytes, Status> {
    let items: Vec<Bytes> = entries
        .iter()
        .map(|entry| match form.shape {
            Shape::Metadata => protobuf::framed(&metadata::partial(&entry.json)),
            _ => protobuf::framed(&object::versioned(served, &entry.json)),
        })
        .collect::<Result<_, _>>()?;
    Ok(match form.shape {
        Shape::Metadata => protobuf::list("meta.k8s.io/v1", "PartialObjectMetadataList", meta, &items),
        _ => protobuf::list(&served.api_version, &served.list_kind, meta, &items),
    })
}

/// Upstream's level for lists.
const GZIP_LEVEL: Compression = Compression::new(4);

/// Compresses piece by piece.
fn gzip(pieces: impl Iterator<Item = Bytes>) -> impl Iterator<Item = Bytes> {
    let mut encoder = Some(GzEncoder::new(Vec::new(), GZIP_LEVEL));
    let mut pieces = pieces;
    std::iter::from_fn(move || {
        let mut writer = encoder.take()?;
        // Writing to a Vec cannot fail; the encoder's own errors are those of its writer.
        for piece in pieces.by_ref() {
            let _ = writer.write_all(&piece);
            if writer.get_ref().len() >= crate::limits::FRAME_BYTES {
                let ready = std::mem::take(writer.get_mut());
                encoder = Some(writer);
                return Some(Bytes::from(ready));
            }
        }
        writer.finish().ok().map(Bytes::from)
    })
}
