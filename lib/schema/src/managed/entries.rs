//! `metadata.managedFields`: who owns which fields, read and written.

use keelson_machinery::meta;
use serde_json::{Map, Value, json};

use super::set::Set;

/// Most entries of operation Update; older ones are joined in one bucket.
const UPDATE_MANAGERS_MAX: usize = 10;
/// The manager that stands for joined entries.
const ANCIENT: &str = "ancient-changes";

/// One owner.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub manager: String,
    /// By server-side apply, not by another write.
    pub applied: bool,
    pub api_version: String,
    pub subresource: String,
    /// RFC 3339, "" where unknown.
    pub time: String,
    pub fields: Set,
}

impl Entry {
    pub fn new(manager: &str, applied: bool, api_version: &str, subresource: &str) -> Self {
        Self {
            manager: manager.to_owned(),
            applied,
            api_version: api_version.to_owned(),
            subresource: subresource.to_owned(),
            time: String::new(),
            fields: Set::default(),
        }
    }

    /// Appliers are the same whatever version they applied in.
    pub fn is_same(&self, other: &Entry) -> bool {
        self.manager == other.manager
            && self.applied == other.applied
            && self.subresource == other.subresource
            && (self.applied || self.api_version == other.api_version)
    }

    /// As conflicts name it.
    pub fn printed(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text += &format!(" with subresource {:?}", self.subresource);
        }
        if !self.applied {
            text += &format!(" using {}", self.api_version);
        }
        text
    }

    fn to_value(&self) -> Value {
        let mut entry = json!({
            "manager": self.manager,
            "operation": if self.applied { "Apply" } else { "Update" },
            "apiVersion": self.api_version,
            "fieldsType": "FieldsV1",
            "fieldsV1": self.fields.to_value(),
        });
        for (name, text) in [("time", &self.time), ("subresource", &self.subresource)] {
            if !text.is_empty() {
                entry[name] = text.as_str().into();
            }
        }
        entry
    }

    /// `None` where the entry is malformed.
    fn from_value(value: &Value) -> Option<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
        let applied = match text("operation").as_str() {
            "Apply" => true,
            "Update" => false,
            _ => return None,
        };
        let fields = Set::from_value(value.get("fieldsV1").unwrap_or(&Value::Object(Map::new())))?;
        Some(Self {
            manager: text("manager"),
            applied,
            api_version: text("apiVersion"),
            subresource: text("subresource"),
            time: text("time"),
            fields,
        })
    }
}

/// Reads an object's entries; none where any is malformed, as upstream starts anew then.
pub(super) fn read(object: &Value) -> Vec<Entry> {
    let entries = meta::field(object, "managedFields").as_array();
    let read: Option<Vec<Entry>> = entries.into_iter().flatten().map(Entry::from_value).collect();
    read.unwrap_or_default()
}

/// The request asks to forget all owners: an empty list, or one empty entry.
pub(super) fn is_reset(object: &Value) -> bool {
    match meta::field(object, "managedFields").as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([Value::Object(entry)]) => entry.values().all(|value| value.is_null() || value == ""),
        _ => false,
    }
}

/// Writes the entries in upstream's order, without empty ones; none removes the field.
pub(super) fn write(object: &mut Value, mut entries: Vec<Entry>) {
    entries.retain(|entry| !entry.fields.is_empty());
    fn place(entry: &Entry) -> (bool, &str, &str, &str, &str) {
        let Entry {
            time,
            manager,
            api_version,
            subresource,
            ..
        } = entry;
        (!entry.applied, time, manager, api_version, subresource)
    }
    entries.sort_by(|a, b| place(a).cmp(&place(b)));
    let listed: Vec<Value> = entries.iter().map(Entry::to_value).collect();
    meta::set(
        object,
        "managedFields",
        if listed.is_empty() {
            Value::Null
        } else {
            Value::Array(listed)
        },
    );
}

/// Joins the oldest Update entries of a version until few enough are left.
pub(super) fn cap(entries: &mut Vec<Entry>) {
    let updates = |entries: &[Entry]| entries.iter().filter(|entry| !entry.applied).count();
    let mut excess = updates(entries).saturating_sub(UPDATE_MANAGERS_MAX);
    if excess == 0 {
        return;
    }
    entries.sort_by(|a, b| (a.applied, &a.time, &a.manager).cmp(&(b.applied, &b.time, &b.manager)));
    let mut index = 0;
    while excess > 0 && index < entries.len() && !entries[index].applied {
        if entries[index].manager == ANCIENT {
            index += 1;
            continue;
        }
        let mut oldest = entries.remove(index);
        ANCIENT.clone_into(&mut oldest.manager);
        oldest.subresource.clear();
        match entries.iter_mut().find(|entry| entry.is_same(&oldest)) {
            Some(bucket) => {
                bucket.fields.add(&oldest.fields);
                bucket.time = bucket.time.clone().max(oldest.time);
                excess -= 1;
            }
            None => {
                entries.insert(index, oldest);
                index += 1;
            }
        }
    }
}
