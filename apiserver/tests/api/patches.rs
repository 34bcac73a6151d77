//! Server-side apply: who owns what, conflicts, force; and what other patches leave behind.

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::cluster::{Client, Server, Store};

const PATH: &str = "/apis/apps/v1/namespaces/default/deployments/web";

fn deployment(replicas: Option<i64>, image: &str) -> Value {
    let mut object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": image}]}}}});
    if let Some(replicas) = replicas {
        object["spec"]["replicas"] = replicas.into();
    }
    object
}

async fn apply(client: &Client, query: &str, object: &Value) -> (StatusCode, Value) {
    let path = format!("{PATH}?{query}");
    let headers = [("content-type", "application/apply-patch+yaml")];
    let response = client
        .send(Method::PATCH, &path, &headers, object.to_string())
        .await;
    let code = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn appliers_share_an_object_and_quarrel_over_fields() {
    let Some(store) = Store::start().await else { return };
    let server = Server::start(&store).await;
    let client = server.client().await;
    let (code, made) = apply(&client, "fieldManager=one", &deployment(Some(2), "i:1")).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let (code, same) = apply(&client, "fieldManager=one", &deployment(Some(2), "i:1")).await;
    assert_eq!(
        (code, &same),
        (StatusCode::OK, &made),
        "nothing changed, so nothing is written"
    );

    // Another applier of the same values shares them; of others, it is refused field by field.
    let (code, conflict) = apply(&client, "fieldManager=two", &deployment(Some(3), "i:2")).await;
    assert_eq!(
        (code, &conflict["reason"]),
        (StatusCode::CONFLICT, &json!("Conflict")),
        "{conflict}"
    );
    assert_eq!(
        conflict["message"],
        "Apply failed with 2 conflicts: conflicts with \"one\":\n- .spec.replicas\n\
         - .spec.template.spec.containers[name=\"c\"].image"
    );
    assert_eq!(
        conflict["details"]["causes"],
        json!([
            {"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".spec.replicas"},
            {"reason": "FieldManagerConflict", "message": "conflict with \"one\"",
                "field": ".spec.template.spec.containers[name=\"c\"].image"},
        ])
    );
    let (code, forced) = apply(
        &client,
        "fieldManager=two&force=true",
        &deployment(Some(3), "i:1"),
    )
    .await;
    assert_eq!(
        (code, &forced["spec"]["replicas"]),
        (StatusCode::OK, &json!(3)),
        "{forced}"
    );

    // An update by a third takes what it changes; the appliers keep the rest.
    let patch = json!({"spec": {"replicas": 5}});
    let (_, scaled) = client
        .patch(&format!("{PATH}?fieldManager=three"), "merge-patch", &patch)
        .await;
    let managers = scaled["metadata"]["managedFields"].as_array().unwrap();
    let owner = |fields: &Value| {
        let with = managers.iter().filter(|entry| {
            entry["fieldsV1"]["f:spec"]
                .get(fields.as_str().unwrap())
                .is_some()
        });
        with.map(|entry| entry["manager"].as_str().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(owner(&json!("f:replicas")), ["three"], "{managers:?}");
    assert_eq!(owner(&json!("f:selector")), ["one", "two"]);
    server.stop().await;
}

/// What an applier leaves out, and nobody else owns, is gone; what it may not say is refused.
#[tokio::test(flavor = "multi_thread")]
async fn an_applier_owns_what_it_says() {
    let Some(store) = Store::start().await else { return };
    let server = Server::start(&store).await;
    let client = server.client().await;
    let (code, _) = apply(&client, "fieldManager=one", &deployment(None, "i:1")).await;
    assert_eq!(code, StatusCode::CREATED);
    let patch = json!({"spec": {"replicas": 5}});
    client
        .patch(&format!("{PATH}?fieldManager=three"), "merge-patch", &patch)
        .await;
    let mut labelled = deployment(None, "i:1");
    labelled["metadata"]["annotations"] = json!({"mine": "yes"});
    let (_, labelled) = apply(&client, "fieldManager=one", &labelled).await;
    assert_eq!(
        (
            &labelled["metadata"]["annotations"]["mine"],
            &labelled["spec"]["replicas"]
        ),
        (&json!("yes"), &json!(5))
    );
    let (_, bare) = apply(&client, "fieldManager=one", &deployment(None, "i:1")).await;
    assert_eq!(bare["metadata"]["annotations"].get("mine"), None, "{bare}");
    let (code, refused) = apply(&client, "fieldManager=one", &json!({"kind": "Deployment"})).await;
    assert_eq!(
        (code, &refused["message"]),
        (
            StatusCode::BAD_REQUEST,
            &json!("apiVersion and kind must be set in an apply patch")
        ),
        "{refused}"
    );
    let mut owned = deployment(None, "i:1");
    owned["metadata"]["managedFields"] = json!([{}]);
    let (code, refused) = apply(&client, "fieldManager=one", &owned).await;
    assert_eq!(
        (code, &refused["message"]),
        (
            StatusCode::BAD_REQUEST,
            &json!("metadata.managedFields must be nil")
        ),
        "{refused}"
    );
    server.stop().await;
}

/// Broken patches, with the code each gets.
#[tokio::test(flavor = "multi_thread")]
async fn patches_that_cannot_be_applied_are_refused() {
    let Some(store) = Store::start().await else { return };
    let server = Server::start(&store).await;
    let client = server.client().await;
    let (code, _) = apply(&client, "fieldManager=one", &deployment(Some(2), "i:1")).await;
    assert_eq!(code, StatusCode::CREATED);
    for (form, body, want) in [
        (
            "json-patch",
            json!([{"op": "test", "path": "/spec/replicas", "value": 7}]),
            422,
        ),
        (
            "json-patch",
            json!([{"op": "remove", "path": "/spec/nothing"}]),
            422,
        ),
        ("json-patch", json!({"op": "remove"}), 400),
        ("merge-patch", json!([1]), 400),
        ("merge-patch", json!({"metadata": {"name": "other"}}), 400),
        ("merge-patch", json!({"metadata": {"resourceVersion": "1"}}), 409),
        (
            "merge-patch",
            json!({"spec": {"selector": {"matchLabels": {"a": "c"}}}}),
            422,
        ),
        ("nothing", json!({}), 415),
    ] {
        let (code, answer) = client.patch(PATH, form, &body).await;
        assert_eq!(code.as_u16(), want, "{form} {body}: {answer}");
        assert_eq!(answer["kind"], "Status", "{form} {body}");
    }
    server.stop().await;
}
