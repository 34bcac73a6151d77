//! Which resources the server serves, read from its discovery endpoints.
//!
//! Aggregated discovery is used where the server has it, so that one look is two requests. A group whose own server
//! does not answer is left out and named, so that callers can tell "none" from "not known".

use kube::Client;
use serde::Deserialize;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// One resource in the version its group prefers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    /// Empty for the core group.
    pub group: String,
    /// "v1".
    pub version: String,
    /// "pods".
    pub plural: String,
    /// "Pod".
    pub kind: String,
    /// Whether it lives in namespaces.
    pub namespaced: bool,
    /// "list", "watch", ...
    pub verbs: Vec<String>,
}

impl Resource {
    /// Whether it can be asked to.
    pub fn can(&self, verbs: &[&str]) -> bool {
        verbs.iter().all(|verb| self.verbs.iter().any(|v| v == verb))
    }

    /// "apps/v1" or "v1".
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Path of the collection, in a namespace or over all.
    pub fn path(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        match namespace {
            Some(namespace) if self.namespaced => {
                format!(
                    "{root}/{}/namespaces/{namespace}/{}",
                    self.api_version(),
                    self.plural
                )
            }
            _ => format!("{root}/{}/{}", self.api_version(), self.plural),
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Each resource once, in the preferred version.
    pub resources: Vec<Resource>,
    /// Group versions whose server does not answer.
    pub failed: Vec<String>,
}

#[derive(Deserialize)]
struct GroupList {
    #[serde(default)]
    items: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    metadata: GroupMeta,
    #[serde(default)]
    versions: Vec<Version>,
}

#[derive(Default, Deserialize)]
struct GroupMeta {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    #[serde(default)]
    freshness: String,
    #[serde(default)]
    resources: Vec<Listed>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    resource: String,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    verbs: Vec<String>,
    response_kind: Option<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    kind: String,
}

/// Asks the server.
pub async fn fetch(client: &Client) -> Result<Found, kube::Error> {
    let mut found = Found::default();
    for root in ["/api", "/apis"] {
        let request = http::Request::get(root)
            .header(http::header::ACCEPT, AGGREGATED)
            .body(Vec::new())
            .map_err(kube::Error::HttpError)?;
        let text = client.request_text(request).await?;
        match serde_json::from_str::<GroupList>(&text) {
            Ok(groups) if !groups.items.is_empty() || text.contains("APIGroupDiscoveryList") => {
                groups.items.into_iter().for_each(|group| found.add(group));
            }
            _ => return unaggregated(client).await,
        }
    }
    Ok(found)
}

impl Found {
    fn add(&mut self, group: Group) {
        let name = group.metadata.name;
        let mut seen: Vec<String> = Vec::new();
        for version in group.versions {
            if version.freshness == "Stale" {
                self.failed.push(format!("{name}/{}", version.version));
            }
            for listed in version.resources {
                if seen.contains(&listed.resource) {
                    continue;
                }
                seen.push(listed.resource.clone());
                self.resources.push(Resource {
                    group: name.clone(),
                    version: version.version.clone(),
                    plural: listed.resource,
                    kind: listed.response_kind.map(|k| k.kind).unwrap_or_default(),
                    namespaced: listed.scope == "Namespaced",
                    verbs: listed.verbs,
                });
            }
        }
    }
}

/// Group by group, for servers without aggregated discovery.
async fn unaggregated(client: &Client) -> Result<Found, kube::Error> {
    let mut found = Found::default();
    let core = client.list_core_api_versions().await?;
    for version in core.versions {
        let listed = client.list_core_api_resources(&version).await?;
        found.add_listed("", &version, listed.resources);
    }
    for group in client.list_api_groups().await?.groups {
        let preferred = group.preferred_version.iter();
        let mut versions: Vec<_> = preferred.chain(&group.versions).collect();
        versions.dedup_by(|a, b| a.version == b.version);
        for version in versions {
            match client.list_api_group_resources(&version.group_version).await {
                Ok(listed) => found.add_listed(&group.name, &version.version, listed.resources),
                Err(_) => found.failed.push(version.group_version.clone()),
            }
        }
    }
    Ok(found)
}

impl Found {
    fn add_listed(
        &mut self,
        group: &str,
        version: &str,
        listed: Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource>,
    ) {
        for resource in listed {
            let known = |r: &Resource| r.group == group && r.plural == resource.name;
            if resource.name.contains('/') || self.resources.iter().any(known) {
                continue;
            }
            self.resources.push(Resource {
                group: group.to_owned(),
                version: version.to_owned(),
                plural: resource.name,
                kind: resource.kind,
                namespaced: resource.namespaced,
                verbs: resource.verbs,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preferred_version_wins() {
        let text = r#"{"kind":"APIGroupDiscoveryList","items":[{"metadata":{"name":"apps"},"versions":[
            {"version":"v1","freshness":"Current","resources":[
                {"resource":"deployments","scope":"Namespaced","verbs":["list","delete"],"responseKind":{"group":"apps","version":"v1","kind":"Deployment"}}]},
            {"version":"v1beta1","freshness":"Stale","resources":[
                {"resource":"deployments","scope":"Namespaced","verbs":["list"],"responseKind":{"kind":"Deployment"}}]}]}]}"#;
        let groups: GroupList = serde_json::from_str(text).unwrap();
        let mut found = Found::default();
        groups.items.into_iter().for_each(|group| found.add(group));
        assert_eq!(found.resources.len(), 1);
        let deployments = &found.resources[0];
        assert_eq!(
            deployments.path(Some("ns")),
            "/apis/apps/v1/namespaces/ns/deployments"
        );
        assert!(deployments.can(&["list", "delete"]) && !deployments.can(&["watch"]));
        assert_eq!(found.failed, ["apps/v1beta1"]);
    }
}
