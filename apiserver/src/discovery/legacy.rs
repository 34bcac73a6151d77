//! Discovery document by document: `/api`, `/apis`, `/apis/GROUP`, `/api/v1`, `/apis/GROUP/VERSION`.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keelson_machinery::Value;
use keelson_schema::resources::ResourceInfo;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Group, kind_group};

/// Every document by its path.
pub fn documents(groups: &[Group], address: &str) -> BTreeMap<String, Value> {
    let mut documents = BTreeMap::new();
    documents.insert(
        "/api".to_owned(),
        json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
        }),
    );
    let listed: Vec<Value> = groups
        .iter()
        .filter(|group| !group.name.is_empty())
        .map(group)
        .collect();
    for (value, named) in listed
        .iter()
        .zip(groups.iter().filter(|group| !group.name.is_empty()))
    {
        let mut alone = value.clone();
        alone["kind"] = "APIGroup".into();
        alone["apiVersion"] = "v1".into();
        documents.insert(format!("/apis/{}", named.name), alone);
    }
    documents.insert(
        "/apis".to_owned(),
        json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}),
    );
    for group in groups {
        for (version, resources) in &group.versions {
            let (path, group_version) = match group.name.as_str() {
                "" => (format!("/api/{version}"), version.clone()),
                name => (format!("/apis/{name}/{version}"), format!("{name}/{version}")),
            };
            let mut list = json!({
                "kind": "APIResourceList", "groupVersion": group_version,
                "resources": resources.iter().flat_map(resource).collect::<Vec<_>>(),
            });
            if !group.name.is_empty() {
                list["apiVersion"] = "v1".into();
            }
            documents.insert(path, list);
        }
    }
    documents
}

fn group(group: &Group) -> Value {
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|(version, _)| json!({"groupVersion": format!("{}/{version}", group.name), "version": version}))
        .collect();
    json!({"name": group.name, "preferredVersion": versions.first(), "versions": versions})
}

/// A resource and its subresources.
fn resource(info: &ResourceInfo) -> Vec<Value> {
    let mut own = json!({
        "name": info.resource, "singularName": info.singular, "namespaced": info.namespaced,
        "kind": info.kind, "verbs": info.verbs,
    });
    if !info.short_names.is_empty() {
        own["shortNames"] = json!(info.short_names);
    }
    if !info.categories.is_empty() {
        own["categories"] = json!(info.categories);
    }
    if !info.storage_prefix.is_empty() {
        own["storageVersionHash"] = storage_version_hash(info).into();
    }
    let mut all = vec![own];
    for subresource in &info.subresources {
        let mut value = json!({
            "name": format!("{}/{}", info.resource, subresource.name), "singularName": "",
            "namespaced": info.namespaced, "kind": subresource.kind, "verbs": subresource.verbs,
        });
        let group = kind_group(info, subresource);
        if group != info.group || subresource.version != info.version {
            value["group"] = group.into();
            value["version"] = subresource.version.as_ref().into();
        }
        all.push(value);
    }
    all
}

fn storage_version_hash(info: &ResourceInfo) -> String {
    let (group, version) = match info.storage_version.split_once('/') {
        Some((group, version)) => (group, version),
        None if info.storage_version.is_empty() => (info.group.as_ref(), info.version.as_ref()),
        None => ("", info.storage_version.as_ref()),
    };
    let hash = Sha256::digest(format!("{group}/{version}/{}", info.kind));
    STANDARD.encode(&hash[..8])
}

#[cfg(test)]
mod tests {
    use super::*;
    use keelson_schema::resources;

    #[test]
    fn the_hash_of_pods_is_upstreams() {
        let pods = resources::find("", "v1", "pods").unwrap();
        assert_eq!(storage_version_hash(pods), "xPOwRZ+Yhw8=");
    }

    #[test]
    fn subresources_of_other_groups_say_so() {
        let deployments = resource(resources::find("apps", "v1", "deployments").unwrap());
        let scale = deployments
            .iter()
            .find(|one| one["name"] == "deployments/scale")
            .unwrap();
        assert_eq!(
            (&scale["group"], &scale["version"]),
            (&json!("autoscaling"), &json!("v1"))
        );
        let status = deployments
            .iter()
            .find(|one| one["name"] == "deployments/status")
            .unwrap();
        assert_eq!(status.get("group"), None);
    }
}
