//! Pieces of table rows, as `kubectl get` prints them (`pkg/printers/internalversion`).

use std::borrow::Cow;

use jiff::Timestamp;
use keelson_machinery::{Value, meta, time};

use crate::kind::Column;

/// The column that names the row.
pub const NAME: Column = Column {
    name: Cow::Borrowed("Name"),
    type_: Cow::Borrowed("string"),
    format: Cow::Borrowed("name"),
    description: Cow::Borrowed(
        "Name must be unique within a namespace. Is required when creating resources, although some resources \
         may allow a client to request the generation of an appropriate name automatically. Name is primarily \
         intended for creation idempotence and configuration definition. Cannot be updated. More info: \
         https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names",
    ),
    priority: 0,
};

/// The age column.
pub const AGE: Column = Column::new("Age", "string", AGE_TEXT, 0);

const AGE_TEXT: &str = "CreationTimestamp is a timestamp representing the server time when this object was \
created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set \
this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for \
lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// Wide columns of everything that runs a pod template.
pub const CONTAINERS: Column = Column::new(
    "Containers",
    "string",
    "Names of each container in the template.",
    1,
);
pub const IMAGES: Column = Column::new(
    "Images",
    "string",
    "Images referenced by each container in the template.",
    1,
);

/// Kinds without columns of their own.
pub const NAME_AND_AGE: &[Column] = &[NAME, AGE];

/// A column of strings that is always shown.
pub const fn text(name: &'static str, description: &'static str) -> Column {
    Column::new(name, "string", description, 0)
}

/// A column of integers that is always shown.
pub const fn integer(name: &'static str, description: &'static str) -> Column {
    Column::new(name, "integer", description, 0)
}

/// A column of strings of wide output.
pub const fn wide(name: &'static str, description: &'static str) -> Column {
    Column::new(name, "string", description, 1)
}

pub fn name(obj: &Value) -> Value {
    meta::name(obj).into()
}

/// The age in kubectl's short form.
pub fn age(obj: &Value, now: Timestamp) -> Value {
    since(&obj["metadata"]["creationTimestamp"], now).into()
}

/// Time since an RFC 3339 text, `<unknown>` where there is none.
pub fn since(timestamp: &Value, now: Timestamp) -> String {
    match timestamp.as_str().and_then(|text| text.parse::<Timestamp>().ok()) {
        Some(then) => time::human_duration(now.as_second() - then.as_second()),
        None => "<unknown>".to_owned(),
    }
}

/// The text, or `<none>` where it is empty.
pub fn or_none(text: &str) -> String {
    if text.is_empty() { "<none>" } else { text }.to_owned()
}

/// A plain integer field; absent is 0.
pub fn int(value: &Value) -> Value {
    value.as_i64().unwrap_or(0).into()
}

/// Containers' names and images, joined by commas.
pub fn containers_and_images(pod_spec: &Value) -> [Value; 2] {
    let join = |key: &str| -> Value {
        let texts: Vec<&str> = pod_spec["containers"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|container| container[key].as_str())
            .collect();
        texts.join(",").into()
    };
    [join("name"), join("image")]
}

/// A map of labels as `a=b,c=d`, sorted; `<none>` where empty.
pub fn labels(map: &Value) -> String {
    let mut parts: Vec<String> = map
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")))
        .collect();
    parts.sort_unstable();
    or_none(&parts.join(","))
}

/// A label selector as `metav1.FormatLabelSelector` prints it.
pub fn selector(selector: &Value) -> String {
    match keelson_machinery::labels::Selector::from_label_selector(selector) {
        Ok(parsed) => or_none(&parsed.to_string()),
        Err(_) => "<error>".to_owned(),
    }
}

/// The names of a list of strings, joined; at most `max`, then ` + N more...`.
pub fn joined(items: &[String], max: usize) -> String {
    if items.len() <= max {
        return items.join(",");
    }
    format!("{} + {} more...", items[..max].join(","), items.len() - max)
}

/// The items of a list; none where it is no list.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
