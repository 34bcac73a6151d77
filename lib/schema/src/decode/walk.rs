//! Fits a value to its definition in place: checks types, drops unknown and empty fields, fills in what Go writes.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keelson_machinery::{Quantity, time};
use serde_json::{Map, Value};

use super::{DEPTH_MAX, STRICT_ERRORS_MAX};
use crate::types::{FieldDef, Shape, TypeDef};

/// Fits `value`, adding `unknown field "path"` to `strict`.
///
/// # Errors
/// Go's text for the first value of a wrong type.
pub(super) fn fit(value: &mut Value, def: &TypeDef, strict: &mut Vec<String>) -> Result<(), String> {
    let mut walk = Walk {
        path: String::new(),
        strict,
        depth: 0,
    };
    if !value.is_object() {
        return Err(format!(
            "json: cannot unmarshal {} into Go value of type {}",
            go_kind(value),
            def.go_type()
        ));
    }
    walk.object(value, def).map_err(Wrong::into_text)
}

/// Why a value does not fit.
enum Wrong {
    /// A JSON type Go cannot put there, with the fields above it, innermost first.
    Type {
        found: String,
        wanted: String,
        owner: String,
        fields: Vec<String>,
    },
    /// The text of a type that reads itself (times, quantities).
    Own(String),
}

impl Wrong {
    fn of(found: &Value, wanted: &Shape) -> Self {
        Self::Type {
            found: go_kind(found),
            wanted: wanted.go_type(),
            owner: String::new(),
            fields: Vec::new(),
        }
    }

    fn within(mut self, def: &TypeDef, field: &str) -> Self {
        if let Self::Type { owner, fields, .. } = &mut self {
            if owner.is_empty() {
                def.go_name().clone_into(owner);
            }
            fields.push(field.to_owned());
        }
        self
    }

    fn into_text(self) -> String {
        match self {
            Self::Own(text) => text,
            Self::Type {
                found,
                wanted,
                owner,
                mut fields,
            } => {
                fields.reverse();
                let path = fields.join(".");
                format!("json: cannot unmarshal {found} into Go struct field {owner}.{path} of type {wanted}")
            }
        }
    }
}

/// What Go calls the value in a type error.
fn go_kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(number) if number.is_f64() => format!("number {number}"),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    }
}

struct Walk<'a> {
    path: String,
    strict: &'a mut Vec<String>,
    depth: usize,
}

impl Walk<'_> {
    fn object(&mut self, value: &mut Value, def: &TypeDef) -> Result<(), Wrong> {
        let Value::Object(map) = value else {
            let wanted = def.go_type();
            return Err(Wrong::Type {
                found: go_kind(value),
                wanted,
                owner: String::new(),
                fields: Vec::new(),
            });
        };
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Wrong::Own("exceeded max depth".to_owned()));
        }
        let length = self.path.len();
        let mut wrong = None;
        map.retain(|name, value| {
            if wrong.is_some() {
                return true;
            }
            let Some(field) = def.field(name) else {
                if !def.preserve_unknown {
                    self.unknown(name);
                }
                return def.preserve_unknown;
            };
            if value.is_null() {
                return false;
            }
            self.push(name);
            let outcome = self.shape(value, &field.shape);
            self.path.truncate(length);
            if let Err(why) = outcome {
                wrong = Some(why.within(def, name));
                return true;
            }
            // An empty `managedFields` asks to forget all owners: no other list tells empty from absent.
            let asked = field.name == "managedFields";
            field.pointer || !field.omitempty || asked || !is_empty(value, &field.shape)
        });
        self.depth -= 1;
        wrong.map_or(Ok(()), Err)?;
        fill(map, def);
        Ok(())
    }

    fn push(&mut self, name: &str) {
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(name);
    }

    fn unknown(&mut self, name: &str) {
        if self.strict.len() < STRICT_ERRORS_MAX {
            let dot = if self.path.is_empty() { "" } else { "." };
            self.strict
                .push(format!("unknown field {:?}", format!("{}{dot}{name}", self.path)));
        }
    }

    fn shape(&mut self, value: &mut Value, shape: &Shape) -> Result<(), Wrong> {
        match (shape, &mut *value) {
            (Shape::Object(def), _) => self.object(value, def),
            (Shape::List(item), Value::Array(items)) => self.items(items, item),
            (Shape::Map(item), Value::Object(entries)) => self.entries(entries, item),
            (Shape::Strings, Value::Array(items)) => self.items(items, &Shape::String),
            (Shape::Any, _) => Ok(()),
            (Shape::SchemaOrArray(schema), Value::Array(items)) => {
                self.items(items, &Shape::Object(schema.clone()))
            }
            (
                Shape::SchemaOrArray(schema) | Shape::SchemaOrBool(schema) | Shape::SchemaOrStrings(schema),
                Value::Object(_),
            ) => self.object(value, schema),
            (Shape::SchemaOrBool(_), Value::Bool(_)) => Ok(()),
            (Shape::SchemaOrStrings(_), Value::Array(items)) => self.items(items, &Shape::String),
            _ => scalar(value, shape),
        }
    }

    fn items(&mut self, items: &mut [Value], shape: &Shape) -> Result<(), Wrong> {
        let length = self.path.len();
        for (index, item) in items.iter_mut().enumerate() {
            if matches!(shape, Shape::Object(_)) {
                write!(self.path, "[{index}]").expect("writing to a string cannot fail");
            }
            let outcome = self.element(item, shape);
            self.path.truncate(length);
            outcome?;
        }
        Ok(())
    }

    fn entries(&mut self, entries: &mut Map<String, Value>, shape: &Shape) -> Result<(), Wrong> {
        let length = self.path.len();
        for (key, item) in entries.iter_mut() {
            self.push(key);
            let outcome = self.element(item, shape);
            self.path.truncate(length);
            outcome?;
        }
        Ok(())
    }

    /// A null item is Go's zero value.
    fn element(&mut self, item: &mut Value, shape: &Shape) -> Result<(), Wrong> {
        if item.is_null() {
            *item = zero(shape);
            return Ok(());
        }
        self.shape(item, shape)
    }
}

/// A value without fields: checked, and made canonical where its type has a canonical form.
fn scalar(value: &mut Value, shape: &Shape) -> Result<(), Wrong> {
    match (shape, &*value) {
        (Shape::String, Value::String(_))
        | (Shape::Bool, Value::Bool(_))
        | (Shape::Double, Value::Number(_)) => Ok(()),
        (Shape::Int64, Value::Number(number)) if number.is_i64() => Ok(()),
        (Shape::Int32, Value::Number(number))
            if number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) =>
        {
            Ok(())
        }
        (Shape::Int32 | Shape::Int64, Value::Number(number)) => {
            let mut wrong = Wrong::of(value, shape);
            if let Wrong::Type { found, .. } = &mut wrong {
                *found = format!("number {number}");
            }
            Err(wrong)
        }
        (Shape::Bytes, Value::String(text)) => bytes(text),
        (Shape::Time | Shape::MicroTime | Shape::Duration, Value::String(text)) => {
            let canonical = temporal(text, shape).map_err(Wrong::Own)?;
            *value = canonical;
            Ok(())
        }
        (Shape::Quantity, Value::String(_) | Value::Number(_)) => {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            *value = Quantity::parse(text.trim())
                .map_err(Wrong::Own)?
                .to_string()
                .into();
            Ok(())
        }
        (Shape::IntOrString, Value::String(_)) => Ok(()),
        (Shape::IntOrString, Value::Number(_)) => scalar(value, &Shape::Int32).map_err(|_| Wrong::Type {
            found: format!("number {value}"),
            wanted: "int32".to_owned(),
            owner: String::new(),
            fields: Vec::new(),
        }),
        _ => Err(Wrong::of(value, shape)),
    }
}

fn bytes(text: &str) -> Result<(), Wrong> {
    match STANDARD.decode(text) {
        Ok(_) => Ok(()),
        // Go's decoder skips line ends.
        Err(_) if STANDARD.decode(text.replace(['\r', '\n'], "")).is_ok() => Ok(()),
        Err(base64::DecodeError::InvalidByte(at, _)) => {
            Err(Wrong::Own(format!("illegal base64 data at input byte {at}")))
        }
        Err(_) => Err(Wrong::Own(format!(
            "illegal base64 data at input byte {}",
            text.len() / 4 * 4
        ))),
    }
}

fn temporal(text: &str, shape: &Shape) -> Result<Value, String> {
    Ok(match shape {
        Shape::Time => time::format_rfc3339(time::parse(text)?).into(),
        Shape::MicroTime => time::format_micro(time::parse(text)?).into(),
        _ => time::format_duration(time::parse_duration(text)?).into(),
    })
}

/// What Go leaves out with `omitempty`; structs it never does.
pub(crate) fn is_empty(value: &Value, shape: &Shape) -> bool {
    match (shape, value) {
        (Shape::Object(_) | Shape::IntOrString | Shape::Quantity | Shape::Any, _) => false,
        (_, Value::Null) => true,
        (_, Value::Bool(value)) => !value,
        (_, Value::Number(number)) => number.as_f64() == Some(0.0),
        (_, Value::String(text)) => text.is_empty(),
        (_, Value::Array(items)) => items.is_empty(),
        (_, Value::Object(entries)) => entries.is_empty(),
    }
}

/// Adds the fields Go writes although nobody set them.
pub(crate) fn fill(map: &mut Map<String, Value>, def: &TypeDef) {
    for field in &def.fields {
        if writes_always(field) && !map.contains_key(&*field.name) {
            let value = if field.pointer {
                Value::Null
            } else {
                zero(&field.shape)
            };
            map.insert(field.name.to_string(), value);
        }
    }
}

/// Without `omitempty`, or a struct that is no pointer, which `omitempty` never leaves out.
fn writes_always(field: &FieldDef) -> bool {
    let is_struct = matches!(
        field.shape,
        Shape::Object(_) | Shape::Time | Shape::MicroTime | Shape::Quantity | Shape::IntOrString
    );
    // `omitzero` since 1.34; the column cannot tell.
    let omitzero = field.name == "creationTimestamp" && field.omitempty;
    !field.omitempty || (is_struct && !field.pointer && !omitzero)
}

/// Go's zero value in JSON.
pub(crate) fn zero(shape: &Shape) -> Value {
    match shape {
        Shape::String => "".into(),
        Shape::Bool => false.into(),
        Shape::Int32 | Shape::Int64 | Shape::Double | Shape::IntOrString => 0.into(),
        Shape::Duration => "0s".into(),
        Shape::Quantity => "0".into(),
        Shape::Object(def) => {
            let mut map = Map::new();
            fill(&mut map, def);
            Value::Object(map)
        }
        _ => Value::Null,
    }
}
