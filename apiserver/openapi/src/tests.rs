//!  references, operation ids, media types.

use std::collections::BTreeMap;

use super::*;
use keelson_schema::types;

const VERSION: &str = "v1.36.0";

fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// Every reference leads to a definition of the same document.
fn check_references(document: &Value, value: &Value) {
    match value {
        Value::Object(map) => {
            if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{reference} in {value:.300}");
            }
            map.values().for_each(|value| check_references(document, value));
        }
        Value::Array(items) => items.iter().for_each(|value| check_references(document, value)),
        _ => {}
    }
}

#[test]
fn every_document_of_the_index_is_whole() {
    let index = parsed(&v3_index(VERSION));
    for (path, entry) in index["paths"].as_object().unwrap() {
        let document = parsed(&v3(path, VERSION).unwrap());
        check_references(&document, &document);
        let url = entry["serverRelativeURL"].as_str().unwrap();
        assert_eq!(url, format!("/openapi/v3/{path}?hash={}", hash(path, VERSION)));
    }
    assert!(v3("apis/none/v1", VERSION).is_none());
    assert_ne!(hash("api/v1", VERSION), hash("apis/apps/v1", VERSION));
}

#[test]
fn what_kubectl_reads_is_there() {
    let apps = parsed(&v3("apis/apps/v1", VERSION).unwrap());
    let schemas = &apps["components"]["schemas"];
    let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(
        deployment["x-kubernetes-group-version-kind"],
        json!([{"group": "apps", "kind": "Deployment", "version": "v1"}])
    );
    assert!(
        deployment["description"]
            .as_str()
            .unwrap()
            .starts_with("Deployment enables declarative updates")
    );
    let patch = &apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
    let names: Vec<&str> = patch["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"fieldValidation") && names.contains(&"force"),
        "{names:?}"
    );
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-list-type"], "map");
    assert_eq!(
        schemas["io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"]["x-kubernetes-map-type"],
        "atomic"
    );
    assert_eq!(
        apps["paths"]["/apis/apps/v1/deployments"]["get"]["operationId"],
        "listAppsV1DeploymentForAllNamespaces"
    );
}

#[test]
fn the_whole_api_as_swagger() {
    let swagger = parsed(&v2(VERSION));
    check_references(&swagger, &swagger);
    let definitions = swagger["definitions"].as_object().unwrap();
    for resource in served() {
        let def = types::of(&resource.group, &resource.version, &resource.kind).unwrap();
        assert!(definitions.contains_key(&*def.name), "{}", def.name);
    }
    let pod = &swagger["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"];
    assert_eq!(pod["get"]["operationId"], "readCoreV1NamespacedPod");
    let mut ids = BTreeSet::new();
    for (path, item) in swagger["paths"].as_object().unwrap() {
        for (method, operation) in item
            .as_object()
            .unwrap()
            .iter()
            .filter(|(method, _)| *method != "parameters")
        {
            assert!(
                ids.insert(operation["operationId"].as_str().unwrap().to_owned()),
                "{method} {path}"
            );
        }
    }
    let undescribed: Vec<&String> = definitions
        .iter()
        .filter(|(name, schema)| schema.get("description").is_none() && !name.contains("version.Info"))
        .map(|(name, _)| name)
        .collect();
    assert!(undescribed.len() < 10, "{undescribed:?}");
}

/// The table of facts beside the workspace; `None`, with a message, where it is absent.
fn facts() -> Option<Vec<BTreeMap<String, String>>> {
    let beside = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/spec");
    let spec = std::env::var_os("KEELSON_SPEC").map_or(beside, Into::into);
    let Ok(text) = std::fs::read_to_string(spec.join("fields.tsv")) else {
        println!("skipped: no specification in ../shared/spec");
        return None;
    };
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().unwrap().split('\t').collect();
    let row = |line: &str| {
        let cells = line.split('\t').map(str::to_owned);
        head.iter().map(|name| (*name).to_owned()).zip(cells).collect()
    };
    Some(lines.map(row).collect())
}

/// What a published field says, in the table's words.
fn said(schema: &Value, name: &str) -> [(&'static str, String); 6] {
    let property = &schema["properties"][name];
    let text = |key: &str| property[key].as_str().unwrap_or_default().to_owned();
    let keys = property["x-kubernetes-list-map-keys"]
        .as_array()
        .into_iter()
        .flatten();
    let keys: Vec<&str> = keys.filter_map(Value::as_str).collect();
    let mut required = schema["required"].as_array().into_iter().flatten();
    let required = if required.any(|one| one == name) {
        "required"
    } else {
        ""
    };
    // Go's zero values are published too, and are none of the table's.
    let default = match &property["default"] {
        Value::Null => String::new(),
        zero if *zero == json!("") || *zero == json!(0) || *zero == json!(false) || *zero == json!({}) => {
            String::new()
        }
        default => default.to_string(),
    };
    [
        ("required", required.to_owned()),
        ("list_type", text("x-kubernetes-list-type")),
        ("list_map_keys", keys.join(",")),
        ("patch_strategy", text("x-kubernetes-patch-strategy")),
        ("patch_merge_key", text("x-kubernetes-patch-merge-key")),
        ("default", default),
    ]
}

/// Clients validate, explain, apply and diff by these: merge keys, list types, defaults, what is required.
#[test]
fn fields_are_published_as_the_table_says() {
    let Some(facts) = facts() else { return };
    let document = parsed(&v2(VERSION));
    let mut seen = 0;
    let mut wrong = Vec::new();
    for row in &facts {
        let schema = &document["definitions"][&row["definition"]];
        // Alpha and beta versions are not served, and have no definitions.
        if schema.is_null() {
            continue;
        }
        seen += 1;
        let field = &row["field"];
        if schema["properties"].get(field).is_none() {
            wrong.push(format!("{}.{field} is missing", row["definition"]));
            continue;
        }
        for (column, ours) in said(schema, field) {
            if row[column] != ours {
                wrong.push(format!(
                    "{}.{field}: {column} is {ours:?}, not {:?}",
                    row["definition"], row[column]
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(seen > 2_000, "only {seen} fields");
}
