//! Subresources and reviews in protobuf: what the scheduler, the kubelet and the controllers of upstream send.

use http::StatusCode;
use serde_json::{Value, json};

use crate::cluster::{Server, Store};
use crate::protobuf_client::Typed;

const PODS: &str = "/api/v1/namespaces/default/pods";

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "100m"}}}]}})
}

async fn created(client: &Typed, path: &str, object: &Value) -> Value {
    let (code, made) = client.create(path, object).await;
    assert_eq!(code, StatusCode::CREATED, "{path}: {made}");
    made
}

async fn updated(client: &Typed, path: &str, object: &Value) -> Value {
    let (code, answer) = client.update(path, object).await;
    assert_eq!(code, StatusCode::OK, "{path}: {answer}");
    answer
}

/// A pod is bound, started, resized, looked into, evicted.
#[tokio::test(flavor = "multi_thread")]
async fn a_pods_life_by_its_subresources() {
    let Some(store) = Store::start().await else { return };
    let server = Server::start(&store).await;
    let client = Typed(server.client().await);
    created(&client, PODS, &pod("p")).await;
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p", "namespace": "default"},
        "target": {"kind": "Node", "name": "n1"}});
    let bound = created(&client, &format!("{PODS}/p/binding"), &binding).await;
    assert_eq!(
        (&bound["kind"], &bound["status"]),
        (&json!("Status"), &json!("Success")),
        "{bound}"
    );
    let (code, again) = client.create(&format!("{PODS}/p/binding"), &binding).await;
    assert_eq!(code, StatusCode::CONFLICT, "{again}");

    // The kubelet patches the status and takes the answer in protobuf.
    let ready = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"name": "c", "ready": true, "image": "i", "imageID": "x", "restartCount": 0,
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]}});
    let form = "application/strategic-merge-patch+json";
    let (code, running) = client.patch(&format!("{PODS}/p/status"), form, &ready).await;
    assert_eq!(
        (code, &running["status"]["phase"]),
        (StatusCode::OK, &json!("Running")),
        "{running}"
    );
    assert_eq!(running["spec"]["nodeName"], "n1");
    let types = running["status"]["conditions"].as_array().unwrap().iter();
    let types: Vec<&str> = types.map(|one| one["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["Ready", "PodScheduled"], "merged by type: {running}");

    let mut looked_into = running.clone();
    looked_into["spec"]["ephemeralContainers"] = json!([{"name": "debug", "image": "d", "terminationMessagePolicy": "File", "imagePullPolicy": "Always"}]);
    let path = format!("{PODS}/p/ephemeralcontainers");
    let looked_into = updated(&client, &path, &looked_into).await;
    assert_eq!(looked_into["spec"]["ephemeralContainers"][0]["name"], "debug");
    let mut resized = looked_into.clone();
    resized["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "200m".into();
    let resized = updated(&client, &format!("{PODS}/p/resize"), &resized).await;
    assert_eq!(
        resized["spec"]["containers"][0]["resources"]["requests"]["cpu"],
        "200m"
    );

    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p", "namespace": "default"},
        "deleteOptions": {"gracePeriodSeconds": 0}});
    let evicted = created(&client, &format!("{PODS}/p/eviction"), &eviction).await;
    assert_eq!(
        (&evicted["kind"], &evicted["status"]),
        (&json!("Status"), &json!("Success")),
        "{evicted}"
    );
    assert_eq!(client.get(&format!("{PODS}/p")).await.0, StatusCode::NOT_FOUND);
    server.stop().await;
}

/// A budget that allows nothing refuses the eviction, and says for how long.
#[tokio::test(flavor = "multi_thread")]
async fn a_budget_refuses_an_eviction() {
    let Some(store) = Store::start().await else { return };
    let server = Server::start(&store).await;
    let client = Typed(server.client().await);
    created(&client, PODS, &pod("p")).await;
    let running =
        json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    let form = "application/strategic-merge-patch+json";
    client.patch(&format!("{PODS}/p/status"), form, &running).await;
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}});
    let mut budget = created(&client, budgets, &budget).await;
    budget["status"] = json!({"observedGeneration": 1, "disruptionsAllowed": 0, "currentHealthy": 1,
        "desiredHealthy": 1, "expectedPods": 1});
    updated(&client, &format!("{budgets}/b/status"), &budget).await;
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p", "namespace": "default"}});
    let (code, refused) = client.create(&format!("{PODS}/p/eviction"), &eviction).await;
    assert_eq!(code, StatusCode::TOO_MANY_REQUESTS, "{refused}");
    assert_eq!(
        (&refused["reason"], &refused["message"]),
        (
            &json!("TooManyRequests"),
            &json!("Cannot evict pod as it would violate the pod's disruption budget.")
        )
    );
    assert_eq!(
        refused["details"]["causes"][0]["reason"], "DisruptionBudget",
        "{refused}"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_is_scaled() {
    let Some(store) = Store::start().await else { return };
    let server = Server::start(&store).await;
    let client = Typed(server.client().await);
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    created(&client, deployments, &deployment).await;
    let path = format!("{deployments}/d/scale");
    let (_, mut scale) = client.get(&path).await;
    assert_eq!(
        (&scale["apiVersion"], &scale["kind"]),
        (&json!("autoscaling/v1"), &json!("Scale")),
        "{scale}"
    );
    assert_eq!(scale["status"]["selector"], "a=b");
    scale["spec"]["replicas"] = 3.into();
    assert_eq!(updated(&client, &path, &scale).await["spec"]["replicas"], 3);
    let (code, refused) = client.update(&path, &scale).await;
    assert_eq!(
        (code, &refused["reason"]),
        (StatusCode::CONFLICT, &json!("Conflict")),
        "{refused}"
    );
    let patch = json!({"spec": {"replicas": 4}});
    let (code, patched) = client.patch(&path, "application/merge-patch+json", &patch).await;
    assert_eq!(
        (code, &patched["spec"]["replicas"]),
        (StatusCode::OK, &json!(4)),
        "{patched}"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_request_is_approved() {
    let Some(store) = Store::start().await else { return };
    let server = Server::start(&store).await;
    let client = Typed(server.client().await);
    let requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let request = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"name": "r"}, "spec": {"signerName": "example.com/signer", "usages": ["client auth"],
        "request": "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUE9PQotLS0tLUVORCBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0K"}});
    let mut request = created(&client, requests, &request).await;
    assert_eq!(
        request["spec"]["username"], "system:anonymous",
        "whatever the client claims"
    );
    request["status"]["conditions"] =
        json!([{"type": "Approved", "status": "True", "reason": "Test", "message": ""}]);
    let approved = updated(&client, &format!("{requests}/r/approval"), &request).await;
    assert_eq!(
        approved["status"]["conditions"][0]["type"], "Approved",
        "{approved}"
    );
    assert!(
        approved["status"]["conditions"][0]["lastUpdateTime"].is_string(),
        "{approved}"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reviews_are_answered() {
    let Some(store) = Store::start().await else { return };
    let server = Server::start(&store).await;
    let client = Typed(server.client().await);
    let attributes = json!({"verb": "get", "resource": "pods"});
    for (group, kind, spec) in [
        (
            "authorization.k8s.io",
            "SubjectAccessReview",
            json!({"user": "u", "resourceAttributes": attributes}),
        ),
        (
            "authorization.k8s.io",
            "SelfSubjectAccessReview",
            json!({"resourceAttributes": attributes}),
        ),
        (
            "authorization.k8s.io",
            "SelfSubjectRulesReview",
            json!({"namespace": "default"}),
        ),
        (
            "authentication.k8s.io",
            "TokenReview",
            json!({"token": "unknown"}),
        ),
        ("authentication.k8s.io", "SelfSubjectReview", Value::Null),
    ] {
        let mut review = json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": {}});
        if !spec.is_null() {
            review["spec"] = spec;
        }
        let answer = created(
            &client,
            &format!("/apis/{group}/v1/{}s", kind.to_lowercase()),
            &review,
        )
        .await;
        assert_eq!(answer["kind"], kind, "{answer}");
        assert!(answer["status"].is_object(), "{answer}");
    }
    server.stop().await;
}
