//! Values seen through their definition: the fields they hold, how two differ, how one merges into another, and what
//! is left when fields are removed (`sigs.k8s.io/structured-merge-diff`).

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value};

use super::set::{Set, field_element, key_element, value_element};
use crate::types::{FieldDef, ListType, MapType, Shape, TypeDef};

/// How a value is taken apart.
#[derive(Clone, Copy)]
pub(super) enum Type<'a> {
    /// Owned as a whole.
    Leaf,
    Struct(&'a TypeDef),
    /// A map of values of one shape; items may be owned as a whole.
    Map(&'a Shape, bool),
    Set,
    /// A list whose items are known by these fields.
    Keyed(&'a Shape, &'a FieldDef),
    /// Without definition: maps are taken apart, all else is owned as a whole.
    Untyped,
}

impl<'a> Type<'a> {
    fn of_field(field: &'a FieldDef) -> Self {
        let atomic = field.map_type == Some(MapType::Atomic);
        match &field.shape {
            Shape::List(item) => match field.list_type {
                Some(ListType::Set) => Self::Set,
                Some(ListType::Map) => Self::Keyed(item, field),
                _ => Self::Leaf,
            },
            Shape::Object(_) | Shape::Map(_) if atomic => Self::Leaf,
            Shape::Map(item) => Self::Map(item, field.item_atomic),
            other => Self::of_shape(other),
        }
    }

    fn of_shape(shape: &'a Shape) -> Self {
        match shape {
            Shape::Object(def) => Self::Struct(def),
            Shape::Map(item) => Self::Map(item, false),
            Shape::Any | Shape::SchemaOrArray(_) | Shape::SchemaOrBool(_) | Shape::SchemaOrStrings(_) => {
                Self::Untyped
            }
            _ => Self::Leaf,
        }
    }

    /// The type of a field or entry, and whether it is a declared field.
    fn child(self, name: &str) -> Option<(Type<'a>, bool)> {
        match self {
            Self::Struct(def) => match def.field(name) {
                Some(field) => Some((Self::of_field(field), true)),
                None if def.preserve_unknown => Some((Self::Untyped, false)),
                None => None,
            },
            Self::Map(_, true) => Some((Self::Leaf, false)),
            Self::Map(item, false) => Some((Self::of_shape(item), false)),
            Self::Untyped => Some((Self::Untyped, false)),
            _ => None,
        }
    }

    /// The type of an item of a list.
    fn item(self) -> Type<'a> {
        match self {
            Self::Keyed(_, field) if field.item_atomic => Self::Leaf,
            Self::Keyed(item, _) => Self::of_shape(item),
            _ => Self::Leaf,
        }
    }

    /// Taken apart as a map; lists are not.
    fn is_map(self, value: &Value) -> bool {
        match self {
            Self::Struct(_) | Self::Map(..) => true,
            Self::Untyped => value.is_object(),
            _ => false,
        }
    }

    fn is_list(self) -> bool {
        matches!(self, Self::Set | Self::Keyed(..))
    }
}

/// The element of an item of a list.
///
/// # Errors
/// The missing key, where it has no default.
fn item_element(item: &Value, list: Type<'_>) -> Result<String, String> {
    let Type::Keyed(shape, field) = list else {
        return Ok(value_element(item));
    };
    let mut keys = Map::new();
    for key in &field.map_keys {
        let default = || {
            shape
                .object()
                .and_then(|def| def.field(key))
                .and_then(|field| field.default.clone())
        };
        match item
            .get(&**key)
            .filter(|value| !value.is_null())
            .cloned()
            .or_else(default)
        {
            Some(value) => {
                keys.insert(key.to_string(), value);
            }
            None if item.is_object() => {}
            None => return Err("associative list with keys may not have non-map elements".to_owned()),
        }
    }
    if keys.is_empty() {
        let names: Vec<String> = field.map_keys.iter().map(|key| format!("{key:?}")).collect();
        return Err(format!(
            "associative list with keys has an element that omits key field {}",
            names.join(" or ")
        ));
    }
    Ok(key_element(keys))
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// An element as paths print it: `.name`, `[name="a"]`.
fn printed(element: &str) -> String {
    let mut set = Set::default();
    set.put(element.to_owned(), Set::leaf());
    let mut printed = String::new();
    set.each_path(&mut |path| path.clone_into(&mut printed));
    printed
}

/// The fields a configuration sets.
///
/// # Errors
/// A field the definition does not have, an item without its key, or two with the same key; the path before each text.
pub(super) fn fields_of(value: &Value, of: Type<'_>) -> Result<Set, String> {
    let mut set = Set::default();
    if of.is_map(value) {
        let Some(map) = value.as_object() else {
            return match value {
                Value::Null => Ok(set),
                _ => Err(format!(": expected map, got {value}")),
            };
        };
        for (name, value) in map {
            let element = field_element(name);
            let Some((child_type, declared)) = of.child(name) else {
                return Err(format!(".{name}: field not declared in schema"));
            };
            let mut child =
                fields_of(value, child_type).map_err(|why| format!("{}{why}", printed(&element)))?;
            let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
            child.member |= empty || !declared;
            set.put(element, child);
        }
    } else if of.is_list() {
        for (index, item) in items(value).iter().enumerate() {
            let element = item_element(item, of).map_err(|why| format!(": element {index}: {why}"))?;
            let mut child =
                fields_of(item, of.item()).map_err(|why| format!("{}{why}", printed(&element)))?;
            child.member = true;
            if set.children.contains_key(&element) {
                return Err(format!(": duplicate entries for key {}", printed(&element)));
            }
            set.put(element, child);
        }
    } else {
        set.member = true;
    }
    Ok(set)
}

/// How a new value differs from an old one.
#[derive(Clone, Debug, Default)]
pub(super) struct Comparison {
    pub added: Set,
    pub modified: Set,
    pub removed: Set,
}

/// Compares two objects as if neither had `managedFields`, without a copy of either.
pub(super) fn compare_objects(old: &Value, new: &Value, def: &TypeDef) -> Comparison {
    let of = Type::Struct(def);
    let mut found = Comparison::default();
    let metadata = (old.get("metadata"), new.get("metadata"));
    let metadata_type = of.child("metadata").map_or(Type::Untyped, |(child, _)| child);
    compare_maps(&mut found, Some(old), Some(new), of, Some("metadata"));
    if metadata.0 != metadata.1 {
        let between = compare_but(metadata.0, metadata.1, metadata_type, Some("managedFields"));
        found.put(field_element("metadata"), between);
    }
    found
}

/// Compares two values of a type; items without their key are passed over.
pub(super) fn compare(old: Option<&Value>, new: Option<&Value>, of: Type<'_>) -> Comparison {
    compare_but(old, new, of, None)
}

/// Compares two values; of maps without the entry `but`.
fn compare_but(old: Option<&Value>, new: Option<&Value>, of: Type<'_>, but: Option<&str>) -> Comparison {
    let mut found = Comparison::default();
    let (old, new) = match (old, new) {
        (None, None) => return found,
        pair => pair,
    };
    let shown = new.or(old).unwrap_or(&Value::Null);
    let opposite =
        matches!((of, old, new), (Type::Untyped, Some(old), Some(new)) if old.is_object() != new.is_object());
    let hollow = |value: Option<&Value>| match value {
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        None | Some(Value::Null) => true,
        Some(_) => false,
    };
    let apart = (of.is_map(shown) || of.is_list()) && !opposite && !(hollow(old) && hollow(new));
    if apart && of.is_list() {
        compare_lists(&mut found, old, new, of);
    } else if apart {
        compare_maps(&mut found, old, new, of, but);
    }
    match (old, new) {
        (None, _) => found.added.member = true,
        (_, None) => found.removed.member = true,
        (Some(old), Some(new)) if !apart && old != new => found.modified.member = true,
        _ => {}
    }
    found
}

impl Comparison {
    fn put(&mut self, element: String, child: Comparison) {
        self.added.put(element.clone(), child.added);
        self.modified.put(element.clone(), child.modified);
        self.removed.put(element, child.removed);
    }
}

fn compare_maps(
    found: &mut Comparison,
    old: Option<&Value>,
    new: Option<&Value>,
    of: Type<'_>,
    but: Option<&str>,
) {
    let none = Map::new();
    let old = old.and_then(Value::as_object).unwrap_or(&none);
    let new = new.and_then(Value::as_object).unwrap_or(&none);
    let names = old
        .keys()
        .chain(new.keys().filter(|name| !old.contains_key(*name)));
    for name in names {
        let (before, after) = (old.get(name), new.get(name));
        if Some(name.as_str()) == but || before == after {
            continue;
        }
        let child_type = of.child(name).map_or(Type::Untyped, |(child, _)| child);
        found.put(field_element(name), compare(before, after, child_type));
    }
}

/// A list's items by their elements; items without their key are passed over.
fn keyed<'a>(value: Option<&'a Value>, of: Type<'_>) -> BTreeMap<String, &'a Value> {
    let items = value.and_then(Value::as_array).into_iter().flatten();
    items
        .filter_map(|item| Some((item_element(item, of).ok()?, item)))
        .collect()
}

fn compare_lists(found: &mut Comparison, old: Option<&Value>, new: Option<&Value>, of: Type<'_>) {
    if old == new {
        return;
    }
    let (old, new) = (keyed(old, of), keyed(new, of));
    let elements = old
        .keys()
        .chain(new.keys().filter(|element| !old.contains_key(*element)));
    for element in elements {
        let (before, after) = (old.get(element).copied(), new.get(element).copied());
        if before != after {
            found.put(element.clone(), compare(before, after, of.item()));
        }
    }
}

/// `config` merged into `live`; what `config` says wins.
pub(super) fn merge(live: &Value, config: &Value, of: Type<'_>) -> Value {
    // A map or list that is null has no items to say anything about.
    if config.is_null() && (of.is_map(config) || of.is_list()) {
        return live.clone();
    }
    if of.is_map(config) {
        let (Some(live), Some(config)) = (live.as_object(), config.as_object()) else {
            return config.clone();
        };
        // Each value is copied once, however deep it stands.
        let present = live.iter().map(|(name, present)| {
            let value = config.get(name).map_or_else(
                || present.clone(),
                |value| {
                    let child_type = of.child(name).map_or(Type::Untyped, |(child, _)| child);
                    merge(present, value, child_type)
                },
            );
            (name.clone(), value)
        });
        let added = config.iter().filter(|(name, _)| !live.contains_key(*name));
        let added = added.map(|(name, value)| (name.clone(), value.clone()));
        Value::Object(present.chain(added).collect())
    } else if of.is_list() && live.is_array() && config.is_array() {
        Value::Array(merge_lists(items(live), items(config), of))
    } else {
        config.clone()
    }
}

/// Items in the configuration's order, with the live object's own where they stood between the shared ones.
fn merge_lists(live: &[Value], config: &[Value], of: Type<'_>) -> Vec<Value> {
    let element = |item: &Value| item_element(item, of).unwrap_or_default();
    let live: Vec<(String, &Value)> = live.iter().map(|item| (element(item), item)).collect();
    let config: Vec<(String, &Value)> = config.iter().map(|item| (element(item), item)).collect();
    let in_config: HashSet<&str> = config.iter().map(|(element, _)| element.as_str()).collect();
    let by_element: BTreeMap<&str, &Value> = live
        .iter()
        .rev()
        .map(|(element, item)| (element.as_str(), *item))
        .collect();
    let mut shared = config
        .iter()
        .map(|(element, _)| element.as_str())
        .filter(|one| by_element.contains_key(one));
    let mut next_shared = shared.next();
    let mut merged = Vec::with_capacity(live.len() + config.len());
    let (mut at_live, mut at_config) = (0, 0);
    while at_live < live.len() || at_config < config.len() {
        if let Some((element, item)) = live.get(at_live) {
            if !in_config.contains(element.as_str()) {
                merged.push((*item).clone());
                at_live += 1;
                continue;
            }
            if at_config == config.len() || next_shared != Some(element.as_str()) {
                at_live += 1;
                continue;
            }
        }
        let Some((element, item)) = config.get(at_config) else {
            continue;
        };
        merged.push(match by_element.get(element.as_str()) {
            Some(present) => merge(present, item, of.item()),
            None => (*item).clone(),
        });
        at_config += 1;
        if next_shared == Some(element.as_str()) {
            next_shared = shared.next();
        }
    }
    merged
}

/// What is left of a value when the members of `gone` are taken away; emptied maps and lists become null.
pub(super) fn without(value: &Value, gone: &Set, of: Type<'_>) -> Value {
    if gone.children.is_empty() {
        return value.clone();
    }
    if of.is_map(value) {
        let Some(map) = value.as_object() else {
            return value.clone();
        };
        let mut kept = Map::new();
        for (name, value) in map {
            let child = match gone.children.get(&field_element(name)) {
                Some(child) if child.member => continue,
                Some(child) => {
                    let child_type = of.child(name).map_or(Type::Untyped, |(child, _)| child);
                    without(value, child, child_type)
                }
                None => value.clone(),
            };
            kept.insert(name.clone(), child);
        }
        if kept.is_empty() && !map.is_empty() {
            Value::Null
        } else {
            Value::Object(kept)
        }
    } else if of.is_list() {
        let mut kept = Vec::new();
        for item in items(value) {
            match item_element(item, of)
                .ok()
                .and_then(|element| gone.children.get(&element))
            {
                Some(child) if child.member => {}
                Some(child) => kept.push(without(item, child, of.item())),
                None => kept.push(item.clone()),
            }
        }
        if kept.is_empty() {
            Value::Null
        } else {
            Value::Array(kept)
        }
    } else {
        value.clone()
    }
}

/// The set with every declared field above a member made a member too.
pub(super) fn with_named_fields(set: &Set, of: Type<'_>) -> Set {
    let mut named = Set {
        member: set.member,
        children: BTreeMap::new(),
    };
    for (element, child) in &set.children {
        let (child_type, declared) = match element.strip_prefix("f:") {
            Some(name) => of.child(name).unwrap_or((Type::Untyped, false)),
            None => (of.item(), false),
        };
        let mut child = with_named_fields(child, child_type);
        child.member |= declared;
        named.children.insert(element.clone(), child);
    }
    named
}
