//! Leader election as client-go's `LeaseLock` does it: whoever updates the version it read holds the lease.

use http::StatusCode;
use serde_json::{Value, json};

use crate::cluster::{Server, Store};
use crate::protobuf_client::Typed;

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/elected";

/// The record a candidate writes.
fn record(holder: &str, transitions: i32) -> Value {
    json!({"holderIdentity": holder, "leaseDurationSeconds": 15, "acquireTime": "2026-01-01T00:00:00.000001Z",
        "renewTime": "2026-01-01T00:00:00.000001Z", "leaseTransitions": transitions})
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_candidates_leads() {
    let Some(store) = Store::start().await else { return };
    let server = Server::start(&store).await;
    let (one, other) = (Typed(server.client().await), Typed(server.client().await));
    assert_eq!(one.get(LEASE).await.0, StatusCode::NOT_FOUND);
    let lease = |holder: &str| {
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "elected", "namespace": "kube-system"}, "spec": record(holder, 0)})
    };
    let (first, second) = (lease("one"), lease("other"));
    let (a, b) = tokio::join!(one.create(LEASES, &first), other.create(LEASES, &second));
    let mut codes = [a.0, b.0];
    codes.sort();
    assert_eq!(
        codes,
        [StatusCode::CREATED, StatusCode::CONFLICT],
        "{} {}",
        a.1,
        b.1
    );

    // Both read the same version and try to take it: one may.
    let (_, mut mine) = one.get(LEASE).await;
    let (_, mut theirs) = other.get(LEASE).await;
    assert_eq!(mine, theirs);
    mine["spec"] = record("one", 1);
    theirs["spec"] = record("other", 1);
    let (a, b) = tokio::join!(one.update(LEASE, &mine), other.update(LEASE, &theirs));
    let (won, lost) = if a.0 == StatusCode::OK { (a, b) } else { (b, a) };
    assert_eq!(
        (won.0, lost.0),
        (StatusCode::OK, StatusCode::CONFLICT),
        "{} {}",
        won.1,
        lost.1
    );
    assert_eq!(lost.1["reason"], "Conflict");
    assert_eq!(
        lost.1["message"],
        "Operation cannot be fulfilled on leases.coordination.k8s.io \"elected\": the object has been modified; \
please apply your changes to the latest version and try again"
    );

    // The leader renews by the version its own update answered, without reading in between.
    let (mut renewed, mut version) = (won.1, String::new());
    for second in 1..=5 {
        renewed["spec"]["renewTime"] = format!("2026-01-01T00:00:0{second}.000001Z").into();
        let (code, answer) = one.update(LEASE, &renewed).await;
        assert_eq!(code, StatusCode::OK, "{answer}");
        assert_ne!(answer["metadata"]["resourceVersion"], version);
        version = answer["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
        renewed = answer;
    }
    server.stop().await;
}
