//! Definitions as schemas of OpenAPI v2 and v3.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::LazyLock;

use keelson_schema::resources;
use keelson_schema::types::{self, FieldDef, ListType, MapType, Shape, TypeDef};
use serde_json::{Map, Value, json};

use crate::descriptions::Descriptions;

/// The tables the schemas are made from, for hashes.
pub(crate) const FACTS: &[u8] = include_bytes!("../../../lib/schema/tables/types.tsv");

pub(crate) const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";
const DURATION: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Duration";
const FIELDS_V1: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1";
/// The body of every patch.
pub(crate) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const RAW_EXTENSION: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";

/// Which OpenAPI.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    V2,
    V3,
}

impl Form {
    /// A reference to a definition.
    pub(crate) fn reference(self, name: &str) -> Value {
        match self {
            Self::V2 => json!({"$ref": format!("#/definitions/{name}")}),
            Self::V3 => json!({"$ref": format!("#/components/schemas/{name}")}),
        }
    }
}

/// The definitions and all they refer to.
pub(crate) fn closure(roots: &BTreeSet<String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut queue: Vec<String> = roots.iter().cloned().collect();
    while let Some(name) = queue.pop() {
        if let Some(def) = types::by_name(&name) {
            for field in &def.fields {
                queue.extend(referred(&field.shape, def, field).filter(|name| !found.contains(name)));
            }
        }
        found.insert(name);
    }
    found
}

fn referred(shape: &Shape, def: &TypeDef, field: &FieldDef) -> std::option::IntoIter<String> {
    match shape {
        Shape::List(item) | Shape::Map(item) => referred(item, def, field),
        _ => definition_name(shape, def, field).into_iter(),
    }
}

fn union_name(shape: &Shape) -> String {
    let (schema, kind) = match shape {
        Shape::SchemaOrArray(schema) => (schema, "OrArray"),
        Shape::SchemaOrBool(schema) => (schema, "OrBool"),
        Shape::SchemaOrStrings(schema) => (schema, "OrStringArray"),
        _ => return String::new(),
    };
    format!("{}{kind}", schema.name)
}

/// The definition a shape refers to; `None` for what is written in place.
fn definition_name(shape: &Shape, def: &TypeDef, field: &FieldDef) -> Option<String> {
    let name = match shape {
        Shape::Time => TIME,
        Shape::MicroTime => MICRO_TIME,
        Shape::Duration => DURATION,
        Shape::Quantity => QUANTITY,
        Shape::IntOrString => INT_OR_STRING,
        Shape::Any if field.name == "fieldsV1" => FIELDS_V1,
        Shape::Any if def.go_name() == "JSONSchemaProps" => {
            return def.name.strip_suffix("SchemaProps").map(str::to_owned);
        }
        Shape::Any => RAW_EXTENSION,
        Shape::Object(def) => &def.name,
        Shape::SchemaOrArray(_) | Shape::SchemaOrBool(_) | Shape::SchemaOrStrings(_) => {
            return Some(union_name(shape));
        }
        _ => return None,
    };
    Some(name.to_owned())
}

/// The schema of a definition.
pub(crate) fn definition(name: &str, descriptions: &Descriptions, form: Form) -> Value {
    let mut schema = special(name, form).unwrap_or_else(|| match types::by_name(name) {
        Some(def) => object(def, descriptions, form),
        None => json!({"type": "object"}),
    });
    let own = descriptions
        .definition(name)
        .map(str::to_owned)
        .or_else(|| implied(name));
    if let (Some(text), Some(map)) = (own, schema.as_object_mut()) {
        map.insert("description".to_owned(), text.into());
    }
    schema
}

/// What is said of definitions that k8s-openapi does not have: lists, and two of the machinery.
fn implied(name: &str) -> Option<String> {
    let (_, kind) = name.rsplit_once('.')?;
    match (name, kind.strip_suffix("List")) {
        (PATCH, _) => Some(
            "Patch is provided to give a concrete name and type to the Kubernetes PATCH request body."
                .to_owned(),
        ),
        (_, Some(item)) => Some(format!("{kind} is a collection of {item}.")),
        (_, None) => (kind == "WatchEvent")
            .then(|| "Event represents a single event to a watched resource.".to_owned()),
    }
}

/// What is said of a field that k8s-openapi does not have: those every kind and every list has.
fn implied_field<'a>(def: &TypeDef, field: &str, descriptions: &'a Descriptions) -> Option<&'a str> {
    const EXAMPLE: &str = "io.k8s.api.core.v1.Pod";
    match field {
        "apiVersion" | "kind" if def.has_kind => descriptions.field(EXAMPLE, field),
        "items" => Some("items is the list of objects."),
        "metadata" => Some("Standard list metadata."),
        _ => None,
    }
}

/// Definitions that are no objects with fields.
fn special(name: &str, form: Form) -> Option<Value> {
    let either = |first: Value, second: Value| match form {
        Form::V2 => first.clone(),
        Form::V3 => json!({"oneOf": [first, second]}),
    };
    Some(match name {
        TIME | MICRO_TIME => json!({"type": "string", "format": "date-time"}),
        DURATION => json!({"type": "string"}),
        FIELDS_V1 | RAW_EXTENSION | PATCH => json!({"type": "object"}),
        QUANTITY => either(json!({"type": "string"}), json!({"type": "number"})),
        INT_OR_STRING if form == Form::V2 => json!({"type": "string", "format": "int-or-string"}),
        INT_OR_STRING => {
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
        }
        _ => match name.rsplit('.').next() {
            Some(
                "JSON" | "JSONSchemaPropsOrArray" | "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrStringArray",
            ) => {
                json!({})
            }
            _ => return None,
        },
    })
}

fn object(def: &TypeDef, descriptions: &Descriptions, form: Form) -> Value {
    let mut properties = Map::new();
    for field in &def.fields {
        let mut schema = property(def, field, form);
        let text = descriptions.field(&def.name, &field.name);
        let text = text.or_else(|| implied_field(def, &field.name, descriptions));
        if let (Some(text), Some(map)) = (text, schema.as_object_mut()) {
            map.insert("description".to_owned(), text.into());
        }
        properties.insert(field.name.to_string(), schema);
    }
    let required: Vec<&str> = def
        .fields
        .iter()
        .filter(|field| field.required)
        .map(|field| &*field.name)
        .collect();
    let mut schema = json!({"type": "object"});
    if !properties.is_empty() {
        schema["properties"] = properties.into();
    }
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    if ATOMIC.contains(&*def.name) {
        schema["x-kubernetes-map-type"] = "atomic".into();
    }
    let kinds = kinds(def);
    if !kinds.is_empty() {
        schema["x-kubernetes-group-version-kind"] = kinds.into();
    }
    schema
}

fn property(def: &TypeDef, field: &FieldDef, form: Form) -> Value {
    let mut schema = shape(&field.shape, def, field, form);
    let mut note = |key: &str, value: Value| schema[key] = value;
    if let Some(default) = &field.default {
        note("default", default.clone());
    }
    let list_type = match field.list_type {
        Some(ListType::Atomic) => Some("atomic"),
        Some(ListType::Set) => Some("set"),
        Some(ListType::Map) => Some("map"),
        None => None,
    };
    if let Some(list_type) = list_type {
        note("x-kubernetes-list-type", list_type.into());
    }
    if !field.map_keys.is_empty() {
        let keys: Vec<&str> = field.map_keys.iter().map(|key| &**key).collect();
        note("x-kubernetes-list-map-keys", keys.into());
    }
    match (&field.shape, field.map_type) {
        (Shape::Map(_), Some(MapType::Atomic)) => note("x-kubernetes-map-type", "atomic".into()),
        (Shape::Map(_), Some(MapType::Granular)) => note("x-kubernetes-map-type", "granular".into()),
        _ => {}
    }
    let strategies = [
        (field.patch_merge, "merge"),
        (field.patch_retain_keys, "retainKeys"),
        (field.patch_replace, "replace"),
    ];
    let strategies: Vec<&str> = strategies
        .iter()
        .filter(|(set, _)| *set)
        .map(|(_, name)| *name)
        .collect();
    if !strategies.is_empty() {
        note("x-kubernetes-patch-strategy", strategies.join(",").into());
    }
    if let Some(key) = &field.merge_key {
        note("x-kubernetes-patch-merge-key", key.as_ref().into());
    }
    schema
}

fn shape(shape_of: &Shape, def: &TypeDef, field: &FieldDef, form: Form) -> Value {
    match shape_of {
        Shape::String => json!({"type": "string"}),
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Int32 => json!({"type": "integer", "format": "int32"}),
        Shape::Int64 => json!({"type": "integer", "format": "int64"}),
        Shape::Double => json!({"type": "number", "format": "double"}),
        Shape::Bytes => json!({"type": "string", "format": "byte"}),
        Shape::Strings => json!({"type": "array", "items": {"type": "string"}}),
        Shape::List(item) => json!({"type": "array", "items": shape(item, def, field, form)}),
        Shape::Map(item) => json!({"type": "object", "additionalProperties": shape(item, def, field, form)}),
        other => {
            let name = definition_name(other, def, field).unwrap_or_default();
            match form {
                Form::V2 => form.reference(&name),
                // A reference may have no siblings in v3.
                Form::V3 => json!({"allOf": [form.reference(&name)]}),
            }
        }
    }
}

/// Definitions that server-side apply replaces as a whole wherever they stand.
static ATOMIC: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    let mut found = HashSet::new();
    for def in types::all() {
        for field in &def.fields {
            let item = match &field.shape {
                Shape::Object(_) if field.map_type == Some(MapType::Atomic) => Some(&field.shape),
                Shape::List(item) | Shape::Map(item) if field.item_atomic => Some(&**item),
                _ => None,
            };
            if let Some(Shape::Object(types::TypeRef::Table(index))) = item {
                found.insert(&*types::at(*index).name);
            }
        }
    }
    found
});

/// The group and version of each package that has resources.
static PACKAGES: LazyLock<HashMap<String, (String, String)>> = LazyLock::new(|| {
    let package = |one: &resources::ResourceInfo| {
        let def = types::of(&one.group, &one.version, &one.kind)?;
        let (package, _) = def.name.rsplit_once('.')?;
        Some((
            package.to_owned(),
            (one.group.to_string(), one.version.to_string()),
        ))
    };
    resources::all().iter().filter_map(package).collect()
});

/// `x-kubernetes-group-version-kind`.
fn kinds(def: &TypeDef) -> Vec<Value> {
    if !def.has_kind {
        return Vec::new();
    }
    let (package, kind) = def.name.rsplit_once('.').unwrap_or(("", &def.name));
    let one = |group: &str, version: &str| json!({"group": group, "kind": kind, "version": version});
    match (package, kind) {
        (META, "DeleteOptions" | "WatchEvent") => {
            let all: BTreeSet<(&str, &str)> = resources::all()
                .iter()
                .map(|one| (&*one.group, &*one.version))
                .collect();
            all.into_iter()
                .map(|(group, version)| one(group, version))
                .collect()
        }
        (META, _) => vec![one("", "v1")],
        _ => PACKAGES
            .get(package)
            .map(|(group, version)| one(group, version))
            .into_iter()
            .collect(),
    }
}
