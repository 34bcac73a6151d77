//! `meta.k8s.io/v1 Table`: what `kubectl get` shows.

use bytes::{Bytes, BytesMut};
use keelson_machinery::Value;

use super::row::Row;
use super::{IncludeObject, View, metadata};
use crate::cache::Entry;
use crate::registry::{KindRef, Served};
use crate::storage::codec::member;

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

/// Appends the row of a cached object; it is made once where it can be kept.
pub fn write_row(served: &Served, entry: &Entry, view: View, out: &mut BytesMut) {
    out.extend_from_slice(b"{\"cells\":[");
    match entry.row() {
        Some(row) => row.write(view.now, out),
        None => {
            let value = entry.value();
            // The rows of a kind made at run time may differ between its versions.
            let same_for_all = matches!(served.kind, KindRef::Static(_));
            let row = Row::keepable(&value, view.now, |now| served.kind.cells(&value, now));
            match row.filter(|_| same_for_all) {
                Some(row) => {
                    row.write(view.now, out);
                    entry.keep_row(row);
                }
                None => write_cells(served, &value, view, out),
            }
        }
    }
    write_object(served, &entry.json, entry.metadata(), view, out);
}

fn write_cells(served: &Served, value: &Value, view: View, out: &mut BytesMut) {
    for (index, cell) in served.kind.cells(value, view.now).iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(b",");
        }
        out.extend_from_slice(cell.to_string().as_bytes());
    }
}

/// Appends what of the object a row carries, and closes the row.
fn write_object(served: &Served, cached: &Bytes, own_metadata: &[u8], view: View, out: &mut BytesMut) {
    out.extend_from_slice(b"],\"object\":");
    match view.include {
        IncludeObject::None => out.extend_from_slice(b"null"),
        IncludeObject::Metadata => metadata::write_partial(own_metadata, out),
        IncludeObject::Object => out.extend_from_slice(&super::object::versioned(served, cached)),
    }
    out.extend_from_slice(b"}");
}

/// A table of one object, as GET answers; `cached` is the object's JSON in the cached version.
pub fn of_one(served: &Served, cached: &Bytes, view: View) -> Bytes {
    let own_metadata = metadata::of(cached);
    let mut out = open(served, own_metadata, true);
    let value: Value = serde_json::from_slice(cached).unwrap_or(Value::Null);
    out.extend_from_slice(b"{\"cells\":[");
    write_cells(served, &value, view, &mut out);
    write_object(served, cached, own_metadata, view, &mut out);
    out.extend_from_slice(FOOT.as_bytes());
    out.freeze()
}

/// A table of one object, as watches send them: the columns only with the first.
pub fn of_event(served: &Served, entry: &Entry, view: View, with_columns: bool) -> Bytes {
    let mut out = open(served, entry.metadata(), with_columns);
    write_row(served, entry, view, &mut out);
    out.extend_from_slice(FOOT.as_bytes());
    out.freeze()
}

fn open(served: &Served, own_metadata: &[u8], with_columns: bool) -> BytesMut {
    let revision = member(own_metadata, 0, "resourceVersion").map_or("\"\"".into(), |range| {
        String::from_utf8_lossy(&own_metadata[range])
    });
    let meta = format!(r#"{{"resourceVersion":{revision}}}"#);
    BytesMut::from(head(served, &meta, with_columns).as_bytes())
}

/// A table without rows: a bookmark.
pub fn bookmark(served: &Served, metadata: &str) -> Bytes {
    format!("{}{FOOT}", head(served, metadata, false)).into()
}
