//! Several servers over one store behave as one.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};

use crate::cluster::{Client, Server, Store};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SERVICES: &str = "/api/v1/namespaces/default/services";

/// How long the servers may take to agree on who they are.
const AGREED: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"a": "b"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_server_wrote_the_other_reads() {
    let Some(store) = Store::start().await else { return };
    let (one, two) = (
        Server::start(&store).await,
        Server::start_as(&store, "127.0.0.2").await,
    );
    let (a, b) = (one.client().await, two.client().await);
    let path = format!("{MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan");
    let mut watch = b.watch(&path).await;
    for round in 0..20 {
        let name = format!("m{round}");
        let (writer, reader) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let (code, made) = writer.post(MAPS, &map(&name)).await;
        assert_eq!(code, StatusCode::CREATED, "{made}");
        let version = made["metadata"]["resourceVersion"].as_str().unwrap();
        // The most recent; not older than the write; the list as of the write.
        assert_eq!(reader.get(&format!("{MAPS}/{name}")).await.1, made);
        assert_eq!(
            reader
                .get(&format!("{MAPS}/{name}?resourceVersion={version}"))
                .await
                .1,
            made
        );
        let exact = format!("{MAPS}?resourceVersion={version}&resourceVersionMatch=Exact");
        let (_, list) = reader.get(&exact).await;
        assert_eq!(list["metadata"]["resourceVersion"], version);
        assert_eq!(list["items"].as_array().unwrap().len(), round + 1, "{list}");
        assert_eq!(watch.next().await["object"]["metadata"]["name"], name);
    }
    // A list begun at one goes on at the other.
    let (_, first) = a.get(&format!("{MAPS}?limit=7")).await;
    let next = first["metadata"]["continue"].as_str().unwrap();
    let (_, rest) = b.get(&format!("{MAPS}?continue={next}")).await;
    assert_eq!(
        rest["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    assert_eq!(rest["items"].as_array().unwrap().len(), 13);
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_at_both_servers_lose_nothing() {
    let Some(store) = Store::start().await else { return };
    let (one, two) = (
        Server::start(&store).await,
        Server::start_as(&store, "127.0.0.2").await,
    );
    let (a, b) = (one.client().await, two.client().await);
    assert_eq!(a.post(MAPS, &map("shared")).await.0, StatusCode::CREATED);
    let patch = |client: Client, key: String| async move {
        let patch = json!({"data": {key: "x"}});
        let (code, answer) = client
            .patch(&format!("{MAPS}/shared"), "merge-patch", &patch)
            .await;
        assert_eq!(code, StatusCode::OK, "{answer}");
    };
    let both = (0..20).flat_map(|round| [(a.clone(), format!("a{round}")), (b.clone(), format!("b{round}"))]);
    join_all(both.map(|(client, key)| patch(client, key))).await;
    let (_, shared) = a.get(&format!("{MAPS}/shared")).await;
    assert_eq!(shared["data"].as_object().unwrap().len(), 41);

    let service = |client: Client, name: String| async move {
        let ports = json!([{"name": "a", "port": 80}, {"name": "b", "port": 81}]);
        let body = json!({"metadata": {"name": name}, "spec": {"type": "NodePort", "ports": ports}});
        let (code, made) = client.post(SERVICES, &body).await;
        assert_eq!(code, StatusCode::CREATED, "{made}");
        made
    };
    let both = (0..20).flat_map(|round| [(a.clone(), format!("a{round}")), (b.clone(), format!("b{round}"))]);
    let made = join_all(both.map(|(client, name)| service(client, name))).await;
    let ips: BTreeSet<&str> = made
        .iter()
        .map(|one| one["spec"]["clusterIP"].as_str().unwrap())
        .collect();
    assert_eq!(ips.len(), 40, "{ips:?}");
    let ports = made
        .iter()
        .flat_map(|one| one["spec"]["ports"].as_array().unwrap());
    let ports: BTreeSet<u64> = ports.map(|port| port["nodePort"].as_u64().unwrap()).collect();
    assert_eq!(ports.len(), 80, "{ports:?}");
    one.stop().await;
    two.stop().await;
}

/// The addresses behind the `kubernetes` Service.
async fn endpoints(client: &Client) -> BTreeSet<String> {
    let (_, endpoints) = client
        .get("/api/v1/namespaces/default/endpoints/kubernetes")
        .await;
    let subsets = endpoints["subsets"].as_array().into_iter().flatten();
    let addresses = subsets.flat_map(|subset| subset["addresses"].as_array().into_iter().flatten());
    addresses
        .map(|address| address["ip"].as_str().unwrap().to_owned())
        .collect()
}

async fn until_endpoints(client: &Client, want: &[&str]) {
    let want: BTreeSet<String> = want.iter().map(|one| (*one).to_owned()).collect();
    let deadline = Instant::now() + AGREED;
    loop {
        let found = endpoints(client).await;
        if found == want {
            return;
        }
        assert!(Instant::now() < deadline, "endpoints are {found:?}, not {want:?}");
        tokio::time::sleep(POLL).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_leads_to_every_server_that_lives() {
    let Some(store) = Store::start().await else { return };
    let one = Server::start(&store).await;
    let a = one.client().await;
    until_endpoints(&a, &["127.0.0.1"]).await;
    let two = Server::start_as(&store, "127.0.0.2").await;
    until_endpoints(&a, &["127.0.0.1", "127.0.0.2"]).await;
    two.stop().await;
    until_endpoints(&a, &["127.0.0.1"]).await;
    let (_, slices) = a
        .get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes")
        .await;
    assert_eq!(
        slices["endpoints"][0]["addresses"],
        json!(["127.0.0.1"]),
        "{slices}"
    );
    one.stop().await;
}
