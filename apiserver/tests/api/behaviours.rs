//! Behaviours of conformance ([sig-api-machinery], [sig-cli]) that need an API server and nothing else.

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::cluster::{Client, Server, Store};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const TEMPLATES: &str = "/api/v1/namespaces/default/podtemplates";

fn template(name: &str) -> Value {
    json!({"metadata": {"name": name}, "template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}})
}

fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

async fn fill(client: &Client, count: usize) -> Vec<String> {
    let names: Vec<String> = (0..count).map(|number| format!("template-{number:03}")).collect();
    for name in &names {
        assert_eq!(
            client.post(TEMPLATES, &template(name)).await.0,
            StatusCode::CREATED
        );
    }
    names
}

/// "should return chunks of results for list calls"
#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_chunks_of_one_version() {
    let Some(store) = Store::start().await else { return };
    let server = Server::start(&store).await;
    let client = server.client().await;
    let all = fill(&client, 40).await;
    let (mut seen, mut next, mut version) = (Vec::new(), String::new(), Value::Null);
    loop {
        let (code, page) = client.get(&format!("{TEMPLATES}?limit=17&continue={next}")).await;
        assert_eq!(code, StatusCode::OK, "{page}");
        if version.is_null() {
            version = page["metadata"]["resourceVersion"].clone();
        }
        assert_eq!(page["metadata"]["resourceVersion"], version);
        seen.extend(names(&page));
        let left = page["metadata"]["remainingItemCount"].as_u64().unwrap_or(0);
        assert_eq!(usize::try_from(left).unwrap(), all.len() - seen.len());
        match page["metadata"]["continue"].as_str() {
            Some(token) => token.clone_into(&mut next),
            None => break,
        }
    }
    assert_eq!(seen, all);
    let (_, whole) = client.get(TEMPLATES).await;
    assert_eq!(names(&whole), all);
    server.stop().await;
}

/// "should support continue listing from the last key if the original version has been compacted away"
#[tokio::test(flavor = "multi_thread")]
async fn a_list_goes_on_inconsistently_after_compaction() {
    let Some(store) = Store::start().await else { return };
    let server = Server::start(&store).await;
    let client = server.client().await;
    let all = fill(&client, 9).await;
    let (_, first) = client.get(&format!("{TEMPLATES}?limit=3")).await;
    let token = first["metadata"]["continue"].as_str().unwrap().to_owned();
    client
        .delete(&format!("{TEMPLATES}/{}", all[8]), &Value::Null)
        .await;
    store.compact().await.unwrap();
    // A new server has no history of its own.
    server.stop().await;
    let server = Server::start(&store).await;
    let client = server.client().await;
    let (code, gone) = client.get(&format!("{TEMPLATES}?limit=3&continue={token}")).await;
    assert_eq!(
        (code, &gone["reason"]),
        (StatusCode::GONE, &json!("Expired")),
        "{gone}"
    );
    let fresh = gone["metadata"]["continue"].as_str().unwrap().to_owned();
    assert_ne!(fresh, token);
    let (code, second) = client.get(&format!("{TEMPLATES}?limit=3&continue={fresh}")).await;
    assert_eq!(code, StatusCode::OK, "{second}");
    assert_eq!(names(&second), all[3..6]);
    assert_ne!(
        second["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    let token = second["metadata"]["continue"].as_str().unwrap();
    let (_, third) = client.get(&format!("{TEMPLATES}?limit=3&continue={token}")).await;
    assert_eq!(names(&third), all[6..8], "as it is now, without what was deleted");
    // Without a token there is nothing to go on from.
    let old = first["metadata"]["resourceVersion"].as_str().unwrap();
    let exact = format!("{TEMPLATES}?resourceVersion={old}&resourceVersionMatch=Exact");
    let (code, gone) = client.get(&exact).await;
    assert_eq!(code, StatusCode::GONE, "{gone}");
    assert_eq!(
        gone["message"],
        "The resourceVersion for the provided list is too old."
    );
    server.stop().await;
}

/// "should return a 406 for a backend which does not implement metadata"
#[tokio::test(flavor = "multi_thread")]
async fn reviews_have_no_table() {
    let Some(store) = Store::start().await else { return };
    let server = Server::start(&store).await;
    let client = server.client().await;
    let review =
        json!({"spec": {"resourceAttributes": {"namespace": "default", "verb": "get", "resource": "pods"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let headers = [
        ("accept", "application/json;as=Table;v=v1;g=meta.k8s.io"),
        ("content-type", "application/json"),
    ];
    let response = client
        .send(Method::POST, path, &headers, review.to_string())
        .await;
    assert_eq!(response.status(), StatusCode::NOT_ACCEPTABLE);
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let status: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(status["reason"], "NotAcceptable", "{status}");
    server.stop().await;
}

/// "should receive events on concurrent watches in same order", "should be able to restart watching ..."
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_watches_see_one_order() {
    let Some(store) = Store::start().await else { return };
    let server = Server::start(&store).await;
    let client = server.client().await;
    let (_, list) = client.get(MAPS).await;
    let mut version = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut watches = Vec::new();
    let mut written = Vec::new();
    for round in 0..12 {
        watches.push(
            client
                .watch(&format!("{MAPS}?watch=true&resourceVersion={version}"))
                .await,
        );
        let name = format!("m{}", round % 4);
        let body = json!({"metadata": {"name": name}, "data": {"round": round.to_string()}});
        let answer = match round {
            0..4 => client.post(MAPS, &body).await.1,
            4..8 => client.put(&format!("{MAPS}/{name}"), &body).await.1,
            _ => client.delete(&format!("{MAPS}/{name}"), &Value::Null).await.1,
        };
        let (_, now) = client.get(MAPS).await;
        now["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .clone_into(&mut version);
        written.push((answer, name, ["ADDED", "MODIFIED", "DELETED"][round / 4]));
    }
    for (start, watch) in watches.iter_mut().enumerate() {
        let mut last = 0;
        for (_, name, kind) in &written[start..] {
            let event = watch.next().await;
            assert_eq!(
                (&event["type"], &event["object"]["metadata"]["name"]),
                (&json!(kind), &json!(name))
            );
            let at = event["object"]["metadata"]["resourceVersion"]
                .as_str()
                .unwrap()
                .parse::<i64>()
                .unwrap();
            assert!(at > last, "{event}");
            last = at;
        }
    }
    server.stop().await;
}

/// "should apply an update / a finalizer / changes to a namespace status", "should patch a Namespace"
#[tokio::test(flavor = "multi_thread")]
async fn namespaces_are_patched_finalized_and_end() {
    let Some(store) = Store::start().await else { return };
    let server = Server::start(&store).await;
    let client = server.client().await;
    let path = "/api/v1/namespaces/spaces";
    let (_, made) = client
        .post("/api/v1/namespaces", &json!({"metadata": {"name": "spaces"}}))
        .await;
    assert_eq!(made["spec"]["finalizers"], json!(["kubernetes"]), "{made}");
    assert_eq!(
        made["metadata"]["labels"]["kubernetes.io/metadata.name"],
        "spaces"
    );
    let label = json!({"metadata": {"labels": {"patched": "yes"}}});
    let (code, patched) = client.patch(path, "strategic-merge-patch", &label).await;
    assert_eq!(
        (code, &patched["metadata"]["labels"]["patched"]),
        (StatusCode::OK, &json!("yes"))
    );
    let condition = json!({"status": {"conditions": [{"type": "StatusPatch", "status": "True"}]}});
    let (code, patched) = client
        .patch(&format!("{path}/status"), "merge-patch", &condition)
        .await;
    assert_eq!(code, StatusCode::OK, "{patched}");
    assert_eq!(patched["status"]["conditions"][0]["type"], "StatusPatch");
    let mut held = patched.clone();
    held["spec"]["finalizers"] = json!(["kubernetes", "example.com/held"]);
    let (code, held) = client.put(&format!("{path}/finalize"), &held).await;
    assert_eq!(code, StatusCode::OK, "{held}");
    assert_eq!(
        held["spec"]["finalizers"],
        json!(["kubernetes", "example.com/held"])
    );
    // A plain update leaves the finalizers alone.
    let mut update = held.clone();
    update["spec"]["finalizers"] = json!([]);
    let (_, updated) = client.put(path, &update).await;
    assert_eq!(
        updated["spec"]["finalizers"],
        json!(["kubernetes", "example.com/held"]),
        "{updated}"
    );
    let (code, deleted) = client.delete(path, &Value::Null).await;
    assert_eq!(
        (code, &deleted["status"]["phase"]),
        (StatusCode::OK, &json!("Terminating")),
        "{deleted}"
    );
    // Nothing new begins in it, and deleting once more is a conflict.
    let inside = json!({"metadata": {"name": "late"}});
    let (code, refused) = client.post("/api/v1/namespaces/spaces/configmaps", &inside).await;
    assert_eq!(code, StatusCode::FORBIDDEN, "{refused}");
    assert_eq!(
        refused["message"],
        "configmaps \"late\" is forbidden: unable to create new content in namespace spaces because it is being terminated"
    );
    let (_, mut free) = client.get(path).await;
    free["spec"]["finalizers"] = json!([]);
    let (code, _) = client.put(&format!("{path}/finalize"), &free).await;
    assert_eq!(code, StatusCode::OK);
    assert_eq!(client.get(path).await.0, StatusCode::NOT_FOUND);
    server.stop().await;
}

/// Deleting by selector, in pages and as a dry run.
#[tokio::test(flavor = "multi_thread")]
async fn collections_are_deleted_by_selector() {
    let Some(store) = Store::start().await else { return };
    let server = Server::start(&store).await;
    let client = server.client().await;
    for (name, color) in [("a", "red"), ("b", "red"), ("c", "blue")] {
        let body = json!({"metadata": {"name": name, "labels": {"color": color}}});
        assert_eq!(client.post(MAPS, &body).await.0, StatusCode::CREATED);
    }
    let red = format!("{MAPS}?labelSelector=color%3Dred");
    let (code, answer) = client.delete(&red, &json!({"dryRun": ["All"]})).await;
    assert_eq!((code, names(&answer).len()), (StatusCode::OK, 2), "{answer}");
    assert_eq!(names(&client.get(MAPS).await.1), ["a", "b", "c"]);
    let (code, answer) = client.delete(&red, &Value::Null).await;
    assert_eq!(
        (code, &answer["kind"]),
        (StatusCode::OK, &json!("ConfigMapList")),
        "{answer}"
    );
    assert_eq!(names(&answer), ["a", "b"]);
    assert_eq!(names(&client.get(MAPS).await.1), ["c"]);
    let (code, _) = client
        .delete("/api/v1/namespaces?labelSelector=x%3Dy", &Value::Null)
        .await;
    assert_eq!(code, StatusCode::METHOD_NOT_ALLOWED, "namespaces go one by one");
    server.stop().await;
}
