//! Fills the caches: one read of everything, then one watch of everything.
//!
//! What is read is the state of some changes ago, and the watch begins there. So a server that has just started knows
//! those changes too, and a client that saw one of them from the server before goes on from it instead of listing anew.
//!
//! The thin driver below the caches: it moves bytes between the store's stream and `ResourceCache::apply`, in order, and
//! says how far it has come. A broken stream is taken up where it ended; only a compacted one makes it read anew.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use keelson_base::Shutdown;
use keelson_proto::etcd::etcdserverpb as pb;
use keelson_proto::etcd::mvccpb::{KeyValue, event::EventType};
use pb::watch_request::RequestUnion;
use tokio::sync::{mpsc, watch};

use super::entry::Entry;
use super::progress::Progress;
use super::resource::{Change, ResourceCache};
use crate::limits::{HISTORY_REVISIONS, STORE_PAGE};
use crate::storage::keys::range_end;
use crate::storage::{Etcd, StoreError, compact};

/// Makes entries of one resource out of stored bytes.
pub trait Decode: Send + Sync {
    /// `None`: unreadable, logged by the implementation, and left out.
    fn entry(&self, key: &str, value: &[u8], revision: i64) -> Option<Entry>;
}

/// Where the changes of a resource go.
#[derive(Clone)]
pub struct Route {
    pub cache: Arc<ResourceCache>,
    pub decode: Arc<dyn Decode>,
}

/// Reads and watches everything below one prefix.
pub struct Feed {
    store: Etcd,
    root: String,
    /// By storage prefix without slashes around it: `pods`, `services/specs`.
    routes: HashMap<String, Route>,
    progress: Progress,
    ready: watch::Sender<bool>,
    connected: AtomicBool,
}

impl Feed {
    pub fn new(store: Etcd, root: &str, routes: HashMap<String, Route>, progress: Progress) -> Self {
        Self {
            store,
            root: root.to_owned(),
            routes,
            progress,
            ready: watch::Sender::new(false),
            connected: AtomicBool::new(false),
        }
    }

    /// Whether everything was read once.
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Returns once everything was read once, or after `patience`; whether it was.
    pub async fn wait_ready(&self, patience: Duration) -> bool {
        if self.is_ready() {
            return true;
        }
        let mut ready = self.ready.subscribe();
        matches!(
            tokio::time::timeout(patience, ready.wait_for(|ready| *ready)).await,
            Ok(Ok(_))
        )
    }

    /// Whether the store's watch stream is open.
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Runs until shutdown.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) {
        let mut pause = Duration::from_millis(50);
        loop {
            let cycle = async {
                self.store.probe().await;
                let (from, now) = self.read_all().await?;
                tokio::select! {
                    outcome = self.follow(from) => outcome,
                    never = self.become_ready(now) => match never {},
                }
            };
            let outcome: Result<(), StoreError> = tokio::select! {
                () = shutdown.wait() => return,
                outcome = cycle => outcome,
            };
            if let Err(error) = outcome {
                tracing::warn!(%error, "the caches' feed from the store ended; reading everything anew");
            }
            tokio::select! {
                () = shutdown.wait() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    /// Ready once the caches hold what the store held when they were read; never returns.
    async fn become_ready(&self, revision: i64) -> Infallible {
        self.progress.wait_caught_up(revision).await;
        self.ready.send_replace(true);
        std::future::pending().await
    }

    fn route<'a>(&self, key: &'a str) -> Option<(&Route, &'a str)> {
        let local = key.strip_prefix(&self.root)?;
        let mut slashes = local.match_indices('/').map(|(at, _)| at);
        let first = slashes.next()?;
        if let Some(second) = slashes.next()
            && let Some(route) = self.routes.get(&local[..second])
        {
            return Some((route, &local[second + 1..]));
        }
        Some((self.routes.get(&local[..first])?, &local[first + 1..]))
    }

    /// Reads everything as it was `HISTORY_REVISIONS` ago, or since the last compaction: that revision, and the store's now.
    async fn read_all(&self) -> Result<(i64, i64), StoreError> {
        let (compacted, now) = compact::last(&self.store).await?;
        let from = (now - HISTORY_REVISIONS).max(compacted).max(1);
        match self.read_at(from).await {
            // Somebody compacts without telling.
            Err(StoreError::Compacted) => {
                self.read_at(now).await?;
                Ok((now, now))
            }
            outcome => outcome.map(|()| (from, now)),
        }
    }

    async fn read_at(&self, revision: i64) -> Result<(), StoreError> {
        let end: Bytes = range_end(self.root.as_bytes()).into();
        let mut key = Bytes::copy_from_slice(self.root.as_bytes());
        let mut found: HashMap<&str, Vec<Entry>> = HashMap::new();
        loop {
            let request = pb::RangeRequest {
                key: key.clone(),
                range_end: end.clone(),
                limit: STORE_PAGE,
                revision,
                ..Default::default()
            };
            let page = self.store.range(request).await?;
            let last = page.kvs.last().map(|kv| kv.key.clone());
            for kv in &page.kvs {
                let text = String::from_utf8_lossy(&kv.key);
                let Some((route, local)) = self.route(&text) else {
                    continue;
                };
                let prefix = &text[self.root.len()..text.len() - local.len() - 1];
                if let Some(entry) = route.decode.entry(local, &kv.value, kv.mod_revision)
                    && let Some((prefix, _)) = self.routes.get_key_value(prefix)
                {
                    found.entry(prefix).or_default().push(entry);
                }
            }
            match last {
                Some(last) if page.more => key = [&last[..], &[0]].concat().into(),
                _ => break,
            }
        }
        for (prefix, route) in &self.routes {
            let entries = found.remove(prefix.as_str()).unwrap_or_default();
            route.cache.replace(entries, revision);
        }
        self.progress.restart(revision);
        Ok(())
    }

    /// Follows the store from after `revision`, over as many streams as it takes, until history is lost.
    async fn follow(&self, mut revision: i64) -> Result<(), StoreError> {
        let mut failures = 0_u32;
        loop {
            let before = revision;
            match self.stream(&mut revision).await {
                Err(StoreError::Compacted) => return Err(StoreError::Compacted),
                Ok(()) => tracing::debug!("the store ended the watch stream"),
                Err(error) => tracing::debug!(%error, "the watch stream broke"),
            }
            self.progress.set_stream(None);
            self.connected.store(false, Ordering::Relaxed);
            failures = if revision > before { 0 } else { failures + 1 };
            if failures > 0 {
                if failures.is_multiple_of(50) {
                    tracing::warn!(failures, "the store cannot be watched");
                }
                tokio::time::sleep(Duration::from_millis(20 << failures.min(6))).await;
            }
        }
    }

    async fn stream(&self, revision: &mut i64) -> Result<(), StoreError> {
        let (requests, receiver) = mpsc::channel(8);
        let create = pb::WatchCreateRequest {
            key: Bytes::copy_from_slice(self.root.as_bytes()),
            range_end: range_end(self.root.as_bytes()).into(),
            start_revision: *revision + 1,
            progress_notify: true,
            ..Default::default()
        };
        let create = pb::WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        // The queue is empty and its receiver at hand.
        let _ = requests.try_send(create);
        let (endpoint, mut stream) = self.store.watch(receiver).await?;
        self.progress.set_stream(Some(requests));
        self.connected.store(true, Ordering::Relaxed);
        loop {
            let response = match stream.message().await {
                Ok(Some(response)) => response,
                Ok(None) => return Ok(()),
                Err(status) => {
                    self.store.failed(endpoint);
                    return Err(status.into());
                }
            };
            if response.compact_revision > 0 {
                return Err(StoreError::Compacted);
            }
            if response.canceled {
                tracing::debug!(reason = response.cancel_reason, "the store canceled the watch");
                self.store.failed(endpoint);
                return Ok(());
            }
            let at = response.header.as_ref().map_or(0, |header| header.revision);
            if response.created {
                continue;
            }
            if response.events.is_empty() {
                // A progress notification: everything up to its revision has been sent.
                *revision = at.max(*revision);
            } else {
                *revision = self.apply(response.events).max(*revision);
            }
            self.progress.advance(*revision);
        }
    }

    /// Hands events to their caches, in order, and returns the last one's revision.
    fn apply(&self, events: Vec<keelson_proto::etcd::mvccpb::Event>) -> i64 {
        let mut last = 0;
        let mut pending: Vec<Change> = Vec::new();
        let mut target: Option<Arc<ResourceCache>> = None;
        for event in events {
            let deleted = event.r#type() == EventType::Delete;
            let Some(kv) = event.kv else { continue };
            last = last.max(kv.mod_revision);
            let text = String::from_utf8_lossy(&kv.key);
            let Some((route, local)) = self.route(&text) else {
                continue;
            };
            if target
                .as_ref()
                .is_some_and(|cache| !Arc::ptr_eq(cache, &route.cache))
            {
                flush(target.take(), &mut pending);
            }
            target = Some(route.cache.clone());
            pending.push(change(route, local, &kv, deleted));
        }
        flush(target, &mut pending);
        last
    }
}

fn flush(target: Option<Arc<ResourceCache>>, pending: &mut Vec<Change>) {
    if let Some(cache) = target {
        cache.apply(std::mem::take(pending));
    }
}

fn change(route: &Route, local: &str, kv: &KeyValue, deleted: bool) -> Change {
    let entry = match deleted {
        true => None,
        false => route.decode.entry(local, &kv.value, kv.mod_revision),
    };
    Change {
        key: local.to_owned(),
        revision: kv.mod_revision,
        entry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::endpoints::EndpointOptions;

    #[tokio::test]
    async fn requests_wait_for_full_caches_but_not_for_ever() {
        let store = Etcd::new(&EndpointOptions {
            servers: vec!["http://127.0.0.1:1".to_owned()],
            ca: None,
            cert_key: None,
        })
        .unwrap();
        let progress = Progress::start(store.clone(), "/progress");
        let feed = Arc::new(Feed::new(store, "/registry/", HashMap::new(), progress));
        assert!(!feed.wait_ready(Duration::from_millis(1)).await);
        let waiting = tokio::spawn({
            let feed = feed.clone();
            async move { feed.wait_ready(Duration::from_secs(60)).await }
        });
        feed.ready.send_replace(true);
        assert!(waiting.await.unwrap());
        assert!(feed.wait_ready(Duration::ZERO).await);
    }
}
