//! From bytes of JSON or YAML to a value of a definition, as Go's typed decoding would leave it.
//!
//! Unknown fields and second keys are refused, told as warnings, or dropped, by the request's `fieldValidation`; types are checked with Go's
//! texts; quantities and times become canonical; empty `omitempty` fields are dropped and fields Go always writes
//! are filled in, so that what is stored, compared and tracked is what upstream would store.
//!
//! Two steps: `text` reads JSON into a value and notes second keys, `walk` fits the value to the definition in place.

mod syntax;
pub(crate) mod text;
mod walk;

pub(crate) use walk::{fill, is_empty, zero};

use keelson_machinery::Status;
use serde_json::Value;

use crate::types::TypeDef;

/// What to do about unknown and duplicate fields: the `fieldValidation` parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    Ignore,
    Warn,
    Strict,
}

impl Strictness {
    /// Reads the parameter; "" is `Warn`, the server's default.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "Ignore" => Some(Self::Ignore),
            "" | "Warn" => Some(Self::Warn),
            "Strict" => Some(Self::Strict),
            _ => None,
        }
    }
}

/// A decoded object.
#[derive(Debug, PartialEq)]
pub struct Decoded {
    pub value: Value,
    /// Texts for `Warning` headers; empty unless asked for.
    pub warnings: Vec<String>,
}

/// Upstream reports no more strict errors than this.
const STRICT_ERRORS_MAX: usize = 100;
/// Greatest depth of nesting, as serde_json's own limit.
pub const DEPTH_MAX: usize = 128;

/// Decodes JSON text into an object of `def`.
///
/// # Errors
/// 400 with upstream's text: broken JSON, a value of the wrong type, or (strict) unknown and duplicate fields.
pub fn json(bytes: &[u8], def: &TypeDef, strictness: Strictness) -> Result<Decoded, Status> {
    let (parsed, duplicates) = text::parse(bytes).map_err(|why| unreadable(bytes, def, &why))?;
    fitted(parsed, duplicates, def, strictness)
}

/// Decodes YAML text into an object of `def`, as kubectl's parser reads YAML 1.1.
///
/// # Errors
/// As [`json`].
pub fn yaml(bytes: &[u8], def: &TypeDef, strictness: Strictness) -> Result<Decoded, Status> {
    let (parsed, duplicates) = crate::yaml::to_value_noting_duplicates(bytes)
        .map_err(|why| unreadable(bytes, def, &format!("error converting YAML to JSON: {why}")))?;
    fitted(parsed, duplicates, def, strictness)
}

/// Adds the top-level fields Go always writes and a rule took away: a dropped status is an empty one.
pub fn complete(value: &mut Value, def: &TypeDef) {
    if let Value::Object(map) = value {
        walk::fill(map, def);
    }
}

/// Fits a value to a definition: what a patched or converted object goes through.
///
/// # Errors
/// As [`json`].
pub fn value(value: Value, def: &TypeDef, strictness: Strictness) -> Result<Decoded, Status> {
    fitted(value, Vec::new(), def, strictness)
}

/// Fits a value that the server made to a definition, dropping what the definition does not know.
///
/// # Errors
/// Go's text of the first value of a wrong type, without a frame around it.
pub fn normalize(value: &mut Value, def: &TypeDef) -> Result<(), String> {
    walk::fit(value, def, &mut Vec::new())
}

/// Fits a patched object to its definition; also what a strict decoder says against it.
///
/// # Errors
/// Go's text of the first value of a wrong type, without a frame around it.
pub fn fit_noting_unknown(value: &mut Value, def: &TypeDef) -> Result<Vec<String>, String> {
    let mut strict = Vec::new();
    walk::fit(value, def, &mut strict)?;
    Ok(strict)
}

/// Reads JSON text of any shape, with `duplicate field "path"` for each key given twice.
///
/// # Errors
/// The parser's text.
pub fn untyped_noting_duplicates(bytes: &[u8]) -> Result<(Value, Vec<String>), String> {
    text::parse(bytes)
}

/// Reads JSON text of any shape, within the depth limit.
///
/// # Errors
/// The parser's text.
pub fn untyped(bytes: &[u8]) -> Result<Value, String> {
    text::parse(bytes).map(|(value, _)| value)
}

fn fitted(
    mut value: Value,
    duplicates: Vec<String>,
    def: &TypeDef,
    strictness: Strictness,
) -> Result<Decoded, Status> {
    let mut strict = duplicates;
    walk::fit(&mut value, def, &mut strict).map_err(|why| unhandled(&value, def, &why))?;
    strict.truncate(STRICT_ERRORS_MAX);
    match strictness {
        Strictness::Strict if !strict.is_empty() => {
            let why = format!("strict decoding error: {}", strict.join(", "));
            Err(unhandled(&value, def, &why))
        }
        Strictness::Warn => Ok(Decoded {
            value,
            warnings: strict,
        }),
        _ => Ok(Decoded {
            value,
            warnings: Vec::new(),
        }),
    }
}

/// The body names a kind, but is none.
fn unhandled(value: &Value, def: &TypeDef, why: &str) -> Status {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or("");
    let (kind, api_version) = (text("kind"), text("apiVersion"));
    let kind = if kind.is_empty() { def.go_name() } else { kind };
    let version = match api_version.rsplit('/').next() {
        Some("") | None => def.name.rsplit('.').nth(1).unwrap_or(""),
        Some(version) => version,
    };
    Status::bad_request(format!(
        "{kind} in version {version:?} cannot be handled as a {}: {why}",
        def.go_name()
    ))
}

/// The body is no object at all.
fn unreadable(bytes: &[u8], def: &TypeDef, why: &str) -> Status {
    Status::bad_request(format!(
        "the object provided is unrecognized (must be of type {}): couldn't get version/kind; json parse error: {why} ({})",
        def.go_name(),
        summary(bytes)
    ))
}

/// The start of a body, as upstream shows it: text where it looks like JSON, hexadecimal otherwise.
fn summary(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 30;
    let shown = &bytes[..bytes.len().min(SHOWN_MAX)];
    let more = if bytes.len() > SHOWN_MAX { " ..." } else { "" };
    match bytes.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(shown)),
        Some(_) => {
            let hex: String = shown.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{hex}{more}")
        }
    }
}

#[cfg(test)]
mod tests;
