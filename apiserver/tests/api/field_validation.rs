//! Unknown and duplicate fields: refused, warned of or ignored, in every way an object may come.

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;

use crate::cluster::{Client, Server, Store};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

/// A deployment with `spec.extra`, which does not exist, and `spec.paused`, which is there twice.
fn odd(name: &str) -> String {
    format!(
        r#"{{"apiVersion":"apps/v1","kind":"Deployment","metadata":{{"name":"{name}","extra":"x"}},"spec":{{"extra":1,
        "paused":true,"paused":false,"selector":{{"matchLabels":{{"a":"b"}}}},"template":{{"metadata":{{"labels":{{"a":"b"}}}},
        "spec":{{"containers":[{{"name":"c","image":"i","extra":2}}]}}}}}}}}"#
    )
}

struct Answer {
    code: StatusCode,
    body: Value,
    warnings: Vec<String>,
}

async fn send(client: &Client, method: Method, path: &str, content_type: &str, body: &str) -> Answer {
    let headers = [("content-type", content_type)];
    let response = client.send(method, path, &headers, body.to_owned()).await;
    let warnings = response.headers().get_all("warning").iter();
    let warnings = warnings.map(|value| value.to_str().unwrap().to_owned()).collect();
    let code = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    Answer {
        code,
        body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        warnings,
    }
}

/// "should detect unknown and duplicate fields of a typed object", "... unknown metadata fields ..."
#[tokio::test(flavor = "multi_thread")]
async fn objects_are_decoded_as_strictly_as_asked() {
    let Some(store) = Store::start().await else { return };
    let server = Server::start(&store).await;
    let client = server.client().await;
    let json = "application/json";
    let strict = send(
        &client,
        Method::POST,
        &format!("{DEPLOYMENTS}?fieldValidation=Strict"),
        json,
        &odd("strict"),
    )
    .await;
    assert_eq!(strict.code, StatusCode::BAD_REQUEST, "{}", strict.body);
    let message = strict.body["message"].as_str().unwrap();
    assert!(
        message.starts_with(
            "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: "
        ),
        "{message}"
    );
    let said = [
        "duplicate field \"spec.paused\"",
        "unknown field \"spec.extra\"",
        "unknown field \"metadata.extra\"",
        "unknown field \"spec.template.spec.containers[0].extra\"",
    ];
    for one in said {
        assert!(message.contains(one), "{message}");
    }
    // Nothing said is Warn.
    for (name, query) in [("warn", "?fieldValidation=Warn"), ("default", "")] {
        let warn = send(
            &client,
            Method::POST,
            &format!("{DEPLOYMENTS}{query}"),
            json,
            &odd(name),
        )
        .await;
        assert_eq!(warn.code, StatusCode::CREATED, "{}", warn.body);
        for one in said {
            let line = format!("299 - \"{}\"", one.replace('"', "\\\""));
            assert!(warn.warnings.contains(&line), "{line}: {:?}", warn.warnings);
        }
        assert_eq!(warn.body["spec"].get("extra"), None);
    }
    ignored(&client).await;
    patches(&client).await;
    applied(&client).await;
    server.stop().await;
}

async fn ignored(client: &Client) {
    let json = "application/json";
    let ignore = send(
        client,
        Method::POST,
        &format!("{DEPLOYMENTS}?fieldValidation=Ignore"),
        json,
        &odd("ignore"),
    )
    .await;
    assert_eq!(
        (ignore.code, ignore.warnings.len()),
        (StatusCode::CREATED, 0),
        "{}",
        ignore.body
    );
    let put = send(
        client,
        Method::PUT,
        &format!("{DEPLOYMENTS}/ignore?fieldValidation=Strict"),
        json,
        &odd("ignore"),
    )
    .await;
    assert_eq!(put.code, StatusCode::BAD_REQUEST, "{}", put.body);
}

async fn patches(client: &Client) {
    let path = format!("{DEPLOYMENTS}/ignore");
    let twice = r#"{"spec":{"extra":1,"paused":true,"paused":true}}"#;
    let pointer = r#"[{"op":"add","path":"/spec/extra","value":1,"value":2}]"#;
    let said = "strict decoding error: duplicate field \"spec.paused\", unknown field \"spec.extra\"";
    let json_said =
        "strict decoding error: json patch duplicate field \"[0].value\", unknown field \"spec.extra\"";
    for (form, body, want) in [
        ("merge-patch", twice, said),
        ("strategic-merge-patch", twice, said),
        ("json-patch", pointer, json_said),
    ] {
        let content_type = format!("application/{form}+json");
        let strict = format!("{path}?fieldValidation=Strict");
        let refused = send(client, Method::PATCH, &strict, &content_type, body).await;
        assert_eq!(
            refused.code,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{form}: {}",
            refused.body
        );
        let message = refused.body["message"].as_str().unwrap();
        assert!(
            message.starts_with(" \"\" is invalid: patch: Invalid value: "),
            "{form}: {message}"
        );
        assert!(message.ends_with(want), "{form}: {message}");
        let warned = send(client, Method::PATCH, &path, &content_type, body).await;
        assert_eq!(
            (warned.code, warned.warnings.len()),
            (StatusCode::OK, 2),
            "{form}: {:?}",
            warned.warnings
        );
        let ignored = format!("{path}?fieldValidation=Ignore");
        let ignored = send(client, Method::PATCH, &ignored, &content_type, body).await;
        assert_eq!(
            (ignored.code, ignored.warnings.len()),
            (StatusCode::OK, 0),
            "{form}"
        );
    }
    let wrong = send(
        client,
        Method::PATCH,
        &path,
        "application/merge-patch+json",
        r#"{"spec":{"replicas":"x"}}"#,
    )
    .await;
    assert_eq!(wrong.code, StatusCode::UNPROCESSABLE_ENTITY, "{}", wrong.body);
}

/// An applied configuration may not have what nobody can own.
async fn applied(client: &Client) {
    let path = format!("{DEPLOYMENTS}/ignore");
    let apply = format!("{path}?fieldManager=m&force=true");
    let refused = send(
        client,
        Method::PATCH,
        &apply,
        "application/apply-patch+yaml",
        &odd("ignore"),
    )
    .await;
    assert_eq!(
        refused.code,
        StatusCode::INTERNAL_SERVER_ERROR,
        "{}",
        refused.body
    );
    let message = refused.body["message"].as_str().unwrap();
    let start = "failed to create typed patch object (default/ignore; apps/v1, Kind=Deployment): ";
    assert!(
        message.starts_with(start) && message.contains("field not declared in schema"),
        "{message}"
    );
    let body = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: ignore}, spec: {paused: true, paused: true}}";
    let strict = format!("{apply}&fieldValidation=Strict");
    let refused = send(
        client,
        Method::PATCH,
        &strict,
        "application/apply-patch+yaml",
        body,
    )
    .await;
    assert_eq!(refused.code, StatusCode::BAD_REQUEST, "{}", refused.body);
    assert!(
        refused.body["message"]
            .as_str()
            .unwrap()
            .starts_with("error strict decoding YAML: "),
        "{}",
        refused.body
    );
    let warned = send(
        client,
        Method::PATCH,
        &apply,
        "application/apply-patch+yaml",
        body,
    )
    .await;
    assert_eq!(
        (warned.code, warned.warnings.len()),
        (StatusCode::OK, 1),
        "{:?}",
        warned.warnings
    );
}

/// Every wrong option of a write at once, before anything else.
#[tokio::test(flavor = "multi_thread")]
async fn options_of_writes_are_checked() {
    let Some(store) = Store::start().await else { return };
    let server = Server::start(&store).await;
    let client = server.client().await;
    let path = format!("{DEPLOYMENTS}?dryRun=Some&fieldValidation=Maybe");
    let refused = send(&client, Method::POST, &path, "application/json", &odd("x")).await;
    assert_eq!(refused.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        refused.body["details"]["causes"].as_array().unwrap().len(),
        2,
        "{}",
        refused.body
    );
    let path = format!("{DEPLOYMENTS}/x");
    let refused = send(
        &client,
        Method::PATCH,
        &path,
        "application/apply-patch+yaml",
        "{}",
    )
    .await;
    assert_eq!(refused.code, StatusCode::UNPROCESSABLE_ENTITY, "{}", refused.body);
    assert_eq!(refused.body["details"]["causes"][0]["field"], "fieldManager");
    server.stop().await;
}
