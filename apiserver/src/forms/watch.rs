//! Frames of a watch stream.

use bytes::{Bytes, BytesMut};
use keelson_machinery::{Status, Value};
use keelson_schema::{protobuf as schema_protobuf, yaml};

use super::protobuf::{Frame, Raw};
use super::{View, metadata, object, protobuf, table};
use crate::cache::entry::{Entry, Event, EventType, FrameKind};
use crate::registry::Served;
use crate::wire::negotiate::{Encoding, Form, Shape};

/// Makes the frames of one watch.
#[derive(Debug)]
pub struct Framer {
    form: Form,
    view: View,
    /// Whether a table's columns were sent.
    columns_sent: bool,
}

impl Framer {
    pub fn new(form: Form, view: View) -> Self {
        Self {
            form,
            view,
            columns_sent: false,
        }
    }

    pub fn shape(&self) -> Shape {
        self.form.shape
    }

    /// Ages are counted to here from now on.
    pub fn set_now(&mut self, now: jiff::Timestamp) {
        self.view.now = now;
    }

    /// A change; `None` of one from nothing to nothing.
    pub fn event(
        &mut self,
        served: &Served,
        event: &Event,
        kind: EventType,
    ) -> Result<Option<Bytes>, Status> {
        let Some(entry) = event.object(kind) else {
            return Ok(None);
        };
        let frame_kind = match (self.form.encoding, self.form.shape) {
            // Only the cached version's form is the same for every watcher.
            _ if served.conversion.is_some() => None,
            (Encoding::Json, Shape::Whole) => Some(FrameKind::Json),
            (Encoding::Json, Shape::Metadata) => Some(FrameKind::MetadataJson),
            (Encoding::Protobuf, Shape::Whole) => Some(FrameKind::Protobuf),
            (Encoding::Protobuf, Shape::Metadata) => Some(FrameKind::MetadataProtobuf),
            _ => None,
        };
        let mut make = || {
            let mut out = BytesMut::with_capacity(entry.json.len() + 64);
            self.write(served, kind.as_str(), entry, &mut out)?;
            Ok(out.freeze())
        };
        match frame_kind {
            Some(frame_kind) => event.frame(frame_kind, kind, make),
            None => make(),
        }
        .map(Some)
    }

    /// Appends an object of the initial state.
    pub fn initial(&mut self, served: &Served, entry: &Entry, out: &mut BytesMut) -> Result<(), Status> {
        self.write(served, "ADDED", entry, out)
    }

    fn write(
        &mut self,
        served: &Served,
        kind: &str,
        entry: &Entry,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let (encoding, shape) = (self.form.encoding, self.form.shape);
        match (encoding, shape) {
            (Encoding::Json, Shape::Whole | Shape::Metadata) => {
                open(kind, out);
                match shape {
                    Shape::Metadata => metadata::write_partial(entry.metadata(), out),
                    _ => out.extend_from_slice(&object::versioned(served, &entry.json)),
                }
                out.extend_from_slice(CLOSE);
            }
            (Encoding::Protobuf, Shape::Whole | Shape::Metadata) => {
                let raw = Raw::of(served, entry, shape)?;
                Frame::of(served, shape).event(kind, &raw, out);
            }
            _ => {
                let json = match shape {
                    Shape::Whole => object::versioned(served, &entry.json),
                    Shape::Metadata => metadata::partial(&entry.json),
                    Shape::Table => {
                        let first = !std::mem::replace(&mut self.columns_sent, true);
                        table::of_event(served, entry, self.view, first)
                    }
                };
                out.extend_from_slice(&self.wrap(kind, &json)?);
            }
        }
        Ok(())
    }

    /// How far the stream has come; `initial_end` ends the initial events.
    pub fn bookmark(&self, served: &Served, revision: i64, initial_end: bool) -> Result<Bytes, Status> {
        let annotations = match initial_end {
            true => r#","annotations":{"k8s.io/initial-events-end":"true"}"#,
            false => "",
        };
        let meta = format!(r#"{{"resourceVersion":"{revision}"{annotations}}}"#);
        let json: Bytes = match self.form.shape {
            Shape::Whole => format!("{}\"metadata\":{meta}}}", served.head).into(),
            Shape::Metadata => metadata::partial(format!(r#"{{"metadata":{meta}}}"#).as_bytes()),
            Shape::Table => table::bookmark(served, &format!(r#"{{"resourceVersion":"{revision}"}}"#)),
        };
        self.wrap("BOOKMARK", &json)
    }

    /// The end of a stream that cannot go on.
    pub fn error(&self, status: &Status) -> Bytes {
        let json = object::plain_json(&status.to_value());
        self.wrap("ERROR", &json).unwrap_or_default()
    }

    fn wrap(&self, kind: &str, json: &[u8]) -> Result<Bytes, Status> {
        match self.form.encoding {
            Encoding::Json => {
                let mut out = BytesMut::with_capacity(json.len() + 40);
                open(kind, &mut out);
                out.extend_from_slice(json);
                out.extend_from_slice(CLOSE);
                Ok(out.freeze())
            }
            Encoding::Protobuf => {
                let framed = protobuf::framed(json)?;
                Ok(schema_protobuf::encode_watch_event(kind, &framed).into())
            }
            Encoding::Yaml => {
                let value: Value =
                    serde_json::from_slice(json).map_err(|error| Status::internal(error.to_string()))?;
                let event = serde_json::json!({"type": kind, "object": value});
                Ok(format!("{}---\n", yaml::to_string(&event)).into())
            }
        }
    }
}

/// What stands around the object of a JSON frame.
fn open(kind: &str, out: &mut BytesMut) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
}

const CLOSE: &[u8] = b"}\n";

/// The content type of a watch.
pub fn content_type(form: Form) -> &'static str {
    match form.encoding {
        Encoding::Json => "application/json",
        Encoding::Yaml => "application/yaml;stream=watch",
        Encoding::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
    }
}
