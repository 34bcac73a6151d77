//! A reflector while the API server is killed and comes back.
//!
//! A writer creates, changes and deletes `ConfigMaps` one after another until a file exists, trying each write again
//! until it is answered. The watcher below the reflector is to see every change once and in order, and the store is to
//! end empty.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, reflector};
use kube::{Error, ResourceExt};
use serde_json::json;
use tokio::sync::Mutex;

use crate::World;

/// Changes of one object between its creation and its deletion.
const CHANGES: usize = 3;
/// How long a write or the watcher may take.
const WAIT: Duration = Duration::from_secs(60);
/// Between two tries.
const TRY_AGAIN: Duration = Duration::from_millis(50);
const SELECTOR: &str = "restart=kube-rs";
/// What a server that is starting or ending answers; anything else is an error of ours.
const NOT_NOW: [u16; 3] = [429, 500, 503];

/// Name, kind of change, value.
type Seen = (String, &'static str, String);

pub async fn run(world: &World, stop_file: &Path) -> anyhow::Result<()> {
    let api: Api<ConfigMap> = Api::namespaced(world.client.clone(), &world.namespace);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (store, writer) = reflector::store();
    let stream = watcher::watcher(api.clone(), watcher::Config::default().labels(SELECTOR));
    let following = tokio::spawn(follow(
        reflector::reflector(writer, stream).default_backoff(),
        seen.clone(),
    ));
    store.wait_until_ready().await?;
    println!("ready");
    let told = write_until(&api, stop_file).await?;
    let end = Instant::now() + WAIT;
    while seen.lock().await.len() < told.len() && Instant::now() < end && !following.is_finished() {
        tokio::time::sleep(TRY_AGAIN).await;
    }
    following.abort();
    let seen = seen.lock().await;
    for (position, (one, other)) in seen.iter().zip(&told).enumerate() {
        ensure!(one == other, "change {position} is {one:?}, not {other:?}");
    }
    ensure!(
        seen.len() == told.len(),
        "{} changes instead of {}",
        seen.len(),
        told.len()
    );
    ensure!(store.is_empty(), "the store still holds {:?}", store.state());
    ensure!(told.len() > 20, "only {} changes were made", told.len());
    println!("every change was seen once and in order, by the reflector");
    Ok(())
}

/// Notes what the watcher says; a break is followed by its own attempt to go on.
async fn follow(
    stream: impl futures::Stream<Item = Result<Event<ConfigMap>, watcher::Error>>,
    seen: Arc<Mutex<Vec<Seen>>>,
) {
    let mut stream = pin!(stream);
    let mut known = Vec::new();
    while let Some(event) = stream.next().await {
        let (kind, object) = match event {
            Ok(Event::Apply(object)) if known.contains(&object.uid()) => ("changed", object),
            Ok(Event::Apply(object)) => {
                known.push(object.uid());
                ("created", object)
            }
            Ok(Event::Delete(object)) => ("deleted", object),
            // An object found by a list: one that was missed.
            Ok(Event::InitApply(object)) => ("listed", object),
            Ok(Event::Init | Event::InitDone) | Err(_) => continue,
        };
        let value = object.data.as_ref().and_then(|data| data.get("i")).cloned();
        seen.lock()
            .await
            .push((object.name_any(), kind, value.unwrap_or_default()));
    }
}

/// Writes rounds of one object each; what the watcher is to see.
async fn write_until(api: &Api<ConfigMap>, stop_file: &Path) -> anyhow::Result<Vec<Seen>> {
    let mut told = Vec::new();
    for turn in 0.. {
        if stop_file.exists() {
            break;
        }
        let name = format!("kube-rs-{turn}");
        let object: ConfigMap = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"restart": "kube-rs"}}, "data": {"i": "0"}
        }))?;
        until_answered(Some(409), async || {
            api.create(&PostParams::default(), &object).await
        })
        .await?;
        told.push((name.clone(), "created", "0".to_owned()));
        for i in 1..=CHANGES {
            // Writing the same value twice changes nothing, so a write that was tried again is seen once.
            let patch = Patch::Merge(json!({"data": {"i": i.to_string()}}));
            until_answered(None, async || {
                api.patch(&name, &PatchParams::default(), &patch).await
            })
            .await?;
            told.push((name.clone(), "changed", i.to_string()));
        }
        until_answered(Some(404), async || {
            api.delete(&name, &DeleteParams::default()).await
        })
        .await?;
        told.push((name, "deleted", CHANGES.to_string()));
    }
    Ok(told)
}

/// Repeats a write until the server answers; `done` is the status that says an unanswered try took effect.
async fn until_answered<T>(done: Option<u16>, call: impl AsyncFn() -> kube::Result<T>) -> anyhow::Result<()> {
    let end = Instant::now() + WAIT;
    loop {
        match call().await {
            Ok(_) => return Ok(()),
            Err(Error::Api(status)) if Some(status.code) == done => return Ok(()),
            Err(Error::Api(status)) if !NOT_NOW.contains(&status.code) => bail!("{status}"),
            Err(error) if Instant::now() > end => return Err(error.into()),
            Err(_) => tokio::time::sleep(TRY_AGAIN).await,
        }
    }
}
