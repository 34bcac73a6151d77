//! Frames of a watch stream.

use bytes::Bytes;
use keelson_machinery::{Status, Value};
use keelson_schema::{protobuf as schema_protobuf, yaml};

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

    /// A change.
    pub fn event(&mut self, served: &Served, event: &Event, kind: EventType) -> Result<Bytes, Status> {
        let frame_kind = match (self.form.encoding, self.form.shape) {
            // Only the cached version's form is the same for every watcher.
            _ if served.conversion.is_some() => None,
            (Encoding::Json, Shape::Whole) => Some(FrameKind::Json),
            (Encoding::Json, Shape::Metadata) => Some(FrameKind::MetadataJson),
            (Encoding::Protobuf, Shape::Whole) => Some(FrameKind::Protobuf),
            (Encoding::Protobuf, Shape::Metadata) => Some(FrameKind::MetadataProtobuf),
            _ => None,
        };
        let Some(frame_kind) = frame_kind else {
            return self.frame(served, kind.as_str(), &event.object(kind));
        };
        let mut failure = None;
        let frame = event.frame(frame_kind, kind, |object| {
            self.frame(served, kind.as_str(), &object)
                .unwrap_or_else(|error| {
                    failure = Some(error);
                    Bytes::new()
                })
        });
        failure.map_or(Ok(frame), Err)
    }

    /// An object of the initial state.
    pub fn initial(&mut self, served: &Served, entry: &Entry) -> Result<Bytes, Status> {
        self.frame(served, "ADDED", &entry.json)
    }

    fn frame(&mut self, served: &Served, kind: &str, cached: &Bytes) -> Result<Bytes, Status> {
        let json = match self.form.shape {
            Shape::Whole => object::versioned(served, cached),
            Shape::Metadata => metadata::partial(cached),
            Shape::Table => {
                let first = !std::mem::replace(&mut self.columns_sent, true);
                table::of_event(served, cached, self.view, first)
            }
        };
        self.wrap(kind, &json)
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
                let mut out = Vec::with_capacity(json.len() + 40);
                out.extend_from_slice(b"{\"type\":\"");
                out.extend_from_slice(kind.as_bytes());
                out.extend_from_slice(b"\",\"object\":");
                out.extend_from_slice(json);
                out.extend_from_slice(b"}\n");
                Ok(out.into())
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

/// The content type of a watch.
pub fn content_type(form: Form) -> &'static str {
    match form.encoding {
        Encoding::Json => "application/json",
        Encoding::Yaml => "application/yaml;stream=watch",
        Encoding::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
    }
}
