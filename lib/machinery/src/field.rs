//! Field errors with their paths, and a cursor that walks an object and knows where it is.
//!
//! Texts are upstream's (`k8s.io/apimachinery/pkg/util/validation/field`): clients and people match on them.
//!
//! ```
//! use keelson_machinery::{Cursor, FieldErrors};
//! let pod = serde_json::json!({"spec": {"containers": [{"name": ""}]}});
//! let mut errors = FieldErrors::default();
//! for container in Cursor::root(&pod).child("spec").child("containers").items() {
//!     if container.child("name").str().is_empty() {
//!         errors.required(container.child("name").path(), "");
//!     }
//! }
//! assert_eq!(errors.to_string(), "spec.containers[0].name: Required value");
//! ```

use std::fmt;
use std::rc::Rc;

use serde_json::Value;

static NULL: Value = Value::Null;

/// The place of a field: `spec.containers[0].ports[1].hostPort`, `metadata.labels[a/b]`.
#[derive(Clone, Debug, Default)]
pub struct Path(Option<Rc<Node>>);

#[derive(Debug)]
struct Node {
    parent: Path,
    step: Step,
}

#[derive(Debug)]
enum Step {
    Child(String),
    Index(usize),
    Key(String),
}

impl Path {
    /// A path of one or more dotted names.
    pub fn new(name: &str) -> Self {
        Self::default().child(name)
    }

    /// The named field below this one.
    pub fn child(&self, name: &str) -> Self {
        self.step(Step::Child(name.to_owned()))
    }

    /// An item of this list.
    pub fn index(&self, index: usize) -> Self {
        self.step(Step::Index(index))
    }

    /// An entry of this map.
    pub fn key(&self, key: &str) -> Self {
        self.step(Step::Key(key.to_owned()))
    }

    fn step(&self, step: Step) -> Self {
        Self(Some(Rc::new(Node {
            parent: self.clone(),
            step,
        })))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(node) = &self.0 else { return Ok(()) };
        node.parent.fmt(f)?;
        match &node.step {
            Step::Child(name) if node.parent.0.is_some() => write!(f, ".{name}"),
            Step::Child(name) => f.write_str(name),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{key}]"),
        }
    }
}

/// What is wrong with a field; the reason in `Status.details.causes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorType {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    Internal,
    TypeInvalid,
}

impl ErrorType {
    /// The machine-readable reason.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
            Self::TypeInvalid => "Invalid value",
        }
    }
}

/// One error of one field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    pub kind: ErrorType,
    /// The field's path, as printed.
    pub field: String,
    /// The refused value; `None` where the text shows none.
    pub value: Option<Value>,
    pub detail: String,
}

impl FieldError {
    /// The text without the path, as in `Status.details.causes[].message`.
    pub fn body(&self) -> String {
        let head = match (&self.value, self.kind) {
            (_, ErrorType::Required | ErrorType::Forbidden | ErrorType::TooLong | ErrorType::Internal)
            | (None, _) => self.kind.text().to_owned(),
            (Some(value), _) => format!("{}: {}", self.kind.text(), go_value(value)),
        };
        if self.detail.is_empty() {
            head
        } else {
            format!("{head}: {}", self.detail)
        }
    }
}

/// A value as Go's `%#v`-like printer in field errors shows it: strings quoted, numbers plain, composites as JSON.
fn go_value(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        other => other.to_string(),
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

/// Every error of one object, in the order found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldErrors(pub Vec<FieldError>);

impl FieldErrors {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn push(&mut self, kind: ErrorType, path: &Path, value: Option<Value>, detail: impl Into<String>) {
        self.0.push(FieldError {
            kind,
            field: path.to_string(),
            value,
            detail: detail.into(),
        });
    }

    pub fn extend(&mut self, other: FieldErrors) {
        self.0.extend(other.0);
    }

    pub fn required(&mut self, path: &Path, detail: impl Into<String>) {
        self.push(ErrorType::Required, path, None, detail);
    }

    pub fn invalid(&mut self, path: &Path, value: impl Into<Value>, detail: impl Into<String>) {
        self.push(ErrorType::Invalid, path, Some(value.into()), detail);
    }

    pub fn duplicate(&mut self, path: &Path, value: impl Into<Value>) {
        self.push(ErrorType::Duplicate, path, Some(value.into()), "");
    }

    pub fn not_found(&mut self, path: &Path, value: impl Into<Value>) {
        self.push(ErrorType::NotFound, path, Some(value.into()), "");
    }

    pub fn forbidden(&mut self, path: &Path, detail: impl Into<String>) {
        self.push(ErrorType::Forbidden, path, None, detail);
    }

    /// `supported` in the order it is to be listed.
    pub fn not_supported(&mut self, path: &Path, value: impl Into<Value>, supported: &[&str]) {
        let listed: Vec<String> = supported.iter().map(|one| format!("{one:?}")).collect();
        let detail = match listed.is_empty() {
            true => String::new(),
            false => format!("supported values: {}", listed.join(", ")),
        };
        self.push(ErrorType::NotSupported, path, Some(value.into()), detail);
    }

    /// More than `max` bytes.
    pub fn too_long(&mut self, path: &Path, max: usize) {
        self.push(
            ErrorType::TooLong,
            path,
            None,
            format!("may not be more than {max} bytes"),
        );
    }

    /// More than `max` items.
    pub fn too_many(&mut self, path: &Path, actual: usize, max: usize) {
        let noun = if max == 1 { "item" } else { "items" };
        self.push(
            ErrorType::TooMany,
            path,
            Some(actual.into()),
            format!("must have at most {max} {noun}"),
        );
    }
}

/// Joined as upstream's aggregate prints: one alone, several in brackets, duplicates once.
impl fmt::Display for FieldErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut seen: Vec<String> = Vec::new();
        for error in &self.0 {
            let text = error.to_string();
            if !seen.contains(&text) {
                seen.push(text);
            }
        }
        match seen.as_slice() {
            [one] => f.write_str(one),
            many => write!(f, "[{}]", many.join(", ")),
        }
    }
}

/// A value and where it is. Absent fields read as `null`, so a walk needs no `if let` at every step.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    value: &'a Value,
    path: Path,
}

impl<'a> Cursor<'a> {
    /// The whole object.
    pub fn root(value: &'a Value) -> Self {
        Self {
            value,
            path: Path::default(),
        }
    }

    /// A value that stands at `path`.
    pub fn at(value: &'a Value, path: Path) -> Self {
        Self { value, path }
    }

    pub fn child(&self, name: &str) -> Cursor<'a> {
        Cursor {
            value: self.value.get(name).unwrap_or(&NULL),
            path: self.path.child(name),
        }
    }

    /// The items of a list; none where it is absent or no list.
    pub fn items(&self) -> impl Iterator<Item = Cursor<'a>> + use<'a> {
        let path = self.path.clone();
        let list: &'a [Value] = self.value.as_array().map_or(&[], Vec::as_slice);
        list.iter().enumerate().map(move |(index, value)| Cursor {
            value,
            path: path.index(index),
        })
    }

    /// The entries of a map with paths as `labels[key]`.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, Cursor<'a>)> + use<'a> {
        let path = self.path.clone();
        self.value
            .as_object()
            .into_iter()
            .flatten()
            .map(move |(key, value)| {
                (
                    key.as_str(),
                    Cursor {
                        value,
                        path: path.key(key),
                    },
                )
            })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn value(&self) -> &'a Value {
        self.value
    }

    /// Absent or `null`.
    pub fn is_absent(&self) -> bool {
        self.value.is_null()
    }

    /// Absent, `null`, or of zero value or length: what Go's typed structs cannot tell from unset.
    pub fn is_zero(&self) -> bool {
        match self.value {
            Value::Null => true,
            Value::Bool(value) => !value,
            Value::Number(number) => number.as_f64() == Some(0.0),
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
        }
    }

    /// The string, or "" where there is none.
    pub fn str(&self) -> &'a str {
        self.value.as_str().unwrap_or("")
    }

    pub fn i64(&self) -> Option<i64> {
        self.value.as_i64()
    }

    pub fn bool(&self) -> Option<bool> {
        self.value.as_bool()
    }

    /// The number of items or fields; 0 where it is neither list nor map.
    pub fn len(&self) -> usize {
        match self.value {
            Value::Array(items) => items.len(),
            Value::Object(fields) => fields.len(),
            _ => 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn texts_are_upstreams() {
        let path = Path::new("spec").child("ports").index(0).child("port");
        let mut errors = FieldErrors::default();
        errors.invalid(&path, 0, "must be between 1 and 65535, inclusive");
        assert_eq!(
            errors.to_string(),
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"
        );
        errors.not_supported(&Path::new("type"), "X", &["A", "B"]);
        errors.required(
            &Path::new("metadata").child("name"),
            "name or generateName is required",
        );
        assert_eq!(
            errors.to_string(),
            "[spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive, \
             type: Unsupported value: \"X\": supported values: \"A\", \"B\", \
             metadata.name: Required value: name or generateName is required]"
        );
    }

    #[test]
    fn map_keys_print_in_brackets() {
        let object = json!({"labels": {"a/b": "!"}});
        let (key, cursor) = Cursor::root(&object)
            .child("labels")
            .entries()
            .next()
            .expect("one label");
        assert_eq!((key, cursor.path().to_string().as_str()), ("a/b", "labels[a/b]"));
    }
}
