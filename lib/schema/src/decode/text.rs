//! JSON text to a value, noting keys that come twice (the last wins, as in Go).

use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::syntax;

/// The value, and `duplicate field "path"` for each second key.
pub(super) fn parse(bytes: &[u8]) -> Result<(Value, Vec<String>), String> {
    // Go replaces what is not UTF-8 instead of refusing it.
    let text = String::from_utf8_lossy(bytes);
    let mut reader = serde_json::Deserializer::from_str(&text);
    let read = from_reader(&mut reader).map_err(|why| syntax::describe(&text, &why))?;
    reader.end().map_err(|why| syntax::describe(&text, &why))?;
    Ok(read)
}

/// As [`parse`], from any reader that describes itself.
pub(crate) fn from_reader<'de, D: serde::Deserializer<'de>>(
    reader: D,
) -> Result<(Value, Vec<String>), D::Error> {
    let mut notes = Notes::default();
    let value = Seed(&mut notes).deserialize(reader)?;
    Ok((value, notes.duplicates))
}

#[derive(Default)]
struct Notes {
    path: String,
    duplicates: Vec<String>,
}

/// Reads one value at the path noted so far.
struct Seed<'a>(&'a mut Notes);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let notes = self.0;
        let length = notes.path.len();
        let mut list = Vec::new();
        loop {
            use std::fmt::Write as _;
            write!(notes.path, "[{}]", list.len()).expect("writing to a string cannot fail");
            let item = items.next_element_seed(Seed(notes))?;
            notes.path.truncate(length);
            match item {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let notes = self.0;
        let length = notes.path.len();
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if length > 0 {
                notes.path.push('.');
            }
            notes.path.push_str(&key);
            let value = entries.next_value_seed(Seed(notes))?;
            if map.insert(key, value).is_some() && notes.duplicates.len() < super::STRICT_ERRORS_MAX {
                let text = format!("duplicate field {:?}", notes.path);
                if !notes.duplicates.contains(&text) {
                    notes.duplicates.push(text);
                }
            }
            notes.path.truncate(length);
        }
        Ok(Value::Object(map))
    }
}
