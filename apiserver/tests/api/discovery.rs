//! What the server says it serves, against the table of resources.

use std::collections::BTreeSet;

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::cluster::{Client, Server, Store};
use crate::specification::{self, Row};

/// `a,b` or `a/b` as a set.
fn set(text: &str, separator: char) -> BTreeSet<String> {
    text.split(separator)
        .filter(|one| !one.is_empty())
        .map(str::to_owned)
        .collect()
}

fn strings(value: &Value) -> BTreeSet<String> {
    let items = value.as_array().into_iter().flatten();
    items.map(|item| item.as_str().unwrap().to_owned()).collect()
}

/// A subresource of the table: `scale(autoscaling/v1.Scale:get/patch/update)`.
#[derive(Debug)]
struct Subresource {
    name: String,
    /// Of its kind; empty is the core group.
    group: String,
    version: String,
    kind: String,
    verbs: BTreeSet<String>,
}

fn subresources(row: &Row) -> Vec<Subresource> {
    let cell = &row["subresources(group/version.Kind:verbs)"];
    let parse = |text: &str| {
        let (name, rest) = text.strip_suffix(')')?.split_once('(')?;
        let (gvk, verbs) = rest.split_once(':')?;
        let (gv, kind) = gvk.rsplit_once('.')?;
        // Without a group it is the resource's own.
        let (group, version) = gv.split_once('/').unwrap_or((row["group"].as_str(), gv));
        Some(Subresource {
            name: name.to_owned(),
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            verbs: set(verbs, '/'),
        })
    };
    let texts = cell.split(';').filter(|text| !text.is_empty());
    texts
        .map(|text| parse(text).unwrap_or_else(|| panic!("subresource {text:?}")))
        .collect()
}

fn root(row: &Row) -> String {
    match row["group"].as_str() {
        "" => format!("/api/{}", row["version"]),
        group => format!("/apis/{group}/{}", row["version"]),
    }
}

/// The legacy documents.
async fn check_legacy(client: &Client, row: &Row) {
    let (code, document) = client.get(&root(row)).await;
    assert_eq!(code, StatusCode::OK, "{}: {document}", root(row));
    let find = |name: &str| {
        let mut all = document["resources"].as_array().into_iter().flatten();
        all.find(|one| one["name"] == name)
            .unwrap_or_else(|| panic!("{} lacks {name}", root(row)))
            .clone()
    };
    let (resource, namespaced) = (&row["resource"], row["scope"] == "namespaced");
    let own = find(resource);
    assert_eq!(own["kind"], row["kind"], "{resource}");
    assert_eq!(own["singularName"], row["singular"], "{resource}");
    assert_eq!(own["namespaced"], namespaced, "{resource}");
    assert_eq!(strings(&own["verbs"]), set(&row["verbs"], ','), "{resource}");
    assert_eq!(
        strings(&own["shortNames"]),
        set(&row["short_names"], ','),
        "{resource}"
    );
    assert_eq!(
        strings(&own["categories"]),
        set(&row["categories"], ','),
        "{resource}"
    );
    for sub in subresources(row) {
        let found = find(&format!("{resource}/{}", sub.name));
        assert_eq!(found["kind"], sub.kind, "{resource}/{}", sub.name);
        assert_eq!(found["namespaced"], namespaced, "{resource}/{}", sub.name);
        assert_eq!(strings(&found["verbs"]), sub.verbs, "{resource}/{}", sub.name);
        if sub.group != row["group"] || sub.version != row["version"] {
            assert_eq!(
                (&found["group"], &found["version"]),
                (&json!(sub.group), &json!(sub.version)),
                "{resource}/{}",
                sub.name
            );
        }
    }
}

async fn aggregated(client: &Client, path: &str) -> Value {
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let response = client.send(Method::GET, path, &[("accept", accept)], "").await;
    assert_eq!(
        response.headers()["content-type"],
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    );
    let etag = response.headers()["etag"].to_str().unwrap().to_owned();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let held = [("accept", accept), ("if-none-match", etag.as_str())];
    let again = client.send(Method::GET, path, &held, "").await;
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{path}");
    serde_json::from_slice(&bytes).unwrap()
}

/// The one document that says all.
fn check_aggregated(documents: &[Value; 2], row: &Row) {
    let document = &documents[usize::from(!row["group"].is_empty())];
    let mut groups = document["items"].as_array().unwrap().iter();
    let group = groups.find(|group| match row["group"].as_str() {
        "" => true,
        name => group["metadata"]["name"] == name,
    });
    let mut versions = group.expect("the group")["versions"].as_array().unwrap().iter();
    let version = versions
        .find(|one| one["version"] == row["version"])
        .expect("the version");
    let mut resources = version["resources"].as_array().unwrap().iter();
    let name = &row["resource"];
    let own = resources
        .find(|one| one["resource"] == *name)
        .unwrap_or_else(|| panic!("no {name}"));
    let kind =
        |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    assert_eq!(
        own["responseKind"],
        kind(&row["group"], &row["version"], &row["kind"]),
        "{name}"
    );
    let scope = if row["scope"] == "namespaced" {
        "Namespaced"
    } else {
        "Cluster"
    };
    assert_eq!(own["scope"], scope, "{name}");
    assert_eq!(own["singularResource"], row["singular"], "{name}");
    assert_eq!(strings(&own["verbs"]), set(&row["verbs"], ','), "{name}");
    assert_eq!(
        strings(&own["shortNames"]),
        set(&row["short_names"], ','),
        "{name}"
    );
    assert_eq!(
        strings(&own["categories"]),
        set(&row["categories"], ','),
        "{name}"
    );
    for sub in subresources(row) {
        let mut all = own["subresources"].as_array().unwrap().iter();
        let found = all
            .find(|one| one["subresource"] == sub.name)
            .unwrap_or_else(|| panic!("no {name}/{}", sub.name));
        assert_eq!(
            found["responseKind"],
            kind(&sub.group, &sub.version, &sub.kind),
            "{name}/{}",
            sub.name
        );
        assert_eq!(strings(&found["verbs"]), sub.verbs, "{name}/{}", sub.name);
    }
}

/// Nothing is served that the table does not have.
fn check_nothing_more(documents: &[Value; 2], rows: &[Row]) {
    for group in documents
        .iter()
        .flat_map(|document| document["items"].as_array().unwrap())
    {
        let name = group["metadata"]["name"].as_str().unwrap_or_default();
        for version in group["versions"].as_array().unwrap() {
            for resource in version["resources"].as_array().unwrap() {
                let known = |row: &&Row| {
                    row["group"] == name
                        && version["version"] == row["version"]
                        && resource["resource"] == row["resource"]
                };
                let row = rows.iter().find(known);
                let row = row.unwrap_or_else(|| panic!("{name}: {resource} is no resource of the table"));
                let subs: BTreeSet<String> = subresources(row).into_iter().map(|sub| sub.name).collect();
                let ours = resource["subresources"].as_array().into_iter().flatten();
                let ours: BTreeSet<String> = ours
                    .map(|sub| sub["subresource"].as_str().unwrap().to_owned())
                    .collect();
                assert_eq!(ours, subs, "{resource}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_stable_resource_is_discovered_as_upstream_says_it() {
    let (Some(spec), Some(store)) = (specification::directory(), Store::start().await) else {
        return;
    };
    let server = Server::start(&store).await;
    let client = server.client().await;
    let mut rows = specification::rows(&spec.join("resources.tsv"));
    rows.retain(|row| row["by_default"] == "on");
    assert!(rows.len() > 60, "{} resources", rows.len());
    let documents = [
        aggregated(&client, "/api").await,
        aggregated(&client, "/apis").await,
    ];
    for row in &rows {
        check_legacy(&client, row).await;
        check_aggregated(&documents, row);
        if set(&row["verbs"], ',').contains("list") {
            let (code, list) = client.get(&format!("{}/{}", root(row), row["resource"])).await;
            let kind = format!("{}List", row["kind"]);
            assert_eq!((code, &list["kind"]), (StatusCode::OK, &json!(kind)), "{list}");
        }
    }
    check_nothing_more(&documents, &rows);
    server.stop().await;
}

/// Every group names its preferred version, which is one of its versions and has resources.
#[tokio::test(flavor = "multi_thread")]
async fn groups_prefer_a_version_they_have() {
    let Some(store) = Store::start().await else { return };
    let server = Server::start(&store).await;
    let client = server.client().await;
    let (_, groups) = client.get("/apis").await;
    for group in groups["groups"].as_array().unwrap() {
        let (_, alone) = client
            .get(&format!("/apis/{}", group["name"].as_str().unwrap()))
            .await;
        assert_eq!(alone["kind"], "APIGroup");
        assert_eq!(
            (&alone["name"], &alone["versions"]),
            (&group["name"], &group["versions"])
        );
        let preferred = &group["preferredVersion"];
        assert!(
            group["versions"].as_array().unwrap().contains(preferred),
            "{group}"
        );
        let (code, list) = client
            .get(&format!("/apis/{}", preferred["groupVersion"].as_str().unwrap()))
            .await;
        assert_eq!(
            (code, &list["groupVersion"]),
            (StatusCode::OK, &preferred["groupVersion"])
        );
    }
    let (_, version) = client.get("/version").await;
    assert_eq!(
        (&version["major"], &version["minor"]),
        (&json!("1"), &json!("36")),
        "{version}"
    );
    server.stop().await;
}

/// Schemas in both encodings, by hash for ever, or not again where the client has them.
#[tokio::test(flavor = "multi_thread")]
async fn schemas_come_in_both_encodings() {
    let Some(store) = Store::start().await else { return };
    let server = Server::start(&store).await;
    let client = server.client().await;
    let (_, index) = client.get("/openapi/v3").await;
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap();
    let v3 = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf";
    for (accept, want) in [
        ("application/json", "application/json"),
        (v3, "application/com.github.proto-openapi.spec.v3.v1.0+protobuf"),
    ] {
        let response = client.send(Method::GET, url, &[("accept", accept)], "").await;
        assert_eq!(response.status(), StatusCode::OK, "{accept}");
        assert_eq!(response.headers()["content-type"], want);
        assert_eq!(response.headers()["cache-control"], "public, immutable");
        let etag = response.headers()["etag"].to_str().unwrap().to_owned();
        assert!(
            !response
                .into_body()
                .collect()
                .await
                .unwrap()
                .to_bytes()
                .is_empty()
        );
        let held = [("accept", accept), ("if-none-match", etag.as_str())];
        let again = client.send(Method::GET, url, &held, "").await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{accept}");
    }
    let old = "/openapi/v3/apis/apps/v1?hash=OLD";
    let moved = client.send(Method::GET, old, &[], "").await;
    assert_eq!(
        (moved.status(), &moved.headers()["location"]),
        (StatusCode::MOVED_PERMANENTLY, &url.parse().unwrap())
    );
    let neither = client
        .send(Method::GET, url, &[("accept", "text/html")], "")
        .await;
    assert_eq!(neither.status(), StatusCode::NOT_ACCEPTABLE);
    server.stop().await;
}
