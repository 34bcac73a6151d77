//!  references, operation ids, media types.

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
