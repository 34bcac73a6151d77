//! Every stored kind through a protobuf client: what upstream's components will send, whatever the kind.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use keelson_kinds::{Kind, kinds};
use serde_json::{Value, json};

use crate::cluster::{Server, Store};
use crate::protobuf_client::{STREAMING_LIST, Typed, exactly};
use crate::samples::{name, sample};

const NAMESPACE: &str = "d";
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// One kind under test: where it lies.
struct Case {
    kind: &'static dyn Kind,
    api_version: String,
    /// Of the collection, and of the object.
    collection: String,
    path: String,
}

fn case(kind: &'static dyn Kind) -> Case {
    let info = kind.info();
    let api_version = info.api_version();
    let root = match info.group.is_empty() {
        true => format!("/api/{api_version}"),
        false => format!("/apis/{api_version}"),
    };
    let scope = match info.namespaced {
        true => format!("/namespaces/{NAMESPACE}"),
        false => String::new(),
    };
    let collection = format!("{root}{scope}/{}", info.resource);
    let path = format!("{collection}/{}", name(kind));
    Case {
        kind,
        api_version,
        collection,
        path,
    }
}

fn object(case: &Case) -> Value {
    let mut object = sample(case.kind);
    object["apiVersion"] = case.api_version.clone().into();
    object["kind"] = case.kind.info().kind.as_ref().into();
    object["metadata"] = json!({"name": name(case.kind)});
    if case.kind.info().namespaced {
        object["metadata"]["namespace"] = NAMESPACE.into();
    }
    object
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_lives_its_life_in_protobuf() {
    let Some(store) = Store::start().await else { return };
    let server = Server::start(&store).await;
    let client = Typed(server.client().await);
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    let (code, made) = client.create("/api/v1/namespaces", &namespace).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let (mut seen, mut failed) = (0, Vec::new());
    for case in kinds().iter().map(|kind| case(*kind)) {
        let info = case.kind.info();
        if !info.has_verb("create") || info.storage_prefix.is_empty() {
            continue;
        }
        // One kind's failure must not hide another's.
        if AssertUnwindSafe(life(&client, &case))
            .catch_unwind()
            .await
            .is_err()
        {
            failed.push(case.path);
        }
        seen += 1;
    }
    assert!(failed.is_empty(), "{failed:?}");
    assert!(seen > 50, "only {seen} kinds");
    server.stop().await;
}

async fn life(client: &Typed, case: &Case) {
    let path = &case.path;
    let streaming = format!("{}?{STREAMING_LIST}", case.collection);
    let mut watch = client.watch(&streaming).await;
    let mut metadata_watch = client.watch_metadata(&streaming).await;
    let before = check_initial(case, watch.initial().await);
    check_initial_metadata(metadata_watch.initial().await, before);

    let (code, made) = client.create(&case.collection, &object(case)).await;
    assert_eq!(code, StatusCode::CREATED, "{path}: {made}");
    assert_eq!(
        (&made["kind"], &made["apiVersion"]),
        (&json!(case.kind.info().kind), &json!(case.api_version)),
        "{path}"
    );
    let (code, again) = client.create(&case.collection, &object(case)).await;
    assert_eq!(
        (code, &again["reason"]),
        (StatusCode::CONFLICT, &json!("AlreadyExists")),
        "{path}"
    );
    reads_agree(client, case, &made).await;

    let mut writes = 0;
    let updated = update(client, case, &made).await;
    writes += 1;
    writes += patches(client, case, &updated).await;
    let (_, current) = client.get(path).await;
    writes += status(client, case, &current).await;
    let removed = delete(client, case).await;

    let mut want = vec!["ADDED"];
    want.extend(std::iter::repeat_n("MODIFIED", writes + removed));
    want.push("DELETED");
    assert_eq!(watch.types(want.len()).await, want, "{path}");
    assert_eq!(metadata_watch.types(want.len()).await, want, "{path}: metadata");
}

/// The initial events are the list, and their end is marked; how many there were.
fn check_initial(case: &Case, (objects, bookmark): (Vec<Value>, Value)) -> usize {
    let path = &case.collection;
    assert_eq!(
        bookmark["metadata"]["annotations"][INITIAL_EVENTS_END], "true",
        "{path}: {bookmark}"
    );
    assert_eq!(bookmark["kind"], *case.kind.info().kind, "{path}");
    let revision = bookmark["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default();
    assert!(
        revision.parse::<u64>().is_ok_and(|revision| revision > 0),
        "{path}: {bookmark}"
    );
    for object in &objects {
        assert_eq!(object["kind"], *case.kind.info().kind, "{path}");
    }
    objects.len()
}

fn check_initial_metadata((objects, bookmark): (Vec<Value>, Value), count: usize) {
    assert_eq!(objects.len(), count);
    for object in objects.iter().chain([&bookmark]) {
        assert_eq!(object["kind"], "PartialObjectMetadata");
        assert_eq!(object["apiVersion"], "meta.k8s.io/v1");
    }
    assert_eq!(bookmark["metadata"]["annotations"][INITIAL_EVENTS_END], "true");
}

/// The same content whatever the encoding and the form.
async fn reads_agree(client: &Typed, case: &Case, made: &Value) {
    let (path, info) = (&case.path, case.kind.info());
    let (code, got) = client.get(path).await;
    assert_eq!((code, &got), (StatusCode::OK, made), "{path}");
    let (_, as_json) = client.0.get(path).await;
    assert_eq!(&as_json, made, "{path}: JSON");
    let (_, metadata) = client.get_metadata(path).await;
    assert_eq!(metadata["kind"], "PartialObjectMetadata", "{path}");
    assert_eq!(metadata["metadata"], made["metadata"], "{path}");

    let (_, list) = client.get(&case.collection).await;
    let (_, json_list) = client.0.get(&case.collection).await;
    assert_eq!(list["kind"], format!("{}List", info.kind), "{path}");
    assert_eq!(list["items"], json_list["items"], "{path}");
    let (_, metadata) = client.list_metadata(&case.collection).await;
    assert_eq!(metadata["kind"], "PartialObjectMetadataList", "{path}");
    let names = |list: &Value| -> Vec<Value> {
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["metadata"].clone())
            .collect()
    };
    assert_eq!(names(&metadata), names(&list), "{path}");

    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let response = client
        .0
        .send(Method::GET, &case.collection, &[("accept", table)], "")
        .await;
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let table: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(table["kind"], "Table", "{path}");
    let columns = table["columnDefinitions"].as_array().unwrap().len();
    for row in table["rows"].as_array().unwrap() {
        assert_eq!(row["cells"].as_array().unwrap().len(), columns, "{path}");
        assert_eq!(row["object"]["kind"], "PartialObjectMetadata", "{path}");
    }
}

/// An update by the version read; by an old one it is refused; a dry run stores nothing.
async fn update(client: &Typed, case: &Case, made: &Value) -> Value {
    let path = &case.path;
    let mut new = made.clone();
    new["metadata"]["labels"]["step"] = "update".into();
    let (code, shown) = client.update(&format!("{path}?dryRun=All"), &new).await;
    assert_eq!(code, StatusCode::OK, "{path}: {shown}");
    assert_eq!(shown["metadata"]["labels"]["step"], "update", "{path}");
    assert_eq!(client.get(path).await.1, *made, "{path}: dry run");
    let (code, updated) = client.update(path, &new).await;
    assert_eq!(code, StatusCode::OK, "{path}: {updated}");
    assert_ne!(
        updated["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"],
        "{path}"
    );
    let mut stale = made.clone();
    stale["metadata"]["labels"]["step"] = "stale".into();
    let (code, refused) = client.update(path, &stale).await;
    assert_eq!(
        (code, &refused["reason"]),
        (StatusCode::CONFLICT, &json!("Conflict")),
        "{path}"
    );
    updated
}

/// Every form of patch; the number of writes.
async fn patches(client: &Typed, case: &Case, current: &Value) -> usize {
    let path = &case.path;
    let label = |value: &str| json!({"metadata": {"labels": {"step": value}}});
    let mut applied = object(case);
    applied["metadata"]["labels"] = json!({"applied": "yes"});
    let pointer = json!([{"op": "replace", "path": "/metadata/labels/step", "value": "json"}]);
    let forms = [
        ("application/merge-patch+json", label("merge")),
        ("application/strategic-merge-patch+json", label("strategic")),
        ("application/json-patch+json", pointer),
    ];
    for (form, patch) in &forms {
        let (code, patched) = client.patch(path, form, patch).await;
        assert_eq!(code, StatusCode::OK, "{path}: {form}: {patched}");
        assert_eq!(patched["metadata"]["uid"], current["metadata"]["uid"], "{path}");
    }
    let apply = format!("{path}?fieldManager=applier&force=true");
    let (code, patched) = client
        .patch(&apply, "application/apply-patch+yaml", &applied)
        .await;
    assert_eq!(code, StatusCode::OK, "{path}: apply: {patched}");
    assert_eq!(patched["metadata"]["labels"]["applied"], "yes", "{path}");
    let managers = patched["metadata"]["managedFields"].as_array().unwrap();
    assert!(
        managers
            .iter()
            .any(|entry| entry["manager"] == "applier" && entry["operation"] == "Apply"),
        "{path}: {managers:?}"
    );
    forms.len() + 1
}

/// The status subresource, where there is one; the number of writes that changed something.
async fn status(client: &Typed, case: &Case, current: &Value) -> usize {
    if case.kind.status().is_none() {
        return 0;
    }
    let path = format!("{}/status", case.path);
    let (code, updated) = client.update(&path, current).await;
    assert_eq!(code, StatusCode::OK, "{path}: {updated}");
    let changed = updated["metadata"]["resourceVersion"] != current["metadata"]["resourceVersion"];
    assert_eq!(client.get(&path).await.1, updated, "{path}");
    usize::from(changed)
}

/// Deletes the object, letting go what holds it; the number of writes before the last.
async fn delete(client: &Typed, case: &Case) -> usize {
    let (path, api_version) = (&case.path, case.api_version.as_str());
    let (_, current) = client.get(path).await;
    let wrong = json!({"preconditions": {"uid": "another"}});
    let (code, refused) = client.delete(path, api_version, wrong).await;
    assert_eq!(
        (code, &refused["reason"]),
        (StatusCode::CONFLICT, &json!("Conflict")),
        "{path}"
    );
    let dry = json!({"dryRun": ["All"]});
    assert_eq!(
        client.delete(path, api_version, dry).await.0,
        StatusCode::OK,
        "{path}"
    );
    assert_eq!(client.get(path).await.1, current, "{path}: dry run");
    let (code, deleted) = client.delete(path, api_version, exactly(&current)).await;
    assert_eq!(code, StatusCode::OK, "{path}: {deleted}");
    let mut writes = 0;
    let (code, held) = client.get(path).await;
    if code == StatusCode::OK {
        writes += 1;
        let mut free = held.clone();
        free["metadata"].as_object_mut().unwrap().remove("finalizers");
        let (place, body) = match case.kind.info().resource.as_ref() {
            "namespaces" => {
                free["spec"]["finalizers"] = json!([]);
                (format!("{path}/finalize"), free)
            }
            _ => (path.clone(), free),
        };
        let (code, freed) = client.update(&place, &body).await;
        assert_eq!(code, StatusCode::OK, "{path}: {freed}");
    }
    let (code, gone) = client.get(path).await;
    assert_eq!(
        (code, &gone["kind"]),
        (StatusCode::NOT_FOUND, &json!("Status")),
        "{path}: {gone}"
    );
    writes
}
