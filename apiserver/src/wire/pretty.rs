//! Compact JSON spread over lines, as Go's `MarshalIndent` with two spaces; the order of fields stays.

/// `compact` must be valid JSON without spaces between tokens.
pub fn pretty(compact: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(compact.len() * 2);
    let (mut depth, mut at) = (0_usize, 0);
    let newline = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.resize(out.len() + depth * 2, b' ');
    };
    while let Some(&byte) = compact.get(at) {
        match byte {
            b'"' => {
                let end = string_end(compact, at);
                out.extend_from_slice(&compact[at..end]);
                at = end;
                continue;
            }
            b'{' | b'[' => {
                out.push(byte);
                if matches!(compact.get(at + 1), Some(b'}' | b']')) {
                    out.push(compact[at + 1]);
                    at += 2;
                    continue;
                }
                depth += 1;
                newline(&mut out, depth);
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                newline(&mut out, depth);
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                newline(&mut out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            _ => out.push(byte),
        }
        at += 1;
    }
    out
}

fn string_end(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < text.len() {
        match text[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_as_serde_prints_it() {
        for compact in [
            r#"{"a":[1,{"b":"x,{\"}"},[],{}],"c":null}"#,
            "[]",
            "7",
            r#""a:b""#,
        ] {
            let value: serde_json::Value = serde_json::from_str(compact).unwrap();
            let want = serde_json::to_string_pretty(&value).unwrap();
            assert_eq!(String::from_utf8(pretty(compact.as_bytes())).unwrap(), want);
        }
    }
}
