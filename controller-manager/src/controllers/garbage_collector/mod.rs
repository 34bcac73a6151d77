//! Garbage collector: deletes objects whose owners are all gone; foreground and orphan deletion.
//!
//! `watches` feeds the `graph` with the metadata of every resource that can be deleted; this file acts on what the
//! graph says must be looked at. Before any write the object itself is read from the server, and writes carry its uid
//! and resourceVersion: the graph may be behind, but nothing is deleted on its word alone. An owner that the graph
//! has seen counts as present; one it has not seen is asked for.

pub mod graph;
mod verdict;
mod watches;

use std::sync::Arc;
use std::time::Duration;

use keelson_controller::Queue;
use keelson_controller::runtime::WorkError;
use kube::Client;
use parking_lot::{Mutex, RwLock};
use serde::Deserialize;
use serde_json::{Value, json};

use self::graph::{FOREGROUND, Graph, ORPHAN, Place, Uid, Work};
use self::verdict::{Fate, Standing};
use crate::context::Context;
use crate::discovery::Resource;

const NAME: &str = "garbage-collector-controller";

/// Starts the controller.
pub fn start(context: &Context) {
    let collector = Arc::new(Collector {
        client: context.client.clone(),
        graph: Mutex::default(),
        resources: RwLock::default(),
        deletions: Queue::default(),
        orphans: Queue::default(),
        tell_gone: Box::new(context.teller_of_gone()),
    });
    let watching = watches::run(
        collector.clone(),
        context.watch_client(),
        context.shutdown.clone(),
    );
    let (ready, synced) = tokio::sync::watch::channel(false);
    context.spawn_synced(watching(ready));
    let workers = context.config.concurrent.gc_syncs;
    let worker = collector.clone();
    let filled = synced.clone();
    context.drive(NAME, collector.deletions.clone(), workers, move |uid: Uid| {
        let (worker, mut filled) = (worker.clone(), filled.clone());
        async move {
            // Before the first lists, every owner would look absent and be asked for.
            let _ = filled.wait_for(|filled| *filled).await;
            worker.try_delete(&uid).await
        }
    });
    let worker = collector.clone();
    context.drive(
        "garbage_collector_attempt_to_orphan",
        collector.orphans.clone(),
        workers,
        move |uid: Uid| {
            let worker = worker.clone();
            async move { worker.orphan(&uid).await }
        },
    );
}

struct Collector {
    client: Client,
    /// Guards the graph; held for one change or question, never across an await.
    graph: Mutex<Graph>,
    /// What discovery knows, to find the path of a kind.
    resources: RwLock<Vec<Arc<Resource>>>,
    deletions: Queue<Uid>,
    orphans: Queue<Uid>,
    /// Tells others of the namespace that lost an object.
    tell_gone: Box<dyn Fn(&str) + Send + Sync>,
}

/// An object's metadata, fresh from the server.
#[derive(Debug, Default, Deserialize)]
struct Live {
    #[serde(default)]
    metadata: LiveMeta,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LiveMeta {
    uid: String,
    resource_version: String,
    deletion_timestamp: Option<String>,
    finalizers: Vec<String>,
    owner_references: Vec<LiveOwner>,
}

#[derive(Clone, Debug, Default, Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase", default)]
struct LiveOwner {
    api_version: String,
    kind: String,
    name: String,
    uid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    controller: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block_owner_deletion: Option<bool>,
}

impl Collector {
    fn enqueue(&self, work: Work) {
        work.delete.into_iter().for_each(|uid| self.deletions.add(uid));
        work.orphan.into_iter().for_each(|uid| self.orphans.add(uid));
    }

    fn gone(&self, uid: &Uid) {
        let (namespace, work) = {
            let mut graph = self.graph.lock();
            let namespace = graph.get(uid).map(|node| node.place.namespace.clone());
            graph.note_absent(uid);
            (namespace, graph.remove(uid))
        };
        if let Some(namespace) = namespace {
            (self.tell_gone)(&namespace);
        }
        self.enqueue(work);
    }

    /// Path of an object; `None` when its kind is not served.
    fn path(&self, place: &Place) -> Option<String> {
        let resources = self.resources.read();
        let (group, version) = place
            .api_version
            .split_once('/')
            .unwrap_or(("", &place.api_version));
        let resource = resources
            .iter()
            .find(|r| r.group == group && *r.kind == *place.kind)?;
        let mut resource = Resource::clone(resource);
        resource.version = version.to_owned();
        let namespace = Some(place.namespace.as_str()).filter(|_| resource.namespaced);
        if resource.namespaced && place.namespace.is_empty() {
            // A cluster-scoped object names an owner inside a namespace it does not say.
            return None;
        }
        Some(format!("{}/{}", resource.path(namespace), place.name))
    }

    /// The object as the server has it; `None` when it is gone.
    async fn fetch(&self, path: &str) -> Result<Option<Live>, kube::Error> {
        let request = http::Request::get(path)
            .header(
                http::header::ACCEPT,
                "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json",
            )
            .body(Vec::new())
            .map_err(kube::Error::HttpError)?;
        match self.client.request::<Live>(request).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            answer => answer.map(Some),
        }
    }

    async fn try_delete(&self, uid: &Uid) -> Result<Option<Duration>, WorkError> {
        let Some(node) = self.graph.lock().get(uid).cloned() else {
            return Ok(None);
        };
        if node.deleting && !node.foreground {
            return Ok(None);
        }
        let Some(path) = self.path(&node.place) else {
            if node.virtual_ {
                return Err(unmapped(&node.place));
            }
            return Ok(None);
        };
        let live = self
            .fetch(&path)
            .await?
            .filter(|live| *live.metadata.uid == **uid);
        let Some(live) = live else {
            self.gone(uid);
            return Ok(None);
        };
        if node.virtual_ {
            // It exists; its watch will bring it.
            return Ok(Some(Duration::from_secs(5)));
        }
        if node.foreground {
            return self
                .foreground_step(uid, &path, &live.metadata)
                .await
                .map(|()| None);
        }
        let mut standings = Vec::with_capacity(live.metadata.owner_references.len());
        for owner in &live.metadata.owner_references {
            standings.push((owner.uid.clone(), self.standing(&node.place, owner).await?));
        }
        let (dependents, circular) = (
            !node.dependents.is_empty(),
            self.graph.lock().has_waiting_dependent(uid),
        );
        let held = &live.metadata.finalizers;
        match verdict::fate(&standings, dependents, held) {
            Fate::Keep => {}
            Fate::Unown(uids) => self.unown(&path, &live.metadata, &uids).await?,
            Fate::Delete(policy) => {
                if policy == "Foreground" && dependents && circular {
                    self.unblock(&path, &live.metadata).await?;
                }
                self.delete(&path, &live.metadata, policy).await?;
            }
        }
        Ok(None)
    }

    /// Whether an owner is there, gone, or waits for this very dependent.
    async fn standing(&self, dependent: &Place, owner: &LiveOwner) -> Result<Standing, WorkError> {
        {
            let graph = self.graph.lock();
            if graph.is_absent(&owner.uid) {
                return Ok(Standing::Gone);
            }
            if let Some(node) = graph.get(&owner.uid).filter(|node| !node.virtual_) {
                // From outside of namespaces an owner inside one is no mistake to punish: it is left alone.
                let reachable = dependent.namespace.is_empty()
                    || node.place.namespace.is_empty()
                    || node.place.namespace == dependent.namespace;
                return Ok(match (reachable, node.foreground) {
                    (false, _) => Standing::Gone,
                    (true, true) => Standing::Waiting,
                    (true, false) => Standing::Solid,
                });
            }
        }
        let place = Place {
            api_version: owner.api_version.as_str().into(),
            kind: owner.kind.as_str().into(),
            namespace: dependent.namespace.clone(),
            name: owner.name.clone(),
        };
        let path = self.path(&place).ok_or_else(|| unmapped(&place))?;
        let live = self
            .fetch(&path)
            .await?
            .filter(|live| live.metadata.uid == owner.uid);
        Ok(match live {
            None => {
                self.graph.lock().note_absent(&owner.uid.as_str().into());
                Standing::Gone
            }
            Some(live) => {
                let foreground = live.metadata.finalizers.iter().any(|f| f == FOREGROUND);
                if live.metadata.deletion_timestamp.is_some() && foreground {
                    Standing::Waiting
                } else {
                    Standing::Solid
                }
            }
        })
    }

    /// Lets an owner go when nothing blocks it, else has the blockers tried.
    async fn foreground_step(&self, uid: &Uid, path: &str, live: &LiveMeta) -> Result<(), WorkError> {
        let blocking = self.graph.lock().blocking(uid);
        if blocking.is_empty() {
            return self.drop_finalizer(path, live, FOREGROUND).await;
        }
        let graph = self.graph.lock();
        for dependent in blocking {
            if !graph.get(&dependent).is_some_and(|node| node.deleting) {
                self.deletions.add(dependent);
            }
        }
        Ok(())
    }

    async fn orphan(&self, uid: &Uid) -> Result<Option<Duration>, WorkError> {
        let Some(node) = self.graph.lock().get(uid).cloned() else {
            return Ok(None);
        };
        for dependent in &node.dependents {
            let place = self.graph.lock().get(dependent).map(|d| d.place.clone());
            let Some(path) = place.and_then(|place| self.path(&place)) else {
                continue;
            };
            let live = self
                .fetch(&path)
                .await?
                .filter(|live| *live.metadata.uid == **dependent);
            if let Some(live) = live {
                self.unown(&path, &live.metadata, &[uid.to_string()]).await?;
            }
        }
        let Some(path) = self.path(&node.place) else {
            return Ok(None);
        };
        if let Some(live) = self
            .fetch(&path)
            .await?
            .filter(|live| *live.metadata.uid == **uid)
        {
            self.drop_finalizer(&path, &live.metadata, ORPHAN).await?;
        }
        Ok(None)
    }

    async fn unown(&self, path: &str, live: &LiveMeta, uids: &[String]) -> Result<(), WorkError> {
        let kept: Vec<&LiveOwner> = live
            .owner_references
            .iter()
            .filter(|owner| !uids.contains(&owner.uid))
            .collect();
        if kept.len() == live.owner_references.len() {
            return Ok(());
        }
        self.patch(path, live, json!({ "ownerReferences": kept })).await
    }

    async fn unblock(&self, path: &str, live: &LiveMeta) -> Result<(), WorkError> {
        let mut owners = live.owner_references.clone();
        owners
            .iter_mut()
            .for_each(|owner| owner.block_owner_deletion = Some(false));
        self.patch(path, live, json!({ "ownerReferences": owners })).await
    }

    async fn drop_finalizer(&self, path: &str, live: &LiveMeta, finalizer: &str) -> Result<(), WorkError> {
        let kept: Vec<&String> = live.finalizers.iter().filter(|f| *f != finalizer).collect();
        if kept.len() == live.finalizers.len() {
            return Ok(());
        }
        self.patch(path, live, json!({ "finalizers": kept })).await
    }

    /// A merge patch of metadata that fails when the object has changed since `live`.
    async fn patch(&self, path: &str, live: &LiveMeta, mut metadata: Value) -> Result<(), WorkError> {
        metadata["uid"] = json!(live.uid);
        metadata["resourceVersion"] = json!(live.resource_version);
        let body = json!({ "metadata": metadata });
        let request = http::Request::patch(path)
            .header(http::header::CONTENT_TYPE, "application/merge-patch+json")
            .body(body.to_string().into_bytes())
            .map_err(kube::Error::HttpError)?;
        self.sent(request).await
    }

    async fn delete(&self, path: &str, live: &LiveMeta, policy: &str) -> Result<(), WorkError> {
        let body = json!({
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "propagationPolicy": policy,
            "preconditions": { "uid": live.uid, "resourceVersion": live.resource_version },
        });
        let request = http::Request::delete(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.to_string().into_bytes())
            .map_err(kube::Error::HttpError)?;
        self.sent(request).await
    }

    async fn sent(&self, request: http::Request<Vec<u8>>) -> Result<(), WorkError> {
        match self.client.request_text(request).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            outcome => Ok(outcome.map(|_| ())?),
        }
    }
}

fn unmapped(place: &Place) -> WorkError {
    WorkError {
        error: format!("no resource is served for {} {}", place.api_version, place.kind),
        expected: true,
    }
}
