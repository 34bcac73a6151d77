//! JSON text as upstream's server writes it: fields in the order of the Go struct, maps by key, `<`, `>` and `&` escaped.

use serde_json::{Map, Number, Value};

use crate::types::{Shape, TypeDef};

/// Compact text of an object of `def`, without a line end.
pub fn to_vec(value: &Value, def: &TypeDef) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    write_object(&mut out, value, def);
    out
}

/// Appends the compact text of an object of `def`.
pub fn write_object(out: &mut Vec<u8>, value: &Value, def: &TypeDef) {
    let Value::Object(map) = value else {
        return write_untyped(out, value);
    };
    out.push(b'{');
    let mut written = 0;
    for field in &def.fields {
        if let Some(value) = map.get(&*field.name) {
            separate(out, &mut written, &field.name);
            write_shape(out, value, &field.shape);
        }
    }
    if written < map.len() {
        for (name, value) in map.iter().filter(|(name, _)| def.field(name).is_none()) {
            separate(out, &mut written, name);
            write_untyped(out, value);
        }
    }
    out.push(b'}');
}

/// Appends compact text with maps in key order.
pub fn write_untyped(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => write_number(out, number),
        Value::String(text) => write_string(out, text),
        Value::Array(items) => write_items(out, items, write_untyped),
        Value::Object(map) => write_map(out, map, write_untyped),
    }
}

/// Compact text with maps in key order.
pub fn to_vec_untyped(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write_untyped(&mut out, value);
    out
}

fn separate(out: &mut Vec<u8>, written: &mut usize, name: &str) {
    if *written > 0 {
        out.push(b',');
    }
    *written += 1;
    write_string(out, name);
    out.push(b':');
}

fn write_items(out: &mut Vec<u8>, items: &[Value], mut write: impl FnMut(&mut Vec<u8>, &Value)) {
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

fn write_map(out: &mut Vec<u8>, map: &Map<String, Value>, mut write: impl FnMut(&mut Vec<u8>, &Value)) {
    out.push(b'{');
    let mut written = 0;
    for (name, value) in map {
        separate(out, &mut written, name);
        write(out, value);
    }
    out.push(b'}');
}

fn write_shape(out: &mut Vec<u8>, value: &Value, shape: &Shape) {
    match (shape, value) {
        (Shape::Object(def), _) => write_object(out, value, def),
        (Shape::List(item), Value::Array(items)) => {
            write_items(out, items, |out, value| write_shape(out, value, item));
        }
        (Shape::Map(item), Value::Object(map)) => {
            write_map(out, map, |out, value| write_shape(out, value, item))
        }
        (
            Shape::SchemaOrArray(def) | Shape::SchemaOrBool(def) | Shape::SchemaOrStrings(def),
            Value::Object(_),
        ) => write_object(out, value, def),
        (Shape::SchemaOrArray(def), Value::Array(items)) => {
            write_items(out, items, |out, value| write_object(out, value, def));
        }
        _ => write_untyped(out, value),
    }
}

/// Whole numbers without a fraction, as Go writes floats.
fn write_number(out: &mut Vec<u8>, number: &Number) {
    match number.as_f64() {
        Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e21 => {
            out.extend_from_slice(format!("{float:.0}").as_bytes());
        }
        _ => out.extend_from_slice(number.to_string().as_bytes()),
    }
}

/// A quoted string, escaped as Go's encoder does.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut plain_from = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        let line_separator =
            byte == 0xe2 && matches!(bytes.get(index + 1..index + 3), Some([0x80, 0xa8 | 0xa9]));
        if byte >= 0x20 && !matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&') && !line_separator {
            continue;
        }
        out.extend_from_slice(&bytes[plain_from..index]);
        plain_from = index + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            0xe2 => {
                out.extend_from_slice(if bytes[index + 2] == 0xa8 {
                    b"\\u2028"
                } else {
                    b"\\u2029"
                });
                plain_from = index + 3;
            }
            _ => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
    }
    out.extend_from_slice(&bytes[plain_from..]);
    out.push(b'"');
}

/// Compact text spread over lines with two spaces a level: the `pretty` parameter.
pub fn pretty(compact: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(compact.len() * 2);
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    let new_line = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.resize(out.len() + 2 * depth, b' ');
    };
    for (index, &byte) in compact.iter().enumerate() {
        if in_string {
            out.push(byte);
            in_string = escaped || byte != b'"';
            escaped = byte == b'\\' && !escaped;
            continue;
        }
        match byte {
            b'{' | b'[' => {
                out.push(byte);
                depth += 1;
                if !matches!(compact.get(index + 1), Some(b'}' | b']')) {
                    new_line(&mut out, depth);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if !matches!(
                    index.checked_sub(1).map(|before| compact[before]),
                    Some(b'{' | b'[')
                ) {
                    new_line(&mut out, depth);
                }
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                new_line(&mut out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            _ => {
                in_string = byte == b'"';
                out.push(byte);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_come_in_the_order_of_the_struct() {
        let pod = json!({"spec": {"nodeName": "n", "containers": [{"image": "i", "name": "c"}]}, "kind": "Pod",
            "metadata": {"name": "a", "annotations": {"b": "<1>", "a": "2"}}, "apiVersion": "v1"});
        let text = to_vec(&pod, crate::types::of("", "v1", "Pod").unwrap());
        assert_eq!(
            String::from_utf8(text).unwrap(),
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","annotations":{"a":"2","b":"\u003c1\u003e"}},"spec":{"containers":[{"name":"c","image":"i"}],"nodeName":"n"}}"#
        );
    }

    #[test]
    fn strings_are_escaped_and_read_back() {
        for text in [
            "",
            "a\"\\\n\r\t\u{8}\u{c}\u{1}",
            "<&>",
            "\u{2028}é\u{2029}€",
            "\u{2027}",
        ] {
            let mut out = Vec::new();
            write_string(&mut out, text);
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
            assert!(!out.contains(&b'<'));
        }
        assert_eq!(to_vec_untyped(&json!([1.0, 1.5, -3, null])), b"[1,1.5,-3,null]");
    }

    #[test]
    fn pretty_spreads_lines() {
        let text = pretty(br#"{"a":[],"b":{"c":"{,:\"}"},"d":[1,2]}"#);
        let expected =
            "{\n  \"a\": [],\n  \"b\": {\n    \"c\": \"{,:\\\"}\"\n  },\n  \"d\": [\n    1,\n    2\n  ]\n}";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
