//! A store that an upstream server filled, taken over in place; and ours as an upstream server would find it.

use http::StatusCode;
use keelson_kinds::kinds;
use keelson_schema::resources::{self, ResourceInfo};
use keelson_schema::{protobuf, types};
use serde_json::{Value, json};

use crate::cluster::{Client, Server, Store};
use crate::samples::{name, sample};
use crate::specification::{self, fixture};

/// An object that upstream stored.
struct Stored {
    info: &'static ResourceInfo,
    key: String,
    path: String,
    collection: String,
    /// As upstream serves it, without its resourceVersion.
    object: Value,
}

fn root(info: &ResourceInfo) -> String {
    match info.group.as_ref() {
        "" => "/api/v1".to_owned(),
        group => format!("/apis/{group}/{}", info.version),
    }
}

/// The fixture of the resource, framed in the version upstream stores.
fn stored(spec: &std::path::Path, info: &'static ResourceInfo) -> Option<(Stored, Vec<u8>)> {
    let (text, framed) = fixture(spec, &info.group, &info.version, &info.kind)?;
    let mut object: Value = serde_json::from_slice(&text).unwrap();
    let metadata = object["metadata"].as_object_mut()?;
    metadata.remove("resourceVersion");
    let (namespace, name) = (
        metadata["namespace"].as_str().unwrap(),
        metadata["name"].as_str().unwrap(),
    );
    let (key, collection) = match info.namespaced {
        true => (
            format!("{namespace}/{name}"),
            format!("{}/namespaces/{namespace}/{}", root(info), info.resource),
        ),
        false => (name.to_owned(), format!("{}/{}", root(info), info.resource)),
    };
    let (_, raw) = protobuf::unframe(&framed).unwrap();
    let mut one = Stored {
        info,
        key: format!("/registry/{}/{key}", info.storage_prefix),
        path: format!("{collection}/{name}"),
        collection,
        object,
    };
    // Reading fills in defaults: a namespace's label of its own name.
    if let Some(kind) = keelson_kinds::find(&info.group, &info.resource)
        && kind.info().version == info.version
    {
        kind.set_defaults(&mut one.object);
    }
    // A stored version whose fields are others is made by hand, elsewhere.
    let same_fields = info.group != "apiextensions.k8s.io" && info.resource != "horizontalpodautoscalers";
    let own = info.storage_version == info.api_version();
    (own || same_fields).then(|| (one, protobuf::frame(&info.storage_version, &info.kind, raw)))
}

fn without_version(mut object: Value) -> Value {
    object["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("resourceVersion");
    object
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_filled_by_upstream_is_taken_over() {
    let (Some(spec), Some(store)) = (specification::directory(), Store::start().await) else {
        return;
    };
    let mut all = Vec::new();
    for info in resources::all()
        .iter()
        .filter(|info| info.by_default && !info.storage_prefix.is_empty())
    {
        // events.k8s.io is stored in the core group.
        if info.group == "events.k8s.io" {
            continue;
        }
        let Some((one, framed)) = stored(&spec, info) else {
            continue;
        };
        store.put(&one.key, framed.into()).await.unwrap();
        all.push(one);
    }
    assert!(all.len() > 50, "only {} fixtures", all.len());
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "namespaceValue"}});
    let framed = protobuf::encode(&namespace).unwrap();
    store
        .put("/registry/namespaces/namespaceValue", framed.into())
        .await
        .unwrap();
    let server = Server::start(&store).await;
    let client = server.client().await;
    for one in &all {
        let (code, got) = client.get(&one.path).await;
        assert_eq!(code, StatusCode::OK, "{}: {got}", one.path);
        assert_eq!(without_version(got.clone()), one.object, "{}", one.path);
        let (_, list) = client.get(&one.collection).await;
        let mut items = list["items"].as_array().unwrap().iter();
        let mut item = items
            .find(|item| item["metadata"]["name"] == got["metadata"]["name"])
            .unwrap()
            .clone();
        item["kind"] = got["kind"].clone();
        item["apiVersion"] = got["apiVersion"].clone();
        assert_eq!(item, got, "{}", one.path);
        rewrite(&client, &store, one, &got).await;
    }
    server.stop().await;
}

/// A write of ours leaves JSON of the storage version under the same key, and watchers see it.
async fn rewrite(client: &Client, store: &Store, one: &Stored, got: &Value) {
    let version = got["metadata"]["resourceVersion"].as_str().unwrap();
    let mut watch = client
        .watch(&format!(
            "{}?watch=true&resourceVersion={version}&fieldSelector=metadata.name%3DnameValue",
            one.collection
        ))
        .await;
    let patch = json!({"metadata": {"annotations": {"taken": "over"}}});
    let (code, patched) = client.patch(&one.path, "merge-patch", &patch).await;
    // Fixtures are filled with what no validation lets pass: there the refusal must name fields, and nothing is written.
    if code == StatusCode::UNPROCESSABLE_ENTITY || code == StatusCode::FORBIDDEN {
        let stored = store.get(&one.key).await.expect("the object is still there");
        assert!(protobuf::is_framed(&stored), "{}", one.path);
        return;
    }
    assert_eq!(code, StatusCode::OK, "{}: {patched}", one.path);
    let event = watch.next().await;
    // The fixtures are being deleted: whatever holds them no longer may let the write be the last.
    let kind = event["type"].as_str().unwrap();
    assert!(["MODIFIED", "DELETED"].contains(&kind), "{}: {event}", one.path);
    if kind == "DELETED" {
        return;
    }
    let stored = store.get(&one.key).await.expect("the object is still there");
    let value: Value = serde_json::from_slice(&stored).unwrap();
    assert_eq!(value["apiVersion"], *one.info.storage_version, "{}", one.path);
    assert_eq!(value["metadata"]["annotations"]["taken"], "over", "{}", one.path);
    assert_eq!(value["metadata"].get("resourceVersion"), None, "{}", one.path);
}

/// Objects of versions that are no longer served, with what they did not say yet filled in.
#[tokio::test(flavor = "multi_thread")]
async fn old_stored_forms_are_read_with_todays_defaults() {
    let Some(store) = Store::start().await else { return };
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1beta1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "as.b.c", "uid": "u"}, "spec": {"group": "b.c", "version": "v1", "scope": "Cluster",
            "names": {"plural": "as", "singular": "a", "kind": "A", "listKind": "AList"},
            "validation": {"openAPIV3Schema": {"type": "object"}},
            "versions": [{"name": "v1", "served": true, "storage": true}],
            "additionalPrinterColumns": [{"name": "X", "type": "string", "JSONPath": ".x"}],
            "conversion": {"strategy": "None"}, "preserveUnknownFields": false}});
    let def = types::of("apiextensions.k8s.io", "v1beta1", "CustomResourceDefinition").unwrap();
    let raw = protobuf::encode_as(&definition, def).unwrap();
    let framed = protobuf::frame("apiextensions.k8s.io/v1beta1", "CustomResourceDefinition", &raw);
    let crd = "/registry/apiextensions.k8s.io/customresourcedefinitions/as.b.c";
    store.put(crd, framed.into()).await.unwrap();
    let scaler = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h", "namespace": "default", "uid": "u"}, "spec": {"maxReplicas": 3,
            "targetCPUUtilizationPercentage": 70, "scaleTargetRef": {"kind": "Deployment", "name": "a"}}});
    let scaler = protobuf::encode(&scaler).unwrap();
    store
        .put("/registry/horizontalpodautoscalers/default/h", scaler.into())
        .await
        .unwrap();
    // JSON as an upstream server with JSON storage ends it, from before `revisionHistoryLimit` and others had defaults.
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "d", "namespace": "default", "uid": "u"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let text = format!("{deployment}\n");
    store
        .put("/registry/deployments/default/d", text.into())
        .await
        .unwrap();

    let server = Server::start(&store).await;
    let client = server.client().await;
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/as.b.c";
    let (code, served) = client.get(path).await;
    assert_eq!(code, StatusCode::OK, "{served}");
    let version = &served["spec"]["versions"][0];
    assert_eq!(version["schema"]["openAPIV3Schema"]["type"], "object", "{served}");
    assert_eq!(
        version["additionalPrinterColumns"][0]["jsonPath"], ".x",
        "{served}"
    );
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    let (code, patched) = client.patch(path, "merge-patch", &label).await;
    assert_eq!(code, StatusCode::OK, "{patched}");
    let written: Value = serde_json::from_slice(&store.get(crd).await.unwrap()).unwrap();
    assert_eq!(written["apiVersion"], "apiextensions.k8s.io/v1beta1");
    assert_eq!(written["spec"]["additionalPrinterColumns"][0]["JSONPath"], ".x");
    assert_eq!(written["spec"]["validation"]["openAPIV3Schema"]["type"], "object");

    let (_, served) = client
        .get("/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers/h")
        .await;
    assert_eq!(
        served["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 70,
        "{served}"
    );
    assert_eq!(served["spec"]["minReplicas"], 1, "{served}");
    let (_, served) = client.get("/apis/apps/v1/namespaces/default/deployments/d").await;
    assert_eq!(served["spec"]["revisionHistoryLimit"], 10, "{served}");
    assert_eq!(
        served["spec"]["template"]["spec"]["restartPolicy"], "Always",
        "{served}"
    );
    server.stop().await;
}

/// Every kind's objects lie where upstream looks for them, in the version it stores.
#[tokio::test(flavor = "multi_thread")]
async fn objects_lie_where_upstream_looks_for_them() {
    let (Some(spec), Some(store)) = (specification::directory(), Store::start().await) else {
        return;
    };
    let server = Server::start(&store).await;
    let client = server.client().await;
    let rows = specification::rows(&spec.join("storage-keys.tsv"));
    let mut seen = 0;
    for kind in kinds() {
        let info = kind.info();
        if !info.has_verb("create") || info.storage_prefix.is_empty() {
            continue;
        }
        let is_its = |row: &&specification::Row| {
            row["group"] == *info.group
                && row["version"] == *info.version
                && row["resource"] == *info.resource
        };
        let row = rows.iter().find(is_its);
        let row = row.unwrap_or_else(|| panic!("{} has no key", info.resource));
        let name = name(*kind);
        let prefix = row["example_key"].rsplit_once('/').unwrap().0;
        let key = format!("{}/{name}", prefix.replace("<namespace>", "default"));
        let stored_as = match row["stored_as_if_other"].rsplit_once('/') {
            Some((version, _)) => version.trim_start_matches('/').to_owned(),
            None => info.api_version(),
        };
        let mut object = sample(*kind);
        object["metadata"] = json!({"name": name});
        let text = object
            .to_string()
            .replace("\"namespace\":\"d\"", "\"namespace\":\"default\"");
        let object: Value = serde_json::from_str(&text).unwrap();
        let scope = if info.namespaced {
            "/namespaces/default"
        } else {
            ""
        };
        let collection = format!("{}{scope}/{}", root(info), info.resource);
        let (code, made) = client.post(&collection, &object).await;
        assert_eq!(code, StatusCode::CREATED, "{collection}: {made}");
        let stored = store
            .get(&key)
            .await
            .unwrap_or_else(|| panic!("nothing at {key}"));
        let value: Value = serde_json::from_slice(&stored).unwrap();
        assert_eq!(
            (&value["apiVersion"], &value["kind"]),
            (&json!(stored_as), &json!(info.kind)),
            "{key}"
        );
        assert_eq!(value["metadata"].get("resourceVersion"), None, "{key}");
        client.delete(&format!("{collection}/{name}"), &Value::Null).await;
        seen += 1;
    }
    assert!(seen > 50, "only {seen} kinds");
    server.stop().await;
}
