//! How far the cache has come, and how a read makes sure it has come far enough.
//!
//! A consistent read asks the store for its revision (one question for all readers that wait at the time) and waits
//! until the feed has delivered it. A store whose newest write lies outside our keys would keep it waiting: then the
//! store is asked for a progress notification, or, where it is too old for those, made to write a key of ours.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keelson_machinery::Status;
use keelson_proto::etcd::etcdserverpb as pb;
use parking_lot::Mutex;
use pb::watch_request::RequestUnion;
use tokio::sync::{mpsc, oneshot, watch};

use crate::limits::CACHE_WAIT;
use crate::storage::Etcd;

/// Readers that may wait for one answer of the store.
const READERS_MAX: usize = 16_384;
/// How long the feed may lag before it is assumed that the newest write was none of ours.
const QUIET: Duration = Duration::from_millis(5);
/// How often a server that fills its caches asks the store whether it has been told everything.
const ASK_AGAIN: Duration = Duration::from_millis(20);

type Answer = oneshot::Sender<Result<i64, Status>>;

/// The cache's revision; clones share it.
#[derive(Clone, Debug)]
pub struct Progress {
    store: Etcd,
    reached: Arc<watch::Sender<i64>>,
    readers: mpsc::Sender<Answer>,
    /// The watch stream's request side, while there is one.
    stream: Arc<Mutex<Option<mpsc::Sender<pb::WatchRequest>>>>,
    poke_key: Arc<str>,
}

impl Progress {
    /// Starts the task that asks the store on behalf of all readers; must run inside the runtime.
    pub fn start(store: Etcd, poke_key: &str) -> Self {
        let (readers, queue) = mpsc::channel(READERS_MAX);
        tokio::spawn(ask_for_all(store.clone(), queue));
        Self {
            store,
            reached: Arc::new(watch::Sender::new(0)),
            readers,
            stream: Arc::default(),
            poke_key: poke_key.into(),
        }
    }

    /// The revision up to which every change is in the cache.
    pub fn revision(&self) -> i64 {
        *self.reached.borrow()
    }

    /// Every change up to `revision` is in the cache.
    pub fn advance(&self, revision: i64) {
        self.reached.send_if_modified(|reached| {
            let forward = revision > *reached;
            if forward {
                *reached = revision;
            }
            forward
        });
    }

    /// Everything was read anew at this revision; a store put back from a backup is behind what was reached before.
    pub fn restart(&self, revision: i64) {
        self.reached.send_replace(revision);
    }

    /// Where requests to the watch stream go from now on.
    pub fn set_stream(&self, stream: Option<mpsc::Sender<pb::WatchRequest>>) {
        *self.stream.lock() = stream;
    }

    /// Returns once the cache holds every write acknowledged before the call.
    pub async fn wait_current(&self) -> Result<(), Status> {
        let (answer, revision) = oneshot::channel();
        let gone = || Status::service_unavailable("the API server is shutting down");
        self.readers.send(answer).await.map_err(|_| gone())?;
        let target = revision.await.map_err(|_| gone())??;
        if self.revision() >= target {
            return Ok(());
        }
        if self.reach(target, QUIET).await {
            return Ok(());
        }
        self.provoke().await?;
        if self.reach(target, CACHE_WAIT).await {
            return Ok(());
        }
        Err(too_large(target, self.revision()))
    }

    /// Returns once the cache has this revision, which a client has seen.
    pub async fn wait_for(&self, target: i64) -> Result<(), Status> {
        if self.revision() >= target || self.reach(target, QUIET).await {
            return Ok(());
        }
        self.provoke().await?;
        match self.reach(target, CACHE_WAIT).await {
            true => Ok(()),
            false => Err(too_large(target, self.revision())),
        }
    }

    /// Returns once the cache holds this revision of the store, whose change may be none of ours.
    pub async fn wait_caught_up(&self, revision: i64) {
        while self.revision() < revision && !self.reach(revision, ASK_AGAIN).await {
            // What cannot be asked now is asked again; the feed reports a store that does not answer.
            let _ = self.provoke().await;
        }
    }

    /// After a write of our own: waits for it to come back, not longer than a moment.
    pub async fn wait_own_write(&self, revision: i64) {
        if self.revision() < revision {
            self.reach(revision, CACHE_WAIT).await;
        }
    }

    async fn reach(&self, target: i64, patience: Duration) -> bool {
        let mut reached = self.reached.subscribe();
        matches!(
            tokio::time::timeout(patience, reached.wait_for(|at| *at >= target)).await,
            Ok(Ok(_))
        )
    }

    async fn provoke(&self) -> Result<(), Status> {
        if self.store.has_progress() {
            let stream = self.stream.lock().clone();
            if let Some(stream) = stream {
                let request = pb::WatchRequest {
                    request_union: Some(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})),
                };
                // A full queue holds progress requests already; a closed one is being replaced.
                let _ = stream.try_send(request);
            }
            return Ok(());
        }
        self.store.put(&self.poke_key, Bytes::new(), 0).await?;
        Ok(())
    }
}

fn too_large(target: i64, current: i64) -> Status {
    let mut status = Status::timeout(
        format!("Too large resource version: {target}, current: {current}"),
        1,
    );
    status.details["causes"] =
        serde_json::json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]);
    status
}

/// One question to the store at a time, for everybody who came before it was asked.
async fn ask_for_all(store: Etcd, mut queue: mpsc::Receiver<Answer>) {
    let mut waiting = Vec::new();
    while let Some(first) = queue.recv().await {
        waiting.push(first);
        while let Ok(more) = queue.try_recv() {
            waiting.push(more);
        }
        let answer = store.revision().await.map_err(Status::from);
        for reader in waiting.drain(..) {
            // A reader that went away needs no answer.
            let _ = reader.send(answer.clone());
        }
    }
}
