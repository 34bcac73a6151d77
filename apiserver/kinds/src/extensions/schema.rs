//! Structural schemas: every field has a type, logic stands beside structure, metadata is the server's.
//!
//! Rules are upstream's (`apiextensions-apiserver/pkg/apiserver/schema`). Values against the schema, defaults within
//! it and CEL rules belong to who serves the custom resources.

use keelson_machinery::{Cursor, FieldErrors};

use crate::check;

const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];
/// How deep a schema may nest.
const DEPTH_MAX: usize = 64;
const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";

/// The schema of a version.
pub fn root(e: &mut FieldErrors, c: &Cursor) {
    structure(e, c, 0);
    let kind = c.child("type");
    match kind.str() {
        "" => e.required(kind.path(), "must not be empty at the root"),
        "object" => {}
        _ => check::invalid_str(e, &kind, "must be object at the root"),
    }
    if c.child("nullable").bool() == Some(true) {
        e.forbidden(c.child("nullable").path(), "nullable cannot be true at the root");
    }
    let metadata = c.child("properties").child("metadata");
    for (key, _) in metadata.child("properties").entries() {
        if !["name", "generateName"].contains(&key) {
            e.forbidden(
                &metadata.path().child("properties"),
                "must not specify anything other than name and generateName, but metadata is implicitly specified",
            );
            break;
        }
    }
}

fn structure(e: &mut FieldErrors, c: &Cursor, depth: usize) {
    if depth > DEPTH_MAX {
        e.forbidden(c.path(), "schema is nested too deeply");
        return;
    }
    node(e, c);
    let (items, additional) = (c.child("items"), c.child("additionalProperties"));
    for (_, property) in c.child("properties").entries() {
        typed(
            e,
            &property,
            "must not be empty for specified object fields",
            depth,
        );
    }
    if additional.value().is_object() {
        typed(
            e,
            &additional,
            "must not be empty for specified object fields",
            depth,
        );
        if !c.child("properties").is_empty() {
            e.forbidden(
                additional.path(),
                "additionalProperties and properties are mutual exclusive",
            );
        }
    }
    if items.value().is_object() {
        typed(e, &items, "must not be empty for specified array items", depth);
    }
}

fn typed(e: &mut FieldErrors, c: &Cursor, missing: &str, depth: usize) {
    structure(e, c, depth + 1);
    let free = [PRESERVE, INT_OR_STRING]
        .iter()
        .any(|extension| c.child(extension).bool() == Some(true));
    if c.child("type").str().is_empty() && !free {
        e.required(c.child("type").path(), missing);
    }
}

fn node(e: &mut FieldErrors, c: &Cursor) {
    let kind = c.child("type");
    if !kind.str().is_empty() {
        check::supported(e, &kind, TYPES);
    }
    for key in [
        "$ref",
        "definitions",
        "dependencies",
        "deprecated",
        "discriminator",
        "id",
        "patternProperties",
        "readOnly",
        "writeOnly",
        "xml",
    ] {
        let field = c.child(key);
        if !field.is_zero() {
            let detail = match key {
                "$ref" => "$ref is not supported".to_owned(),
                key => format!("{key} is not supported"),
            };
            e.forbidden(field.path(), detail);
        }
    }
    if c.child("uniqueItems").bool() == Some(true) {
        e.forbidden(
            c.child("uniqueItems").path(),
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        );
    }
    if c.child("additionalProperties").bool() == Some(false) {
        e.forbidden(
            c.child("additionalProperties").path(),
            "additionalProperties cannot be set to false",
        );
    }
    if kind.str() == "array" && c.child("items").is_absent() {
        e.required(c.child("items").path(), "must be specified");
    }
    if c.child(INT_OR_STRING).bool() == Some(true) && !kind.str().is_empty() {
        e.forbidden(kind.path(), format!("must be empty if {INT_OR_STRING} is true"));
    }
    list_and_map_types(e, c);
}

fn list_and_map_types(e: &mut FieldErrors, c: &Cursor) {
    let (list, keys, map) = (
        c.child("x-kubernetes-list-type"),
        c.child("x-kubernetes-list-map-keys"),
        c.child("x-kubernetes-map-type"),
    );
    if !list.is_absent() {
        check::supported(e, &list, &["atomic", "map", "set"]);
        if c.child("type").str() != "array" {
            check::invalid_str(
                e,
                &c.child("type"),
                "must be array if x-kubernetes-list-type is specified",
            );
        }
    }
    if list.str() == "map" && keys.is_empty() {
        e.required(keys.path(), "must not be empty if x-kubernetes-list-type is map");
    }
    if list.str() != "map" && !keys.is_empty() {
        e.forbidden(keys.path(), "must be empty unless x-kubernetes-list-type is map");
    }
    if !map.is_absent() {
        check::supported(e, &map, &["atomic", "granular"]);
    }
}
