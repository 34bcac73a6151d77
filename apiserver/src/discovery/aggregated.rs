//! Aggregated discovery (KEP-3352): everything in one document, `apidiscovery.k8s.io/v2`.

use keelson_machinery::Value;
use keelson_schema::resources::ResourceInfo;
use serde_json::json;

use super::{Group, kind_group};

/// The document of the core group, or of all others.
pub fn document(groups: &[Group], core: bool) -> Value {
    let items: Vec<Value> = groups
        .iter()
        .filter(|group| group.name.is_empty() == core)
        .map(item)
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items,
    })
}

fn item(group: &Group) -> Value {
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|(version, resources)| {
            let resources: Vec<Value> = resources.iter().map(resource).collect();
            json!({"version": version, "resources": resources, "freshness": "Current"})
        })
        .collect();
    let metadata = match group.name.as_str() {
        "" => json!({"creationTimestamp": null}),
        name => json!({"name": name, "creationTimestamp": null}),
    };
    json!({"metadata": metadata, "versions": versions})
}

fn resource(info: &ResourceInfo) -> Value {
    let mut value = json!({
        "resource": info.resource,
        "responseKind": {"group": info.group, "version": info.version, "kind": info.kind},
        "scope": if info.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": info.singular,
        "verbs": info.verbs,
    });
    if !info.short_names.is_empty() {
        value["shortNames"] = json!(info.short_names);
    }
    if !info.categories.is_empty() {
        value["categories"] = json!(info.categories);
    }
    if !info.subresources.is_empty() {
        let subresources: Vec<Value> = info
            .subresources
            .iter()
            .map(|one| {
                json!({
                    "subresource": one.name,
                    "responseKind": {"group": kind_group(info, one), "version": one.version, "kind": one.kind},
                    "verbs": one.verbs,
                })
            })
            .collect();
        value["subresources"] = subresources.into();
    }
    value
}
