//! Verbs, watches, restarts, bad input.

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::cluster::{Server, Store};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str, value: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"value": value}}, "data": {"a": value}})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_lives_and_its_watchers_see_it() {
    let Some(store) = Store::start().await else { return };
    let server = Server::start(&store).await;
    let client = server.client().await;
    let (code, made) = client.post(MAPS, &map("one", "1")).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let version = made["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    assert_eq!(client.post(MAPS, &map("one", "1")).await.0, StatusCode::CONFLICT);
    let mut lines = client
        .watch(&format!("{MAPS}?watch=true&resourceVersion={version}"))
        .await;
    let mut selected = client
        .watch(&format!("{MAPS}?watch=true&labelSelector=value%3D2"))
        .await;

    let one = format!("{MAPS}/one");
    let mut stale = map("one", "3");
    let (code, patched) = client
        .patch(
            &one,
            "merge-patch",
            &json!({"metadata": {"labels": {"value": "2"}}}),
        )
        .await;
    assert_eq!(code, StatusCode::OK, "{patched}");
    stale["metadata"]["resourceVersion"] = version.clone().into();
    let (code, refused) = client.put(&one, &stale).await;
    assert_eq!(
        (code, &refused["reason"]),
        (StatusCode::CONFLICT, &json!("Conflict"))
    );
    let (_, same) = client
        .patch(
            &one,
            "merge-patch",
            &json!({"metadata": {"labels": {"value": "2"}}}),
        )
        .await;
    assert_eq!(
        same["metadata"]["resourceVersion"], patched["metadata"]["resourceVersion"],
        "a write of the same"
    );
    assert_eq!(client.put(&one, &map("one", "3")).await.0, StatusCode::OK);
    assert_eq!(client.delete(&one, &Value::Null).await.0, StatusCode::OK);
    assert_eq!(client.get(&one).await.0, StatusCode::NOT_FOUND);

    let mut seen = Vec::new();
    for _ in 0..3 {
        let event = lines.next().await;
        seen.push((
            event["type"].as_str().unwrap().to_owned(),
            event["object"]["data"]["a"].clone(),
        ));
    }
    let want = [("MODIFIED", "1"), ("MODIFIED", "3"), ("DELETED", "3")];
    assert_eq!(seen, want.map(|(kind, value)| (kind.to_owned(), json!(value))));
    // Out of the selection is DELETED, whatever happened to the object.
    for (kind, value) in [("ADDED", "2"), ("DELETED", "2")] {
        let event = selected.next().await;
        assert_eq!(
            (
                event["type"].as_str().unwrap(),
                &event["object"]["metadata"]["labels"]["value"]
            ),
            (kind, &json!(value))
        );
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_paged_at_one_revision_and_survive_a_restart() {
    let Some(store) = Store::start().await else { return };
    let server = Server::start(&store).await;
    let client = server.client().await;
    for name in ["a", "b", "c"] {
        assert_eq!(client.post(MAPS, &map(name, "1")).await.0, StatusCode::CREATED);
    }
    let (_, first) = client.get(&format!("{MAPS}?limit=2")).await;
    assert_eq!(first["items"].as_array().unwrap().len(), 2);
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    let next = first["metadata"]["continue"].as_str().unwrap().to_owned();
    assert_eq!(
        client.delete(&format!("{MAPS}/c"), &Value::Null).await.0,
        StatusCode::OK
    );
    let (_, second) = client.get(&format!("{MAPS}?limit=2&continue={next}")).await;
    assert_eq!(
        second["items"][0]["metadata"]["name"], "c",
        "as it was when the first page was read"
    );
    assert_eq!(
        second["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    server.stop().await;

    let server = Server::start(&store).await;
    let client = server.client().await;
    let (_, second) = client.get(&format!("{MAPS}?limit=2&continue={next}")).await;
    assert_eq!(
        second["items"][0]["metadata"]["name"], "c",
        "from the store's history"
    );
    // What changed before this server started is known to it: a watch goes on where it was with the server before.
    let version = first["metadata"]["resourceVersion"].as_str().unwrap();
    let resumed = format!("{MAPS}?watch=true&resourceVersion={version}");
    let event = client.watch(&resumed).await.next().await;
    assert_eq!(
        (&event["type"], &event["object"]["metadata"]["name"]),
        (&json!("DELETED"), &json!("c"))
    );
    let path = format!(
        "{MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    let mut streaming = client.watch(&path).await;
    for want in ["ADDED", "ADDED", "BOOKMARK"] {
        assert_eq!(streaming.next().await["type"], want);
    }
    server.stop().await;

    // But not what the store itself has forgotten.
    store.compact().await.unwrap();
    let server = Server::start(&store).await;
    let event = server.client().await.watch(&resumed).await.next().await;
    assert_eq!(
        (&event["type"], &event["object"]["code"]),
        (&json!("ERROR"), &json!(410))
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_waits_for_finalizers_and_services_get_addresses() {
    let Some(store) = Store::start().await else { return };
    let server = Server::start(&store).await;
    let client = server.client().await;
    let mut held = map("held", "1");
    held["metadata"]["finalizers"] = json!(["example.com/x"]);
    client.post(MAPS, &held).await;
    let (code, deleted) = client.delete(&format!("{MAPS}/held"), &Value::Null).await;
    assert_eq!(code, StatusCode::OK);
    assert!(deleted["metadata"]["deletionTimestamp"].is_string(), "{deleted}");
    let drop = json!([{"op": "remove", "path": "/metadata/finalizers"}]);
    assert_eq!(
        client.patch(&format!("{MAPS}/held"), "json-patch", &drop).await.0,
        StatusCode::OK
    );
    assert_eq!(client.get(&format!("{MAPS}/held")).await.0, StatusCode::NOT_FOUND);

    let services = "/api/v1/namespaces/default/services";
    let service = json!({"metadata": {"name": "web"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
    let (code, made) = client.post(services, &service).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let ip = made["spec"]["clusterIP"].as_str().unwrap().to_owned();
    assert!(ip.starts_with("10.96."), "{ip}");
    assert!(made["spec"]["ports"][0]["nodePort"].as_u64().unwrap() >= 30_000);
    let address = format!("/apis/networking.k8s.io/v1/ipaddresses/{ip}");
    assert_eq!(client.get(&address).await.0, StatusCode::OK);
    let mut taken = service.clone();
    taken["metadata"]["name"] = "other".into();
    taken["spec"]["clusterIP"] = ip.into();
    let (code, refused) = client.post(services, &taken).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
    client.delete(&format!("{services}/web"), &Value::Null).await;
    assert_eq!(client.get(&address).await.0, StatusCode::NOT_FOUND);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_broken_is_refused_with_a_status() {
    let Some(store) = Store::start().await else { return };
    let server = Server::start(&store).await;
    let client = server.client().await;
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let deep = format!("{{\"data\":{deep}}}");
    let huge = vec![b' '; 4 << 20];
    for (body, content_type, code) in [
        (&b"{"[..], "application/json", 400),
        (deep.as_bytes(), "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"a: &a [*a]", "application/yaml", 400),
        (b"k8s\0\xff\xff\xff", "application/vnd.kubernetes.protobuf", 400),
        (b"{}", "text/html", 415),
        (&huge, "application/json", 413),
    ] {
        let response = client
            .send(
                Method::POST,
                MAPS,
                &[("content-type", content_type)],
                body.to_vec(),
            )
            .await;
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let answer: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(
            (status.as_u16(), &answer["kind"]),
            (code, &json!("Status")),
            "{answer}"
        );
    }
    for (path, code) in [
        ("/api/v1/pods?limit=x", 400),
        ("/api/v1/pods?continue=x", 400),
        ("/api/v1/pods?labelSelector=a%20b", 400),
        ("/api/v1/pods?fieldSelector=nope%3D1", 400),
        ("/api/v1/pods?resourceVersion=x", 422),
        ("/api/v1/nothings", 404),
        ("/apis/nothing.io/v1/things", 404),
        ("/api/v1/namespaces/default/pods/../secrets", 404),
    ] {
        let (status, answer) = client.get(path).await;
        assert_eq!(
            (status.as_u16(), &answer["kind"]),
            (code, &json!("Status")),
            "{path}: {answer}"
        );
    }
    server.stop().await;
}
