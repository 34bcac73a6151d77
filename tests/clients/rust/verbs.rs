//! Every form of request kube-rs offers, each once, with its outcome checked.

use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use kube::api::{
    Api, AttachParams, AttachedProcess, DeleteParams, DynamicObject, EvictParams, ListParams, LogParams,
    Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::core::{GroupVersionKind, PartialObjectMeta};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::watcher::{self, Event};
use kube::{Error, ResourceExt, discovery};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use crate::World;

const IMAGE: &str = "keelson.local/web:1";
/// How long a pod may take to come or go.
const WAIT: Duration = Duration::from_secs(60);

pub async fn run(world: &World) -> anyhow::Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), &world.namespace);
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), &world.namespace);
    create_and_replace(&maps).await.context("create and replace")?;
    println!("create and replace");
    patch_in_every_form(world, &maps).await.context("patch")?;
    println!("patch in every form");
    page_through_a_list(&maps).await.context("page through a list")?;
    println!("page through a list");
    watch_and_resume(&maps).await.context("watch")?;
    stream_a_list(world, &maps).await.context("stream a list")?;
    println!("watch and resume, stream a list");
    exec_in_a_pod(&pods).await.context("exec")?;
    forward_a_port(&pods).await.context("forward a port")?;
    println!("exec in a pod, forward a port");
    attach_and_logs(&pods).await.context("attach and logs")?;
    println!("attach, follow logs");
    discover_and_evict(world, &pods)
        .await
        .context("discover and evict")?;
    println!("discover, ask for a token, evict");
    maps.delete_collection(
        &DeleteParams::default(),
        &ListParams::default().labels("set=page"),
    )
    .await?;
    let left = maps.list(&ListParams::default().labels("set=page")).await?;
    ensure!(left.items.is_empty(), "left: {:?}", left.items);
    println!("delete a collection");
    Ok(())
}

/// An object with one value, labelled by the first word of its name.
fn config_map(name: &str, value: &str) -> anyhow::Result<ConfigMap> {
    let set = name.split('-').next();
    let object = json!({"metadata": {"name": name, "labels": {"set": set}}, "data": {"k": value}});
    Ok(serde_json::from_value(object)?)
}

fn values(map: &ConfigMap) -> Value {
    json!(map.data)
}

fn refused<T>(code: u16, outcome: kube::Result<T>) -> anyhow::Result<String> {
    match outcome {
        Err(Error::Api(status)) if status.code == code => Ok(status.message.clone()),
        Err(error) => Err(error).with_context(|| format!("this was to fail with {code}")),
        Ok(_) => bail!("a call succeeded instead of failing with {code}"),
    }
}

async fn create_and_replace(maps: &Api<ConfigMap>) -> anyhow::Result<()> {
    let plain = PostParams::default();
    let one = config_map("one", "v")?;
    let made = maps.create(&plain, &one).await?;
    refused(409, maps.create(&plain, &one).await)?;
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    maps.create(&dry, &config_map("dry", "v")?).await?;
    ensure!(maps.get_opt("dry").await?.is_none(), "a dry run made something");
    let next = ConfigMap {
        data: Some([("k".to_owned(), "w".to_owned())].into()),
        ..made
    };
    let replaced = maps.replace("one", &plain, &next).await?;
    ensure!(values(&replaced) == json!({"k": "w"}), "{replaced:?}");
    let conflict = refused(409, maps.replace("one", &plain, &next).await)?;
    ensure!(conflict.contains("the object has been modified"), "{conflict}");
    let invalid = refused(422, maps.create(&plain, &config_map("Not_A_Name", "v")?).await)?;
    ensure!(invalid.contains("metadata.name: Invalid value"), "{invalid}");
    Ok(())
}

async fn patch_in_every_form(world: &World, maps: &Api<ConfigMap>) -> anyhow::Result<()> {
    let plain = PatchParams::default();
    let operations = |value: Value| anyhow::Ok(Patch::<()>::Json(serde_json::from_value(value)?));
    let add = operations(json!([{"op": "add", "path": "/data/json", "value": "1"}]))?;
    let by_json = maps.patch("one", &plain, &add).await?;
    ensure!(values(&by_json) == json!({"k": "w", "json": "1"}), "{by_json:?}");
    let test = operations(json!([{"op": "test", "path": "/data/json", "value": "2"}]))?;
    refused(422, maps.patch("one", &plain, &test).await)?;
    let merge = Patch::Merge(json!({"data": {"json": null, "merge": "2"}}));
    let by_merge = maps.patch("one", &plain, &merge).await?;
    ensure!(
        values(&by_merge) == json!({"k": "w", "merge": "2"}),
        "{by_merge:?}"
    );

    let deployments: Api<Deployment> = Api::namespaced(world.client.clone(), &world.namespace);
    let deployment = serde_json::from_value(json!({
        "metadata": {"name": "patched"},
        "spec": {"replicas": 1, "paused": true, "selector": {"matchLabels": {"app": "patched"}}, "template": {
            "metadata": {"labels": {"app": "patched"}}, "spec": {"containers": [{"name": "web", "image": IMAGE}]}}}
    }))?;
    deployments.create(&PostParams::default(), &deployment).await?;
    // The list is merged by the containers' names.
    let side = json!({"spec": {"template": {"spec": {"containers": [{"name": "side", "image": IMAGE}]}}}});
    let strategic = deployments
        .patch("patched", &plain, &Patch::Strategic(side))
        .await?;
    let containers = &json!(strategic.spec)["template"]["spec"]["containers"];
    ensure!(containers.as_array().map(Vec::len) == Some(2), "{containers}");
    let scaled = Patch::Merge(json!({"spec": {"replicas": 0}}));
    deployments.patch_scale("patched", &plain, &scaled).await?;
    let replicas = deployments
        .get("patched")
        .await?
        .spec
        .and_then(|spec| spec.replicas);
    ensure!(replicas == Some(0), "{replicas:?}");

    let apply = async |manager: &str, value: &str, force: bool| {
        let mut how = PatchParams::apply(manager);
        how.force = force;
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"k": value}});
        maps.patch("applied", &how, &Patch::Apply(object)).await
    };
    apply("first", "a", false).await?;
    let conflict = refused(409, apply("second", "b", false).await)?;
    ensure!(
        conflict.contains(r#"conflict with "first": .data.k"#),
        "{conflict}"
    );
    let forced = apply("second", "b", true).await?;
    ensure!(values(&forced) == json!({"k": "b"}), "{forced:?}");
    Ok(())
}

async fn page_through_a_list(maps: &Api<ConfigMap>) -> anyhow::Result<()> {
    for i in 0..7 {
        maps.create(&PostParams::default(), &config_map(&format!("page-{i}"), "v")?)
            .await?;
    }
    let (mut names, mut pages, mut next) = (Vec::new(), 0, None::<String>);
    loop {
        let mut asked = ListParams::default().labels("set=page").limit(3);
        asked.continue_token = next;
        let page = maps.list(&asked).await?;
        names.extend(page.items.iter().map(ResourceExt::name_any));
        pages += 1;
        next = page.metadata.continue_.filter(|token| !token.is_empty());
        if next.is_none() {
            break;
        }
    }
    let all: Vec<String> = (0..7).map(|i| format!("page-{i}")).collect();
    ensure!(names == all && pages == 3, "{pages} pages: {names:?}");
    let metadata = maps
        .list_metadata(&ListParams::default().labels("set=page"))
        .await?;
    ensure!(metadata.items.len() == 7, "{} as metadata", metadata.items.len());
    Ok(())
}

async fn watch_and_resume(maps: &Api<ConfigMap>) -> anyhow::Result<()> {
    let selected = || WatchParams::default().labels("set=watched");
    let start = maps.list(&ListParams::default().labels("set=watched")).await?;
    maps.create(&PostParams::default(), &config_map("watched", "0")?)
        .await?;
    let patch = Patch::Merge(json!({"data": {"k": "1"}}));
    maps.patch("watched", &PatchParams::default(), &patch).await?;
    maps.delete("watched", &DeleteParams::default()).await?;

    let mut version = start
        .metadata
        .resource_version
        .context("a list without version")?;
    let mut seen = Vec::new();
    // Each event by a watch of its own, which goes on from the one before.
    while seen.len() < 3 {
        let mut events = pin!(maps.watch(&selected(), &version).await?);
        match events.try_next().await?.context("the watch ended")? {
            WatchEvent::Added(map) => seen.push(("added", values(&map), map.resource_version())),
            WatchEvent::Modified(map) => seen.push(("modified", values(&map), map.resource_version())),
            WatchEvent::Deleted(map) => seen.push(("deleted", values(&map), map.resource_version())),
            WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(status) => bail!("{status}"),
        }
        version = seen
            .last()
            .and_then(|(_, _, version)| version.clone())
            .unwrap_or_default();
    }
    let told: Vec<(&str, &Value)> = seen.iter().map(|(kind, data, _)| (*kind, &data["k"])).collect();
    let want = [
        ("added", &json!("0")),
        ("modified", &json!("1")),
        ("deleted", &json!("1")),
    ];
    ensure!(told == want, "{told:?}");
    Ok(())
}

/// A watcher that asks for the state as initial events, and one of metadata alone.
async fn stream_a_list(world: &World, maps: &Api<ConfigMap>) -> anyhow::Result<()> {
    let config = || watcher::Config::default().labels("set=page").streaming_lists();
    let mut whole = pin!(watcher::watcher(maps.clone(), config()));
    let mut names = Vec::new();
    loop {
        match whole.try_next().await?.context("the watcher ended")? {
            Event::InitApply(map) => names.push(map.name_any()),
            Event::InitDone => break,
            Event::Init => {}
            other => bail!("{other:?} before the end of the initial events"),
        }
    }
    ensure!(names.len() == 7, "{names:?}");
    let metadata: Api<PartialObjectMeta<ConfigMap>> = Api::namespaced(world.client.clone(), &world.namespace);
    let mut partial = pin!(watcher::watcher(metadata, config()));
    let mut count = 0;
    loop {
        match partial.try_next().await?.context("the watcher ended")? {
            Event::InitApply(_) => count += 1,
            Event::InitDone => break,
            Event::Init => {}
            other => bail!("{other:?} before the end of the initial events"),
        }
    }
    ensure!(count == 7, "{count} as metadata");
    Ok(())
}

async fn run_pod(pods: &Api<Pod>, name: &str, container: Value) -> anyhow::Result<()> {
    let pod = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 1, "restartPolicy": "Never", "containers": [container]}
    }))?;
    pods.create(&PostParams::default(), &pod).await?;
    let running = await_condition(pods.clone(), name, conditions::is_pod_running());
    tokio::time::timeout(WAIT, running)
        .await
        .context("the pod does not start")??;
    Ok(())
}

async fn all(stream: Option<impl AsyncRead + Unpin>) -> anyhow::Result<String> {
    let mut text = String::new();
    stream
        .context("a stream that was asked for")?
        .read_to_string(&mut text)
        .await?;
    Ok(text)
}

/// What the process ended with.
async fn status(process: &mut AttachedProcess) -> anyhow::Result<Value> {
    let status = process.take_status().context("the status is taken once")?.await;
    Ok(json!(status))
}

async fn exec_in_a_pod(pods: &Api<Pod>) -> anyhow::Result<()> {
    run_pod(pods, "box", json!({"name": "box", "image": IMAGE})).await?;
    let command = ["sh", "-c", "echo out; echo err >&2; exit 7"];
    let mut plain = pods.exec("box", command, &AttachParams::default()).await?;
    let (stdout, stderr) = (plain.stdout(), plain.stderr());
    let (out, err, ended) = tokio::join!(all(stdout), all(stderr), status(&mut plain));
    ensure!((out?.as_str(), err?.as_str()) == ("out\n", "err\n"));
    let ended = ended?;
    ensure!(ended["details"]["causes"][0]["message"] == "7", "{ended}");

    let both = AttachParams::default().stdin(true).stderr(false);
    let mut cat = pods.exec("box", ["cat"], &both).await?;
    let mut stdin = cat.stdin().context("standard input")?;
    stdin.write_all(b"to the end").await?;
    stdin.shutdown().await?;
    drop(stdin);
    let stdout = cat.stdout();
    let (out, ended) = tokio::join!(all(stdout), status(&mut cat));
    ensure!(out? == "to the end");
    let ended = ended?;
    ensure!(ended["status"] == "Success", "{ended}");
    Ok(())
}

async fn forward_a_port(pods: &Api<Pod>) -> anyhow::Result<()> {
    let mut forwarder = pods.portforward("box", &[80]).await?;
    let mut stream = forwarder.take_stream(80).context("the stream of port 80")?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    ensure!(answer.ends_with("Hello from box\n"), "{answer}");
    Ok(())
}

async fn attach_and_logs(pods: &Api<Pod>) -> anyhow::Result<()> {
    let script = "while read line; do echo got $line; [ $line = end ] && exit 0; done";
    let container = json!({"name": "talk", "image": IMAGE, "stdin": true, "stdinOnce": true,
        "command": ["sh", "-c", script]});
    run_pod(pods, "talk", container).await?;
    let both = AttachParams::default().stdin(true).stderr(false);
    let mut attached = pods.attach("talk", &both).await?;
    let follow = LogParams {
        follow: true,
        ..LogParams::default()
    };
    let lines = pods.log_stream("talk", &follow).await?.lines();
    let mut stdin = attached.stdin().context("standard input")?;
    stdin.write_all(b"one\nend\n").await?;
    let lines: Vec<String> = tokio::time::timeout(WAIT, lines.try_collect())
        .await
        .context("the log does not end")??;
    ensure!(lines == ["got one", "got end"], "{lines:?}");
    let last = LogParams {
        tail_lines: Some(1),
        ..LogParams::default()
    };
    ensure!(pods.logs("talk", &last).await? == "got end\n");
    Ok(())
}

async fn discover_and_evict(world: &World, pods: &Api<Pod>) -> anyhow::Result<()> {
    let found = discovery::Discovery::new(world.client.clone())
        .run_aggregated()
        .await?;
    let kind = GroupVersionKind::gvk("apps", "v1", "Deployment");
    let (resource, _) = found
        .resolve_gvk(&kind)
        .context("apps/v1 Deployment is not found")?;
    let dynamic: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &world.namespace, &resource);
    ensure!(dynamic.get("patched").await?.data["spec"]["paused"] == true);
    discovery::Discovery::new(world.client.clone()).run().await?;

    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), &world.namespace);
    let request: TokenRequest =
        serde_json::from_value(json!({"spec": {"audiences": ["a"], "expirationSeconds": 600}}))?;
    let token = accounts
        .create_token_request("default", &PostParams::default(), &request)
        .await?;
    ensure!(
        json!(token.status)["token"]
            .as_str()
            .is_some_and(|token| token.split('.').count() == 3)
    );

    let uid = pods.get("box").await?.uid().unwrap_or_default();
    pods.evict("box", &EvictParams::default()).await?;
    let gone = await_condition(pods.clone(), "box", conditions::is_deleted(&uid));
    tokio::time::timeout(WAIT, gone)
        .await
        .context("the pod does not go")??;
    Ok(())
}
