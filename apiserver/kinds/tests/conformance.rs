//! Walks the whole table of kinds: what every kind must do, whatever it is.
//!
//! The sample of a kind is the smallest object a client may create. A new kind needs a row here.

mod samples;

use jiff::Timestamp;
use keelson_kinds::{Kind, kinds};
use keelson_machinery::Value;
use keelson_schema::resources;
use keelson_schema::types::{self, Shape, TypeDef};
use samples::{name, sample};
use serde_json::json;

/// Kinds that are answered, not stored: no metadata, no update.
const NOT_STORED: &[&str] = &[
    "componentstatuses",
    "tokenreviews",
    "selfsubjectreviews",
    "subjectaccessreviews",
    "localsubjectaccessreviews",
    "selfsubjectaccessreviews",
    "selfsubjectrulesreviews",
];

/// As the server hands it over: with name, namespace and uid filled.
fn object(kind: &dyn Kind) -> Value {
    let mut obj = sample(kind);
    obj["metadata"] = json!({"name": name(kind), "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"});
    if kind.info().namespaced {
        obj["metadata"]["namespace"] = "d".into();
    }
    obj
}

fn created(kind: &dyn Kind) -> Value {
    let mut obj = object(kind);
    kind.set_defaults(&mut obj);
    kind.prepare_create(&mut obj);
    obj
}

fn stored() -> impl Iterator<Item = &'static dyn Kind> {
    let is_stored = |kind: &&dyn Kind| !NOT_STORED.contains(&kind.info().resource.as_ref());
    kinds().iter().copied().filter(is_stored)
}

fn title(kind: &dyn Kind) -> String {
    format!("{} {}", kind.info().api_version(), kind.info().resource)
}

#[test]
fn every_served_resource_has_a_kind() {
    let missing: Vec<String> = resources::all()
        .iter()
        .filter(|info| info.by_default && info.resource != "bindings")
        .filter(|info| {
            !kinds()
                .iter()
                .any(|kind| kind.info().group_version_resource() == info.group_version_resource())
        })
        .map(|info| format!("{}/{} {}", info.group, info.version, info.resource))
        .collect();
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn the_smallest_object_is_valid_and_defaults_are_stable() {
    for kind in stored() {
        let obj = created(kind);
        let errors = kind.validate(&obj, None);
        assert!(errors.is_empty(), "{}: {errors}", title(kind));
        let mut again = obj.clone();
        kind.set_defaults(&mut again);
        assert_eq!(again, obj, "{}: defaulting twice", title(kind));
    }
}

#[test]
fn an_update_without_changes_changes_nothing() {
    for kind in stored() {
        let mut old = created(kind);
        old["metadata"]["resourceVersion"] = "7".into();
        let mut new = old.clone();
        kind.set_defaults(&mut new);
        kind.prepare_update(&mut new, &old);
        assert_eq!(new, old, "{}", title(kind));
        let errors = kind.validate(&new, Some(&old));
        assert!(errors.is_empty(), "{}: {errors}", title(kind));
        for info in &kind.info().subresources {
            if let Some(part) = kind.subresource(&info.name) {
                part.prepare_update(&mut new, &old);
                let errors = part.validate(&new, &old);
                assert!(errors.is_empty(), "{}/{}: {errors}", title(kind), info.name);
            }
        }
    }
}

#[test]
fn bad_metadata_is_refused() {
    for kind in stored() {
        let mut obj = created(kind);
        obj["metadata"]["name"] = "a/b".into();
        obj["metadata"]["labels"]["-"] = "x".into();
        let errors = kind.validate(&obj, None);
        let fields: Vec<&str> = errors.0.iter().map(|error| error.field.as_str()).collect();
        assert!(fields.contains(&"metadata.name"), "{}: {fields:?}", title(kind));
        assert!(fields.contains(&"metadata.labels"), "{}: {fields:?}", title(kind));
    }
}

#[test]
fn uid_cannot_change() {
    for kind in stored() {
        // Recorders patch events of the core group without version or uid.
        if (kind.info().group.as_ref(), kind.info().resource.as_ref()) == ("", "events") {
            continue;
        }
        let mut old = created(kind);
        old["metadata"]["resourceVersion"] = "7".into();
        let mut new = old.clone();
        new["metadata"]["uid"] = "other".into();
        let errors = kind.validate(&new, Some(&old)).to_string();
        assert!(
            errors.contains("metadata.uid: Invalid value: \"other\": field is immutable"),
            "{}: {errors}",
            title(kind)
        );
    }
}

#[test]
fn rows_have_a_cell_per_column() {
    let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
    for &kind in kinds() {
        for obj in [created(kind), json!({"metadata": {"name": "a"}})] {
            let (columns, row) = (kind.columns(), kind.cells(&obj, now));
            assert_eq!(row.len(), columns.len(), "{}: {row:?}", title(kind));
            for (column, cell) in columns.iter().zip(&row) {
                let fits = match column.type_.as_ref() {
                    "integer" => cell.is_i64() || cell.is_u64(),
                    "boolean" => cell.is_boolean() || cell.is_string(),
                    _ => true,
                };
                assert!(fits, "{} {}: {cell}", title(kind), column.name);
            }
        }
        assert_eq!(
            kind.columns()
                .iter()
                .filter(|column| column.format == "name")
                .count(),
            1,
            "{}: one column names the row",
            title(kind)
        );
    }
}

#[test]
fn status_subresources_are_there_and_keep_the_spec() {
    for kind in stored() {
        let listed = kind.info().subresource("status").is_some();
        assert_eq!(kind.status().is_some(), listed, "{}", title(kind));
        let Some(status) = kind.status() else { continue };
        let old = created(kind);
        let mut new = old.clone();
        new["spec"] = json!({"changed": true});
        status.prepare_update(&mut new, &old);
        assert_eq!(new["spec"], old["spec"], "{}", title(kind));
    }
}

#[test]
fn selectable_fields_are_named() {
    for &kind in kinds() {
        let fields = kind.selectable_fields(&created(kind));
        assert_eq!(fields[0].0, "metadata.name", "{}", title(kind));
        assert!(kind.convert_field_label("metadata.name").is_ok());
        for (field, _) in &fields {
            assert!(
                kind.convert_field_label(field).is_ok(),
                "{}: {field}",
                title(kind)
            );
        }
        assert!(
            kind.convert_field_label("no.such.field").is_err(),
            "{}",
            title(kind)
        );
    }
}

/// Takes away every field with a default, or (`taken`) notes those that are absent.
fn defaulted(value: &mut Value, def: &TypeDef, path: &str, missing: &mut Option<Vec<String>>) -> usize {
    let Some(object) = value.as_object_mut() else {
        return 0;
    };
    let mut count = 0;
    for field in &def.fields {
        let at = format!("{path}.{}", field.name);
        if let Some(default) = &field.default {
            count += 1;
            match missing {
                None => drop(object.remove(&*field.name)),
                Some(missing) if object.get(&*field.name) != Some(default) => missing.push(at.clone()),
                Some(_) => {}
            }
        }
        let Some(inner) = object.get_mut(&*field.name) else {
            continue;
        };
        match (&field.shape, inner) {
            (Shape::Object(def), inner) => count += defaulted(inner, def, &at, missing),
            (Shape::List(item), Value::Array(items)) => {
                if let Shape::Object(def) = &**item {
                    count += items
                        .iter_mut()
                        .map(|one| defaulted(one, def, &at, missing))
                        .sum::<usize>();
                }
            }
            _ => {}
        }
    }
    count
}

/// Every default the table of fields names is filled in where its field is left out.
#[test]
fn defaults_of_the_table_are_filled_in() {
    let Ok(files) = std::fs::read_dir(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/spec/fixtures"
    )) else {
        eprintln!("skipped: no specification on this machine");
        return;
    };
    let (mut seen, mut wrong) = (0, Vec::new());
    for file in files
        .flatten()
        .filter(|file| file.path().extension().is_some_and(|e| e == "json"))
    {
        let text = std::fs::read_to_string(file.path()).unwrap();
        let mut object: Value = serde_json::from_str(&text).unwrap();
        let kind = kinds().iter().find(|kind| {
            kind.info().api_version() == object["apiVersion"].as_str().unwrap_or("")
                && kind.info().kind == object["kind"].as_str().unwrap_or("")
        });
        let Some(&kind) = kind else { continue };
        let def = types::of_kind(&kind.info().group_version_kind()).unwrap();
        seen += defaulted(&mut object, def, &title(kind), &mut None);
        kind.set_defaults(&mut object);
        let mut missing = Some(Vec::new());
        defaulted(&mut object, def, &title(kind), &mut missing);
        wrong.extend(missing.unwrap());
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen > 50, "only {seen} defaults");
}

/// Filled objects, as an upstream server writes them: nothing may fail on a field it did not expect.
#[test]
fn filled_objects_pass_through() {
    let Ok(files) = std::fs::read_dir(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/spec/fixtures"
    )) else {
        eprintln!("skipped: no specification on this machine");
        return;
    };
    let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
    let mut seen = 0;
    for file in files
        .flatten()
        .filter(|file| file.path().extension().is_some_and(|e| e == "json"))
    {
        let text = std::fs::read_to_string(file.path()).unwrap();
        let obj: Value = serde_json::from_str(&text).unwrap();
        let kind = kinds().iter().find(|kind| {
            kind.info().api_version() == obj["apiVersion"].as_str().unwrap_or("")
                && kind.info().kind == obj["kind"].as_str().unwrap_or("")
        });
        let Some(&kind) = kind else { continue };
        seen += 1;
        let mut new = obj.clone();
        kind.set_defaults(&mut new);
        kind.warnings(&new, None);
        assert_eq!(
            kind.cells(&new, now).len(),
            kind.columns().len(),
            "{}",
            title(kind)
        );
        kind.selectable_fields(&new);
        kind.validate(&new, None);
        kind.prepare_update(&mut new, &obj);
        kind.validate(&new, Some(&obj));
        for info in &kind.info().subresources {
            if let Some(part) = kind.subresource(&info.name) {
                part.prepare_update(&mut new, &obj);
                part.validate(&new, &obj);
            }
        }
        kind.prepare_create(&mut new);
    }
    assert!(seen > 50, "{seen} fixtures have a kind");
}
