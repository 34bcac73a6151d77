//! Forms of answers: YAML, pretty JSON, gzip; and how long requests may take.

use std::io::Read;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::cluster::{Client, Server, Store};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn fetch(client: &Client, path: &str, headers: &[(&str, &str)]) -> (http::HeaderMap, Vec<u8>) {
    let response = client.send(Method::GET, path, headers, "").await;
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    let headers = response.headers().clone();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (headers, bytes.to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_object_in_many_clothes() {
    let Some(store) = Store::start().await else { return };
    let server = Server::start(&store).await;
    let client = server.client().await;
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: clothes}\ndata:\n  a: \"yes\"\n";
    let headers = [
        ("content-type", "application/yaml"),
        ("accept", "application/yaml"),
    ];
    let response = client.send(Method::POST, MAPS, &headers, yaml).await;
    assert_eq!(
        (response.status(), &response.headers()["content-type"]),
        (StatusCode::CREATED, &"application/yaml".parse().unwrap())
    );
    let path = format!("{MAPS}/clothes");
    let (_, plain) = fetch(&client, &path, &[]).await;
    let object: Value = serde_json::from_slice(&plain).unwrap();
    assert_eq!(object["data"]["a"], "yes");
    let (_, pretty) = fetch(&client, &format!("{path}?pretty=true"), &[]).await;
    let text = String::from_utf8(pretty).unwrap();
    assert!(
        text.starts_with(
            "{\n  \"kind\": \"ConfigMap\",\n  \"apiVersion\": \"v1\",\n  \"metadata\": {\n    \"name\": \"clothes\""
        ),
        "{text}"
    );
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), object);
    let (_, by_agent) = fetch(&client, &path, &[("user-agent", "curl/8")]).await;
    assert_eq!(by_agent, text.as_bytes());
    let (headers, yaml) = fetch(&client, &path, &[("accept", "application/yaml")]).await;
    assert_eq!(headers["content-type"], "application/yaml");
    assert_eq!(keelson_schema::yaml::to_value(&yaml).unwrap(), object);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_lists_are_compressed_for_who_takes_it() {
    let Some(store) = Store::start().await else { return };
    let server = Server::start(&store).await;
    let client = server.client().await;
    for name in ["a", "b", "c"] {
        let body = json!({"metadata": {"name": name}, "data": {"x": "y".repeat(100_000)}});
        assert_eq!(client.post(MAPS, &body).await.0, StatusCode::CREATED);
    }
    let (plain_headers, plain) = fetch(&client, MAPS, &[]).await;
    assert_eq!(plain_headers.get("content-encoding"), None);
    let (headers, packed) = fetch(&client, MAPS, &[("accept-encoding", "gzip")]).await;
    assert_eq!(
        (&headers["content-encoding"], &headers["vary"]),
        (&"gzip".parse().unwrap(), &"Accept-Encoding".parse().unwrap())
    );
    assert!(packed.len() < plain.len() / 10);
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&packed[..])
        .read_to_end(&mut unpacked)
        .unwrap();
    assert_eq!(unpacked, plain);
    let one = format!("{MAPS}?fieldSelector=metadata.name%3Dnone");
    let (headers, _) = fetch(&client, &one, &[("accept-encoding", "gzip")]).await;
    assert_eq!(headers.get("content-encoding"), None, "too small to be worth it");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_end_when_they_were_told_to() {
    let Some(store) = Store::start().await else { return };
    let server = Server::start(&store).await;
    let client = server.client().await;
    let started = Instant::now();
    let response = client
        .send(
            Method::GET,
            &format!("{MAPS}?watch=true&timeoutSeconds=1"),
            &[],
            "",
        )
        .await;
    assert_eq!(response.status(), StatusCode::OK);
    response.into_body().collect().await.unwrap();
    let took = started.elapsed();
    assert!(
        took >= Duration::from_secs(1) && took < Duration::from_secs(20),
        "{took:?}"
    );
    let (code, refused) = client.get(&format!("{MAPS}?timeout=soon")).await;
    assert_eq!(code, StatusCode::BAD_REQUEST, "{refused}");
    let future = format!("{MAPS}?resourceVersion=999999999&resourceVersionMatch=NotOlderThan");
    let (code, refused) = client.get(&future).await;
    assert_eq!(
        (code, &refused["reason"]),
        (StatusCode::GATEWAY_TIMEOUT, &json!("Timeout")),
        "{refused}"
    );
    assert_eq!(
        refused["details"]["causes"][0]["reason"], "ResourceVersionTooLarge",
        "{refused}"
    );
    server.stop().await;
}

/// The names that alerts and dashboards ask for.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_upstreams_names() {
    let Some(store) = Store::start().await else { return };
    let server = Server::start(&store).await;
    let client = server.client().await;
    assert_eq!(client.get(MAPS).await.0, StatusCode::OK);
    // Counters show once they counted: a request the server gave up.
    let future = format!("{MAPS}?resourceVersion=999999999&resourceVersionMatch=NotOlderThan");
    assert_eq!(client.get(&future).await.0, StatusCode::GATEWAY_TIMEOUT);
    let text = String::from_utf8(fetch(&client, "/metrics", &[]).await.1).unwrap();
    for line in [
        "apiserver_request_total{verb=\"LIST\",group=\"\",version=\"v1\",resource=\"configmaps\",subresource=\"\",\
         scope=\"namespace\",dry_run=\"\",component=\"apiserver\",code=\"200\"} 1\n",
        "apiserver_request_duration_seconds_bucket{",
        "apiserver_request_sli_duration_seconds_count{",
        "apiserver_current_inflight_requests{request_kind=\"readOnly\"}",
        "apiserver_request_terminations_total{verb=\"LIST\",",
        "apiserver_storage_objects{resource=\"configmaps\"}",
        "kubernetes_build_info{major=\"1\",minor=\"36\",git_version=\"v1.36.0",
        "process_resident_memory_bytes ",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    server.stop().await;
}

/// What operators and probes read.
#[tokio::test(flavor = "multi_thread")]
async fn health_is_told_check_by_check() {
    let Some(store) = Store::start().await else { return };
    let server = Server::start(&store).await;
    let client = server.client().await;
    for path in ["/healthz", "/livez", "/readyz", "/readyz/etcd", "/livez/ping"] {
        assert_eq!(fetch(&client, path, &[]).await.1, b"ok", "{path}");
    }
    let text = String::from_utf8(fetch(&client, "/readyz?verbose", &[]).await.1).unwrap();
    for line in [
        "[+]ping ok\n",
        "[+]etcd ok\n",
        "[+]informer-sync ok\n",
        "[+]poststarthook/rbac/bootstrap-roles ok\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert!(text.ends_with("readyz check passed\n"), "{text}");
    let excluded = String::from_utf8(fetch(&client, "/readyz?verbose&exclude=etcd", &[]).await.1).unwrap();
    assert!(excluded.contains("[+]etcd excluded: ok\n"), "{excluded}");
    for path in ["/readyz/nothing", "/logs", "/logs/", "/debug/pprof/"] {
        assert_eq!(client.get(path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    server.stop().await;
}
