//! Stored bytes to the bytes that are served, and back: JSON with the resourceVersion in place.
//!
//! What is served always starts with `{"kind":K,"apiVersion":V,` in the cached version; what is stored carries no
//! resourceVersion. Only the front of an object is looked at, so the cost does not grow with its size.

use std::ops::Range;

use bytes::Bytes;
use keelson_machinery::Value;
use serde_json::Map;

/// Why a stored value cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error("stored value is no object of its kind: {0}")]
    Shape(String),
    #[error("stored value is encrypted, and no key for it is configured")]
    Encrypted,
}

/// The front of every object of a kind: `{"kind":"Pod","apiVersion":"v1",`.
pub fn head(kind: &str, api_version: &str) -> String {
    format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",")
}

/// An object as it is served.
#[derive(Debug, PartialEq)]
pub struct Served {
    pub json: Bytes,
    /// Where the `metadata` stand in it.
    pub metadata: Range<u32>,
    /// Where the `labels` map stands in it; empty where there is none.
    pub labels: Range<u32>,
}

/// A stored value in this server's form, with its revision put in.
///
/// # Errors
/// What has no metadata.
pub fn serve(own: &[u8], revision: i64) -> Result<Served, CodecError> {
    with_revision(own, revision).ok_or_else(|| CodecError::Shape("it has no metadata".to_owned()))
}

/// Puts `resourceVersion` where upstream's encoder writes it: after the name, namespace and uid; or where one stands.
pub fn with_revision(text: &[u8], revision: i64) -> Option<Served> {
    let metadata = member(text, 0, "metadata")?;
    let mut cursor = Members::of(text, metadata.start)?;
    let mut insert_at = metadata.start + 1;
    let (mut old, mut labels) = (None, None);
    while let Some((key, whole, value)) = cursor.next() {
        match key {
            b"name" | b"generateName" | b"namespace" | b"selfLink" | b"uid" => insert_at = whole.end,
            b"resourceVersion" => old = Some(value),
            b"labels" => {
                labels = Some(value);
                break;
            }
            // Fields stand in upstream's order: labels come before these.
            b"annotations" | b"ownerReferences" | b"finalizers" | b"managedFields" => break,
            _ => {}
        }
    }
    let number = format!("\"{revision}\"");
    let mut out = Vec::with_capacity(text.len() + 32);
    match old {
        Some(old) => {
            out.extend_from_slice(&text[..old.start]);
            out.extend_from_slice(number.as_bytes());
            out.extend_from_slice(&text[old.end..]);
        }
        None => {
            let first = insert_at == metadata.start + 1;
            let rest = &text[insert_at..];
            out.extend_from_slice(&text[..insert_at]);
            if !first {
                out.push(b',');
            }
            out.extend_from_slice(b"\"resourceVersion\":");
            out.extend_from_slice(number.as_bytes());
            if first && rest.first() != Some(&b'}') {
                out.push(b',');
            }
            out.extend_from_slice(rest);
        }
    }
    let (before, after) = (text.len(), out.len());
    let shift = |at: usize| u32::try_from(at + after - before).unwrap_or(0);
    let labels = labels.map_or(0..0, |range| shift(range.start)..shift(range.end));
    let metadata = u32::try_from(metadata.start).unwrap_or(0)..shift(metadata.end);
    Some(Served {
        json: out.into(),
        metadata,
        labels,
    })
}

/// The top-level parts of an object that `paths` (`part.key`, ...) lie in, without its metadata; the whole object where
/// a path is of one part, which may stand for others.
pub fn parts(served: &Served, paths: &[impl AsRef<str>]) -> Value {
    let text = &served.json[..];
    let parse = |range: Range<usize>| serde_json::from_slice(&text[range]).unwrap_or(Value::Null);
    let split = |path| AsRef::<str>::as_ref(path).split_once('.').map(|(part, _)| part);
    let Some(wanted) = paths.iter().map(split).collect::<Option<Vec<&str>>>() else {
        return parse(0..text.len());
    };
    let mut found = Map::new();
    // Only kind and version stand before the metadata.
    let mut members = Members {
        text,
        at: served.metadata.end as usize,
    };
    while let Some((part, _, value)) = members.next() {
        if let Some(part) = wanted.iter().find(|wanted| wanted.as_bytes() == part) {
            found.insert((*part).to_owned(), parse(value));
        }
    }
    Value::Object(found)
}

/// The value of a member of the object that starts at `at`.
pub fn member(text: &[u8], at: usize, name: &str) -> Option<Range<usize>> {
    let mut members = Members::of(text, at)?;
    while let Some((key, _, value)) = members.next() {
        if key == name.as_bytes() {
            return Some(value);
        }
    }
    None
}

/// Walks the members of a compact JSON object without parsing their values.
struct Members<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Members<'a> {
    fn of(text: &'a [u8], at: usize) -> Option<Self> {
        (text.get(at) == Some(&b'{')).then_some(Self { text, at: at + 1 })
    }

    /// Key (as written), place of the whole member, place of its value.
    fn next(&mut self) -> Option<(&'a [u8], Range<usize>, Range<usize>)> {
        if self.text.get(self.at) == Some(&b',') {
            self.at += 1;
        }
        let start = self.at;
        if self.text.get(start) != Some(&b'"') {
            return None;
        }
        let key_end = string_end(self.text, start)?;
        if self.text.get(key_end) != Some(&b':') {
            return None;
        }
        let value_start = key_end + 1;
        let value_end = value_end(self.text, value_start)?;
        self.at = value_end;
        Some((
            &self.text[start + 1..key_end - 1],
            start..value_end,
            value_start..value_end,
        ))
    }
}

fn string_end(text: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn value_end(text: &[u8], start: usize) -> Option<usize> {
    match text.get(start)? {
        b'"' => string_end(text, start),
        b'{' | b'[' => {
            let (mut depth, mut at) = (0_usize, start);
            loop {
                match text.get(at)? {
                    b'"' => {
                        at = string_end(text, at)?;
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                at += 1;
                if depth == 0 {
                    return Some(at);
                }
            }
        }
        _ => {
            let length = text[start..]
                .iter()
                .position(|byte| matches!(byte, b',' | b'}' | b']'))?;
            Some(start + length)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(stored: &str, served: &str) {
        let out = with_revision(stored.as_bytes(), 7).unwrap();
        assert_eq!(std::str::from_utf8(&out.json).unwrap(), served);
        let metadata = &out.json[out.metadata.start as usize..out.metadata.end as usize];
        let parsed: Value = serde_json::from_slice(&out.json).unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(metadata).unwrap(),
            parsed["metadata"]
        );
        let labels = &out.json[out.labels.start as usize..out.labels.end as usize];
        if !labels.is_empty() {
            let parsed: Value = serde_json::from_slice(labels).unwrap();
            assert_eq!(parsed["a"], "b");
        }
    }

    #[test]
    fn the_revision_goes_where_upstream_writes_it() {
        check(
            r#"{"kind":"A","metadata":{"name":"x","uid":"u","creationTimestamp":null,"labels":{"a":"b"}},"s":1}"#,
            r#"{"kind":"A","metadata":{"name":"x","uid":"u","resourceVersion":"7","creationTimestamp":null,"labels":{"a":"b"}},"s":1}"#,
        );
        check(r#"{"metadata":{}}"#, r#"{"metadata":{"resourceVersion":"7"}}"#);
        check(
            r#"{"metadata":{"generation":1}}"#,
            r#"{"metadata":{"resourceVersion":"7","generation":1}}"#,
        );
    }

    #[test]
    fn parts_are_what_the_paths_name() {
        let text = br#"{"kind":"A","metadata":{"name":"x"},"spec":{"big":[1,{"spec":2}],"a":"b","c":{"d":1}},"status":{"e":true},"z":1}"#;
        let served = with_revision(text, 7).unwrap();
        let want = json!({"spec": {"big": [1, {"spec": 2}], "a": "b", "c": {"d": 1}}});
        assert_eq!(parts(&served, &["spec.a", "spec.none", "none.x"]), want);
        let whole: Value = serde_json::from_slice(&served.json).unwrap();
        assert_eq!(parts(&served, &["spec.a", "z"]), whole, "a path of one part");
    }

    #[test]
    fn every_kind_reads_its_fields_out_of_the_parts() {
        let object = json!({
            "metadata": {"name": "x", "namespace": "y"}, "type": "t", "reason": "r", "reportingComponent": "c",
            "spec": {"nodeName": "n", "restartPolicy": "Always", "schedulerName": "s", "serviceAccountName": "a",
                "hostNetwork": true, "unschedulable": true, "signerName": "g", "driver": "d"},
            "status": {"phase": "Running", "podIP": "1.2.3.4", "podIPs": [{"ip": "1.2.3.4"}], "replicas": 3,
                "succeeded": 2, "nominatedNodeName": "m"},
        });
        let served = with_revision(object.to_string().as_bytes(), 7).unwrap();
        for kind in keelson_kinds::kinds() {
            let own = |fields: Vec<(keelson_machinery::gvk::Name, String)>| -> Vec<_> {
                fields
                    .into_iter()
                    .filter(|(name, _)| !name.starts_with("metadata."))
                    .collect()
            };
            let from_parts = kind.selectable_fields(&parts(&served, kind.selectable_field_names()));
            assert_eq!(
                own(from_parts),
                own(kind.selectable_fields(&object)),
                "{}",
                kind.info().resource
            );
        }
    }

    #[test]
    fn an_old_revision_is_replaced() {
        check(
            r#"{"metadata":{"name":"x","resourceVersion":"123456","labels":{"a":"b"}}}"#,
            r#"{"metadata":{"name":"x","resourceVersion":"7","labels":{"a":"b"}}}"#,
        );
        check(
            r#"{"metadata":{"resourceVersion":"3","name":"x"}}"#,
            r#"{"metadata":{"resourceVersion":"7","name":"x"}}"#,
        );
    }

    #[test]
    fn texts_that_are_no_objects_give_nothing() {
        for text in [
            "",
            "{",
            "[]",
            r#"{"metadata":"#,
            r#"{"metadata":{"a"#,
            "nope",
            r#"{"metadata":[1]}"#,
        ] {
            assert!(with_revision(text.as_bytes(), 1).is_none(), "{text}");
        }
    }
}
