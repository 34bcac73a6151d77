//! `meta.k8s.io/v1 Table`: what `kubectl get` shows.

use bytes::Bytes;
use keelson_machinery::Value;
use serde_json::json;

use super::{IncludeObject, View, metadata};
use crate::registry::Served;

/// Everything before the rows; with the column definitions or, for later events of a watch, without.
pub fn head(served: &Served, list_meta: &str, with_columns: bool) -> String {
    let columns = match with_columns {
        true => columns(served),
        false => "null".to_owned(),
    };
    format!(
        r#"{{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{list_meta},"columnDefinitions":{columns},"rows":["#
    )
}

/// What closes a table.
pub const FOOT: &str = "]}";

fn columns(served: &Served) -> String {
    let mut out = String::from("[");
    for (index, column) in served.kind.columns().iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        let text = |value: &str| Value::from(value).to_string();
        out.push_str(&format!(
            r#"{{"name":{},"type":{},"format":{},"description":{},"priority":{}}}"#,
            text(&column.name),
            text(&column.type_),
            text(&column.format),
            text(&column.description),
            column.priority
        ));
    }
    out.push(']');
    out
}

/// One row; `cached` is the object's JSON in the cached version.
pub fn row(served: &Served, cached: &Bytes, view: View) -> String {
    let value: Value = serde_json::from_slice(cached).unwrap_or(Value::Null);
    let cells = json!(served.kind.cells(&value, view.now));
    let object = match view.include {
        IncludeObject::None => String::from("null"),
        IncludeObject::Metadata => String::from_utf8_lossy(&metadata::partial(cached)).into_owned(),
        IncludeObject::Object => {
            let whole = super::object::versioned(served, cached);
            String::from_utf8_lossy(&whole).into_owned()
        }
    };
    format!(r#"{{"cells":{cells},"object":{object}}}"#)
}

/// A table of one object, as GET answers.
pub fn of_one(served: &Served, cached: &Bytes, view: View) -> Bytes {
    of_event(served, cached, view, true)
}

/// A table of one object, as watches send them: the columns only with the first.
pub fn of_event(served: &Served, cached: &Bytes, view: View, with_columns: bool) -> Bytes {
    let revision = crate::storage::codec::member(cached, 0, "metadata")
        .and_then(|metadata| crate::storage::codec::member(cached, metadata.start, "resourceVersion"))
        .map_or_else(
            || "\"\"".to_owned(),
            |range| String::from_utf8_lossy(&cached[range]).into_owned(),
        );
    let meta = format!(r#"{{"resourceVersion":{revision}}}"#);
    format!(
        "{}{}{FOOT}",
        head(served, &meta, with_columns),
        row(served, cached, view)
    )
    .into()
}

/// A table without rows: a bookmark.
pub fn bookmark(served: &Served, metadata: &str) -> Bytes {
    format!("{}{FOOT}", head(served, metadata, false)).into()
}
