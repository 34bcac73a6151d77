//! YAML at the edges: read as kubectl's parser reads YAML 1.1, written so that it reads back the same.

use serde_json::Value;
use serde_saphyr::options::DuplicateKeyPolicy;

use crate::decode;

/// Most nodes of one document: above what a body of the greatest size can hold with sense, below what hurts.
const NODES_MAX: usize = 1_000_000;
/// Most events that aliases of one document may stand for.
const REPLAYED_EVENTS_MAX: usize = 100_000;
/// Most documents of one stream, as manifests bundle them.
const DOCUMENTS_MAX: usize = 100_000;

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: decode::DEPTH_MAX,
            max_nodes: NODES_MAX,
            max_events: 4 * NODES_MAX,
            max_documents: DOCUMENTS_MAX,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: REPLAYED_EVENTS_MAX },
        legacy_octal_numbers: true,
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        with_snippet: false,
    }
}

/// Reads one document; of keys given twice the last wins.
///
/// # Errors
/// The parser's text with line and column.
pub fn to_value(bytes: &[u8]) -> Result<Value, String> {
    to_value_noting_duplicates(bytes).map(|(value, _)| value)
}

/// Reads one document, with `duplicate field "path"` for each key given twice.
///
/// # Errors
/// The parser's text with line and column.
pub fn to_value_noting_duplicates(bytes: &[u8]) -> Result<(Value, Vec<String>), String> {
    if let Some(value) = from_json(bytes) {
        return Ok((value, Vec::new()));
    }
    serde_saphyr::with_deserializer_from_slice_with_options(bytes, options(), |reader| {
        decode::text::from_reader(reader)
    })
    .map_err(|why| why.to_string())
}

/// JSON is YAML, and what most appliers send: its own parser is many times as fast. What it does not take, or would note
/// of it, is left to YAML's.
fn from_json(bytes: &[u8]) -> Option<Value> {
    if bytes.trim_ascii_start().first() != Some(&b'{') || std::str::from_utf8(bytes).is_err() {
        return None;
    }
    let (value, duplicates) = decode::untyped_noting_duplicates(bytes).ok()?;
    duplicates.is_empty().then_some(value)
}

/// Reads every document of a stream; empty ones are left out.
///
/// # Errors
/// The parser's text with line and column.
pub fn to_values(bytes: &[u8]) -> Result<Vec<Value>, String> {
    let mut values: Vec<Value> =
        serde_saphyr::from_slice_multiple_with_options(bytes, options()).map_err(|why| why.to_string())?;
    values.retain(|value| !value.is_null());
    Ok(values)
}

/// Writes a value with keys in alphabetical order, as upstream's YAML is.
pub fn to_string(value: &Value) -> String {
    let options = serde_saphyr::ser_options! { indent_step: 2, compact_list_indent: true };
    serde_saphyr::to_string_with_options(value, options).expect("a JSON value has a YAML form")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn yaml_reads_as_kubectl_reads_it() {
        let text = b"a: yes\nb: 0644\nc: &x {k: v}\nd:\n  <<: *x\n  e: 1.5\nf: '1'\ng: ~\nh: 1e3\n";
        assert_eq!(
            to_value(text).unwrap(),
            json!({"a": true, "b": 420, "c": {"k": "v"}, "d": {"k": "v", "e": 1.5}, "f": "1", "g": null, "h": 1000.0})
        );
        let (value, duplicates) = to_value_noting_duplicates(b"a: 1\nb:\n  c: 1\n  c: 2\n").unwrap();
        assert_eq!(
            (value, duplicates),
            (
                json!({"a": 1, "b": {"c": 2}}),
                vec!["duplicate field \"b.c\"".to_owned()]
            )
        );
        assert_eq!(
            to_values(b"---\n# none\n---\na: 1\n---\n---\nb: 2\n")
                .unwrap()
                .len(),
            2
        );
    }

    #[test]
    fn bombs_are_refused() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..12 {
            let item = format!("*a{}", level - 1);
            bomb += &format!("a{level}: &a{level} [{}]\n", vec![item; 9].join(","));
        }
        assert!(to_value(bomb.as_bytes()).is_err());
        let deep = "[".repeat(100_000);
        assert!(to_value(deep.as_bytes()).is_err());
    }

    #[test]
    fn what_is_written_reads_back() {
        let value = json!({"a": ["yes", "1", "", null, 1, true, "a: b", "- x", "line\nline\n"], "b": {}, "c": [], "n": "null"});
        assert_eq!(to_value(to_string(&value).as_bytes()).unwrap(), value);
    }

    #[test]
    fn json_reads_as_its_yaml_would() {
        let text = br#"{"a": "yes", "b": [1, 1.5, null, true], "c": {"d": "2026-01-01", "e": "\u00e9<"}, "f": 9007199254740993}"#;
        let (value, duplicates) = to_value_noting_duplicates(text).unwrap();
        assert_eq!(from_json(text).as_ref(), Some(&value));
        assert!(duplicates.is_empty());
        let as_yaml: Value = serde_saphyr::from_slice_with_options(text, options()).unwrap();
        assert_eq!(as_yaml, value);
        assert_eq!(from_json(b"{a: 1}"), None, "flow style is no JSON");
        let (_, duplicates) = to_value_noting_duplicates(br#"{"a": 1, "a": 2}"#).unwrap();
        assert_eq!(duplicates.len(), 1, "second keys are still noted");
    }
}
