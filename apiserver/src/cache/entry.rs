//! One version of one object, and one change, with what was made of them for readers.
//!
//! An `Entry` never changes; what is computed from it on demand is kept beside it where that pays: the row of its table
//! and its protobuf message, which every later reader of this version shares.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use keelson_machinery::{Status, Value};

use crate::forms::message::Message;
use crate::forms::row::Row;
use crate::storage::codec;

/// A version of an object.
#[derive(Debug)]
pub struct Entry {
    /// `ns/name`, or `name`.
    pub key: Box<str>,
    pub revision: i64,
    /// The whole object as served, resourceVersion included.
    pub json: Bytes,
    metadata: Range<u32>,
    labels: Range<u32>,
    /// Selectable fields beyond name and namespace: `name=value\0` each.
    fields: Box<str>,
    /// The parsed object, of resources small and often read by the server itself.
    parsed: Option<OnceLock<Arc<Value>>>,
    row: OnceLock<Box<Row>>,
    message: OnceLock<Box<Message>>,
}

impl Entry {
    /// `keep_parsed`: whether the parsed form is worth its memory.
    pub fn new(
        key: &str,
        revision: i64,
        served: codec::Served,
        fields: &[(impl AsRef<str>, String)],
        keep_parsed: bool,
    ) -> Self {
        let mut joined = String::new();
        for (name, value) in fields {
            let name = name.as_ref();
            if !value.is_empty() && name != "metadata.name" && name != "metadata.namespace" {
                joined.extend([name, "=", value, "\0"]);
            }
        }
        Self {
            key: key.into(),
            revision,
            json: served.json,
            metadata: served.metadata,
            labels: served.labels,
            fields: joined.into(),
            parsed: keep_parsed.then(OnceLock::new),
            row: OnceLock::new(),
            message: OnceLock::new(),
        }
    }

    /// The same object at the revision of its deletion; of an object without metadata, which has no revision, a copy.
    fn at(&self, revision: i64) -> Self {
        let same = || codec::Served {
            json: self.json.clone(),
            metadata: self.metadata.clone(),
            labels: self.labels.clone(),
        };
        let served = codec::with_revision(&self.json, revision).unwrap_or_else(same);
        Self {
            key: self.key.clone(),
            revision,
            json: served.json,
            metadata: served.metadata,
            labels: served.labels,
            fields: self.fields.clone(),
            parsed: None,
            row: OnceLock::new(),
            message: OnceLock::new(),
        }
    }

    pub fn namespace(&self) -> &str {
        self.key.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    pub fn name(&self) -> &str {
        self.key.split_once('/').map_or(&*self.key, |(_, name)| name)
    }

    /// A selectable field; `None` reads as empty.
    pub fn field(&self, name: &str) -> Option<&str> {
        match name {
            "metadata.name" => return Some(self.name()),
            "metadata.namespace" => return Some(self.namespace()),
            _ => {}
        }
        self.fields
            .split('\0')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    /// The labels as a map, or null.
    pub fn labels(&self) -> Value {
        let range = self.labels.start as usize..self.labels.end as usize;
        serde_json::from_slice(&self.json[range]).unwrap_or(Value::Null)
    }

    /// The metadata's JSON.
    pub fn metadata(&self) -> &[u8] {
        &self.json[self.metadata_range()]
    }

    /// Where the metadata stand in the JSON.
    pub fn metadata_range(&self) -> Range<usize> {
        self.metadata.start as usize..self.metadata.end as usize
    }

    /// The object parsed.
    pub fn value(&self) -> Arc<Value> {
        let parse = || Arc::new(serde_json::from_slice(&self.json).unwrap_or(Value::Null));
        match &self.parsed {
            Some(kept) => kept.get_or_init(parse).clone(),
            None => parse(),
        }
    }

    /// The object's table row, if it was made.
    pub fn row(&self) -> Option<&Row> {
        self.row.get().map(Box::as_ref)
    }

    /// Keeps the object's table row for later readers.
    pub fn keep_row(&self, row: Row) {
        // A row that another reader kept meanwhile is the same.
        let _ = self.row.set(Box::new(row));
    }

    /// The object's protobuf message, made once.
    ///
    /// # Errors
    /// What `make` cannot encode; nothing is kept then.
    pub fn message(&self, make: impl FnOnce(&Self) -> Result<Message, Status>) -> Result<&Message, Status> {
        if let Some(kept) = self.message.get() {
            return Ok(kept);
        }
        let made = make(self)?;
        Ok(self.message.get_or_init(|| Box::new(made)))
    }
}

/// A change of one object.
#[derive(Debug)]
pub struct Event {
    pub revision: i64,
    pub old: Option<Arc<Entry>>,
    pub new: Option<Arc<Entry>>,
    /// What the change took away, at the revision of the change.
    gone: OnceLock<Arc<Entry>>,
    frames: [OnceLock<Bytes>; FRAME_KINDS],
}

/// Encodings worth keeping per event: they are the same for every watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    Json,
    Protobuf,
    MetadataJson,
    MetadataProtobuf,
}

const FRAME_KINDS: usize = 4;

/// What a watcher is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    Added,
    Modified,
    Deleted,
}

impl EventType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

impl Event {
    /// A change from one state to another; one of them may be none.
    pub fn new(revision: i64, old: Option<Arc<Entry>>, new: Option<Arc<Entry>>) -> Self {
        Self {
            revision,
            old,
            new,
            gone: OnceLock::new(),
            frames: Default::default(),
        }
    }

    /// The change as it happened, before any selection.
    pub fn natural_type(&self) -> EventType {
        match (&self.old, &self.new) {
            (None, _) => EventType::Added,
            (Some(_), Some(_)) => EventType::Modified,
            (Some(_), None) => EventType::Deleted,
        }
    }

    /// The object a watcher of this type is shown; `None` of a change from nothing to nothing.
    pub fn object(&self, kind: EventType) -> Option<&Arc<Entry>> {
        match (kind, &self.old, &self.new) {
            (EventType::Deleted, Some(old), _) => {
                Some(self.gone.get_or_init(|| Arc::new(old.at(self.revision))))
            }
            (_, _, Some(new)) => Some(new),
            (_, old, None) => old.as_ref(),
        }
    }

    /// The frame of the natural type, made once; of another type, made anew.
    ///
    /// # Errors
    /// What `make` says; nothing is kept then.
    pub fn frame(
        &self,
        kind: FrameKind,
        event: EventType,
        make: impl FnOnce() -> Result<Bytes, Status>,
    ) -> Result<Bytes, Status> {
        if event != self.natural_type() {
            return make();
        }
        let slot = &self.frames[kind as usize];
        if let Some(kept) = slot.get() {
            return Ok(kept.clone());
        }
        let made = make()?;
        Ok(slot.get_or_init(|| made).clone())
    }

    /// What the change keeps alive.
    pub fn weight(&self) -> usize {
        let weigh = |entry: &Option<Arc<Entry>>| entry.as_ref().map_or(0, |entry| entry.json.len());
        weigh(&self.old) + weigh(&self.new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(json: &str, revision: i64) -> Arc<Entry> {
        let served = codec::with_revision(json.as_bytes(), revision).unwrap();
        Arc::new(Entry::new(
            "a/b",
            revision,
            served,
            &[("spec.x", "1".to_owned())],
            false,
        ))
    }

    #[test]
    fn what_was_deleted_is_shown_at_the_revision_of_its_deletion() {
        let event = Event::new(9, Some(entry(r#"{"metadata":{"name":"b"}}"#, 7)), None);
        let gone = event.object(EventType::Deleted).unwrap();
        assert_eq!(
            &gone.json[..],
            br#"{"metadata":{"name":"b","resourceVersion":"9"}}"#
        );
        assert_eq!(gone.metadata(), br#"{"name":"b","resourceVersion":"9"}"#);
        assert_eq!(gone.field("spec.x"), Some("1"));
        assert!(
            Arc::ptr_eq(gone, event.object(EventType::Deleted).unwrap()),
            "made once"
        );
    }

    #[test]
    fn a_frame_is_made_once_for_all_watchers() {
        let event = Event::new(7, None, Some(entry(r#"{"metadata":{}}"#, 7)));
        let make = || Ok(Bytes::from(vec![1, 2, 3]));
        let first = event.frame(FrameKind::Json, EventType::Added, make).unwrap();
        let never = || panic!("the frame was made again");
        let second = event.frame(FrameKind::Json, EventType::Added, never).unwrap();
        assert_eq!(first.as_ptr(), second.as_ptr(), "the same bytes");
        let other = event.frame(FrameKind::Json, EventType::Deleted, make).unwrap();
        assert_ne!(first.as_ptr(), other.as_ptr());
    }
}
