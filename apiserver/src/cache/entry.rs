//! One version of one object, and one change, with what was made of them for readers.
//!
//! An `Entry` never changes; what is computed from it on demand is kept beside it where that pays.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use keelson_machinery::Value;

use crate::storage::codec;

/// A version of an object.
#[derive(Debug)]
pub struct Entry {
    /// `ns/name`, or `name`.
    pub key: Box<str>,
    pub revision: i64,
    /// The whole object as served, resourceVersion included.
    pub json: Bytes,
    labels: Range<u32>,
    /// Selectable fields beyond name and namespace: `name=value\0` each.
    fields: Box<str>,
    /// The parsed object, of resources small and often read by the server itself.
    parsed: Option<OnceLock<Arc<Value>>>,
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
            labels: served.labels,
            fields: joined.into(),
            parsed: keep_parsed.then(OnceLock::new),
        }
    }

    pub fn namespace(&self) -> &str {
        self.key.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    pub fn name(&self) -> &str {
        self.key.split_once('/').map_or(&*self.key, |(_, name)| name)
    }

    /// A selectable field; `None` reads as empty.
    pub fn field(&self, name: &str) -> Option<String> {
        match name {
            "metadata.name" => return Some(self.name().to_owned()),
            "metadata.namespace" => return Some(self.namespace().to_owned()),
            _ => {}
        }
        self.fields
            .split('\0')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.to_owned())
    }

    /// The labels as a map, or null.
    pub fn labels(&self) -> Value {
        let range = self.labels.start as usize..self.labels.end as usize;
        serde_json::from_slice(&self.json[range]).unwrap_or(Value::Null)
    }

    /// The object parsed.
    pub fn value(&self) -> Arc<Value> {
        let parse = || Arc::new(serde_json::from_slice(&self.json).unwrap_or(Value::Null));
        match &self.parsed {
            Some(kept) => kept.get_or_init(parse).clone(),
            None => parse(),
        }
    }
}

/// A change of one object.
#[derive(Debug)]
pub struct Event {
    pub revision: i64,
    pub old: Option<Arc<Entry>>,
    pub new: Option<Arc<Entry>>,
    /// What the change took away, at the revision of the change.
    gone: OnceLock<Bytes>,
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

    /// The object a watcher of this type is shown.
    pub fn object(&self, kind: EventType) -> Bytes {
        match (kind, &self.old, &self.new) {
            (EventType::Deleted, Some(old), _) => self
                .gone
                .get_or_init(|| {
                    codec::with_revision(&old.json, self.revision)
                        .map_or_else(|| old.json.clone(), |served| served.json)
                })
                .clone(),
            (_, _, Some(new)) => new.json.clone(),
            (_, Some(old), None) => old.json.clone(),
            (_, None, None) => Bytes::new(),
        }
    }

    /// The frame of the natural type, made once; of another type, made anew.
    pub fn frame(&self, kind: FrameKind, event: EventType, make: impl FnOnce(Bytes) -> Bytes) -> Bytes {
        if event == self.natural_type() {
            let slot = &self.frames[kind as usize];
            slot.get_or_init(|| make(self.object(event))).clone()
        } else {
            make(self.object(event))
        }
    }

    /// What the change keeps alive.
    pub fn weight(&self) -> usize {
        let weigh = |entry: &Option<Arc<Entry>>| entry.as_ref().map_or(0, |entry| entry.json.len());
        weigh(&self.old) + weigh(&self.new)
    }
}
