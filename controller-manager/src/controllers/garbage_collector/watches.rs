//! Feeds the graph: a metadata-only watch for every resource that can be listed, watched and deleted.
//!
//! Discovery is read at the start and again when a CustomResourceDefinition or APIService changes (their own watches
//! tell), so nothing is polled while nothing changes.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use keelson_base::Shutdown;
use keelson_client::WatchFailures;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, PartialObjectMeta};
use kube::runtime::watcher;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::Collector;
use super::graph::{FOREGROUND, ORPHAN, Owner, Place, Seen, Uid};
use crate::discovery::{self, Resource};

/// How long the first lists may take before work starts without the missing ones.
const FIRST_LISTS_WAIT: Duration = Duration::from_secs(30);
/// Pause between a change of what is served and reading discovery again; the server needs a moment too.
const SETTLE: Duration = Duration::from_secs(1);

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The task that watches; it sets `ready` when the first lists are in the graph.
pub(super) fn run(
    collector: Arc<Collector>,
    client: Client,
    shutdown: Shutdown,
) -> impl FnOnce(watch::Sender<bool>) -> Running {
    move |ready| {
        Box::pin(async move {
            tokio::select! {
                () = watch_all(collector, client, ready) => {}
                () = shutdown.wait() => {}
            }
        })
    }
}

async fn watch_all(collector: Arc<Collector>, client: Client, ready: watch::Sender<bool>) {
    // One place: a burst of changes leads to one look.
    let (changed, mut changes) = mpsc::channel::<()>(1);
    let mut watches: HashMap<Arc<Resource>, tokio::task::AbortHandle> = HashMap::new();
    let mut tasks = JoinSet::new();
    loop {
        match discovery::fetch(&client).await {
            Ok(found) => {
                let resources: Vec<Arc<Resource>> = found.resources.into_iter().map(Arc::new).collect();
                *collector.resources.write() = resources.clone();
                let mut synced = Vec::new();
                for resource in resources.iter().filter(|r| is_watched(r)) {
                    if watches.contains_key(resource) {
                        continue;
                    }
                    let (listed, wait) = tokio::sync::oneshot::channel();
                    synced.push(wait);
                    let feed = feed(
                        collector.clone(),
                        client.clone(),
                        resource.clone(),
                        listed,
                        changed.clone(),
                    );
                    watches.insert(resource.clone(), tasks.spawn(feed));
                }
                watches.retain(|resource, task| {
                    let served = resources.contains(resource);
                    if !served {
                        task.abort();
                    }
                    served
                });
                let all = futures::future::join_all(synced);
                if tokio::time::timeout(FIRST_LISTS_WAIT, all).await.is_err() {
                    tracing::warn!(
                        "garbage collector: some resources cannot be listed; starting without them"
                    );
                }
                ready.send_replace(true);
                tracing::debug!(
                    resources = watches.len(),
                    objects = collector.graph.lock().size(),
                    "watching"
                );
            }
            Err(error) => {
                tracing::warn!(
                    error = keelson_base::error::chain(&error),
                    "garbage collector: discovery failed"
                );
                let _ = changed.try_send(());
            }
        }
        while tasks.try_join_next().is_some() {}
        if changes.recv().await.is_none() {
            return;
        }
        tokio::time::sleep(SETTLE).await;
    }
}

fn is_watched(resource: &Resource) -> bool {
    let ignored = resource.plural == "events" && matches!(resource.group.as_str(), "" | "events.k8s.io");
    !ignored && resource.can(&["delete", "list", "watch"])
}

/// Whether a change of such objects changes what is served.
fn changes_discovery(resource: &Resource) -> bool {
    matches!(resource.kind.as_str(), "CustomResourceDefinition" | "APIService")
}

async fn feed(
    collector: Arc<Collector>,
    client: Client,
    resource: Arc<Resource>,
    listed: tokio::sync::oneshot::Sender<()>,
    changed: mpsc::Sender<()>,
) {
    let api_version: Arc<str> = resource.api_version().into();
    let kind: Arc<str> = resource.kind.as_str().into();
    let dynamic = ApiResource {
        group: resource.group.clone(),
        version: resource.version.clone(),
        api_version: resource.api_version(),
        kind: resource.kind.clone(),
        plural: resource.plural.clone(),
    };
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &dynamic);
    let mut stream = std::pin::pin!(watcher::watcher(api, watcher::Config::default().page_size(500)));
    let mut listed = Some(listed);
    let mut known: Vec<Uid> = Vec::new();
    let mut fresh: Vec<Uid> = Vec::new();
    let mut failures = WatchFailures::new(resource.kind.as_str());
    while let Some(event) = stream.next().await {
        if matches!(&event, Ok(seen) if !matches!(seen, watcher::Event::Init)) {
            failures.succeeded();
        }
        let object = match event {
            Ok(watcher::Event::Init) => {
                fresh.clear();
                // What the graph has of this kind, to find what is gone after the list.
                known = collector.graph.lock().of_kind(&api_version, &kind);
                continue;
            }
            Ok(watcher::Event::InitDone) => {
                fresh.sort();
                let gone = std::mem::take(&mut known)
                    .into_iter()
                    .filter(|uid| fresh.binary_search(uid).is_err());
                gone.for_each(|uid| collector.gone(&uid));
                fresh = Vec::new();
                if let Some(listed) = listed.take() {
                    // The receiver may have stopped waiting.
                    let _ = listed.send(());
                } else if changes_discovery(&resource) {
                    let _ = changed.try_send(());
                }
                continue;
            }
            Ok(watcher::Event::InitApply(object)) => {
                fresh.extend(object.metadata.uid.as_deref().map(Uid::from));
                object
            }
            Ok(watcher::Event::Apply(object)) => {
                if changes_discovery(&resource) {
                    let _ = changed.try_send(());
                }
                object
            }
            Ok(watcher::Event::Delete(object)) => {
                if let Some(uid) = object.metadata.uid.as_deref() {
                    collector.gone(&uid.into());
                }
                if changes_discovery(&resource) {
                    let _ = changed.try_send(());
                }
                continue;
            }
            Err(error) => {
                failures.failed(&error).await;
                continue;
            }
        };
        if let Some(seen) = seen(&object, &api_version, &kind) {
            let work = collector.graph.lock().apply(seen);
            collector.enqueue(work);
        }
    }
}

fn seen(object: &PartialObjectMeta<DynamicObject>, api_version: &Arc<str>, kind: &Arc<str>) -> Option<Seen> {
    let meta = &object.metadata;
    let held_by = |finalizer: &str| meta.finalizers.iter().flatten().any(|f| f == finalizer);
    Some(Seen {
        uid: meta.uid.as_deref()?.into(),
        place: Place {
            api_version: api_version.clone(),
            kind: kind.clone(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        },
        owners: meta
            .owner_references
            .iter()
            .flatten()
            .map(|owner| Owner {
                uid: owner.uid.as_str().into(),
                api_version: owner.api_version.clone(),
                kind: owner.kind.clone(),
                name: owner.name.clone(),
                blocks: owner.block_owner_deletion == Some(true),
            })
            .collect(),
        deleting: meta.deletion_timestamp.is_some(),
        foreground: held_by(FOREGROUND),
        orphan: held_by(ORPHAN),
    })
}
