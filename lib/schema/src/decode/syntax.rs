//! Go's words for JSON that is none: clients and their users know "unexpected end of JSON input".
//!
//! The parser's own error says what it missed and where; the character there completes Go's text. Literals that break
//! off (`trux`) get Go's text for a value, not the one that names the letter it expected.

/// The start of the parser's message, and what Go says of the character at its place.
const TEXTS: [(&str, &str); 8] = [
    ("expected `:`", "after object key"),
    ("expected `,` or `}`", "after object key:value pair"),
    ("expected `,` or `]`", "after array element"),
    ("trailing characters", "after top-level value"),
    (
        "key must be a string",
        "looking for beginning of object key string",
    ),
    ("control character", "in string literal"),
    ("invalid escape", "in string escape code"),
    ("invalid number", "in numeric literal"),
];

/// Go's text of a syntax error in `text`; other errors keep the parser's.
pub(super) fn describe(text: &str, error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "unexpected end of JSON input".to_owned();
    }
    if !error.is_syntax() {
        return error.to_string();
    }
    let message = error.to_string();
    if message.starts_with("recursion limit") {
        return "exceeded max depth".to_owned();
    }
    let at = place(text, error);
    let found = text.get(at..).and_then(|rest| rest.chars().next());
    let Some(found) = found else { return message };
    let what = if message.starts_with("trailing comma") {
        if found == '}' {
            "looking for beginning of object key string"
        } else {
            "looking for beginning of value"
        }
    } else {
        let known = TEXTS.iter().find(|(start, _)| message.starts_with(start));
        known.map_or("looking for beginning of value", |(_, what)| *what)
    };
    format!("invalid character {} {what}", quoted(found))
}

/// The offset of the character the parser stumbled over.
fn place(text: &str, error: &serde_json::Error) -> usize {
    let line_start: usize = text
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1))
        .map(str::len)
        .sum();
    line_start + error.column().saturating_sub(1)
}

/// A character in single quotes, as Go's scanner writes it.
fn quoted(found: char) -> String {
    match found {
        '\'' => r"'\''".to_owned(),
        '"' => "'\"'".to_owned(),
        other => format!("'{}'", other.escape_debug()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_gos() {
        let table = [
            (r#"{"a": "#, "unexpected end of JSON input"),
            ("", "unexpected end of JSON input"),
            ("a: b", "invalid character 'a' looking for beginning of value"),
            (r#"{"a" 1}"#, "invalid character '1' after object key"),
            (
                r#"{"a": 1 "b": 2}"#,
                "invalid character '\"' after object key:value pair",
            ),
            ("{\n \"a\": [1 2]}", "invalid character '2' after array element"),
            ("{} x", "invalid character 'x' after top-level value"),
            (
                "{a: 1}",
                "invalid character 'a' looking for beginning of object key string",
            ),
            (
                r#"{"a": 1,}"#,
                "invalid character '}' looking for beginning of object key string",
            ),
            ("[1,]", "invalid character ']' looking for beginning of value"),
        ];
        for (text, expected) in table {
            let error = serde_json::from_str::<serde_json::Value>(text).unwrap_err();
            assert_eq!(describe(text, &error), expected, "{text}: {error}");
        }
    }
}
