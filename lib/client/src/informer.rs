//! One shared cache per kind and process, fed by one watch.
//!
//! Handlers run in the informer's task, in order, after the cache shows the change; they must be short (enqueue a
//! key). Those who want to work at their own pace take a [`Subscription`]. managedFields are dropped before storing:
//! nobody here reads them, and they are often a third of an object. Watches resume after a lost connection; after
//! "410 Gone" the list is compared with the cache, so that handlers see differences only.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use futures::StreamExt;
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use parking_lot::{Mutex, RwLock};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::limits;
use crate::store::{Event, IndexFn, Key, Store};
use crate::subscription::{Shared as Queue, Subscription};
use crate::watch_failures::WatchFailures;

/// What an informer can hold: any k8s-openapi kind.
pub trait Object:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}
impl<K> Object for K where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

/// How far a cache is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The first list is in the cache.
    pub synced: bool,
    /// Highest resourceVersion of an object seen.
    pub resource_version: u64,
    /// Lists begun and finished; a list shows all writes acknowledged before it began.
    pub lists_started: u64,
    /// See `lists_started`.
    pub lists_done: u64,
}

type Handler<K> = Box<dyn Fn(&Event<K>) + Send + Sync>;

struct Inner<K> {
    /// Guards contents; never held while handlers run. Taken after `handlers` where both are.
    store: RwLock<Store<K>>,
    /// Guards the handlers, and makes applying a change and telling of it one step for those who join.
    handlers: Mutex<Vec<Handler<K>>>,
    progress: watch::Sender<Progress>,
    trim: fn(&mut K),
}

/// A cache of one kind; clones share it.
pub struct Informer<K> {
    inner: Arc<Inner<K>>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

/// Starts an informer of its own, for a filtered list or a namespace; whole kinds come from [`Informers`].
pub fn informer<K: Object>(api: Api<K>, config: watcher::Config) -> Informer<K> {
    informer_trimmed(api, config, |_| {})
}

/// As [`informer`]; `trim` drops from each object what its users never read.
pub fn informer_trimmed<K: Object>(api: Api<K>, config: watcher::Config, trim: fn(&mut K)) -> Informer<K> {
    let informer = Informer::detached(trim);
    let config = match config.page_size {
        Some(_) => config,
        None => config.page_size(limits::LIST_PAGE_SIZE),
    };
    tokio::spawn(feed(informer.clone(), api, config));
    informer
}

impl<K: Object> Informer<K> {
    fn detached(trim: fn(&mut K)) -> Self {
        Self {
            inner: Arc::new(Inner {
                store: RwLock::new(Store::default()),
                handlers: Mutex::new(Vec::new()),
                progress: watch::Sender::new(Progress::default()),
                trim,
            }),
        }
    }

    /// One object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.inner.store.read().get(&Key::new(namespace, name))
    }

    /// One object by key.
    pub fn get_key(&self, key: &Key) -> Option<Arc<K>> {
        self.inner.store.read().get(key)
    }

    /// All objects, ordered by namespace and name.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.inner.store.read().list()
    }

    /// The objects of a namespace, ordered by name.
    pub fn list_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.inner.store.read().list_namespace(namespace)
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.inner.store.read().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The objects for which the index function gave `value`; empty for an unknown index.
    pub fn by_index(&self, index: &str, value: &str) -> Vec<Arc<K>> {
        self.inner.store.read().by_index(index, value)
    }

    /// Adds an index, at any time; a name that exists keeps its first function.
    pub fn add_index(&self, name: &'static str, values: IndexFn<K>) {
        self.inner.store.write().add_index(name, values);
    }

    /// Calls `handler` for everything there is (`Added`) and then for each change, in order.
    pub fn on(&self, handler: impl Fn(&Event<K>) + Send + Sync + 'static) {
        let mut handlers = self.inner.handlers.lock();
        for object in self.list() {
            handler(&Event::Added(object));
        }
        handlers.push(Box::new(handler));
    }

    /// Changes to be taken one by one; see [`Subscription`].
    pub fn subscribe(&self) -> Subscription<K> {
        let shared = Arc::new(Queue {
            pending: Mutex::default(),
            ready: tokio::sync::Notify::new(),
        });
        let queue = Arc::downgrade(&shared);
        self.on(move |event| {
            if let Some(queue) = queue.upgrade() {
                queue.pending.lock().push(event.clone());
                queue.ready.notify_one();
            }
        });
        Subscription { shared }
    }

    /// Whether the first list is in the cache.
    pub fn has_synced(&self) -> bool {
        self.inner.progress.borrow().synced
    }

    /// Waits until the first list is in the cache.
    pub async fn synced(&self) {
        let mut progress = self.inner.progress.subscribe();
        // The sender lives in self.
        let _ = progress.wait_for(|p| p.synced).await;
    }

    fn handle(&self, event: watcher::Event<K>) {
        let inner = &self.inner;
        let handlers = inner.handlers.lock();
        let mut progress = *inner.progress.borrow();
        let events: Vec<Event<K>> = match event {
            watcher::Event::Init => {
                progress.lists_started += 1;
                inner.store.write().list_start();
                Vec::new()
            }
            watcher::Event::InitApply(object) => {
                let object = self.prepare(object, &mut progress);
                inner.store.write().list_item(object);
                Vec::new()
            }
            watcher::Event::InitDone => {
                progress.lists_done = progress.lists_started;
                progress.synced = true;
                inner.store.write().list_done()
            }
            watcher::Event::Apply(object) => {
                let object = self.prepare(object, &mut progress);
                inner.store.write().apply(object).into_iter().collect()
            }
            watcher::Event::Delete(object) => {
                let object = self.prepare(object, &mut progress);
                inner.store.write().delete(object).into_iter().collect()
            }
        };
        for event in &events {
            handlers.iter().for_each(|handler| handler(event));
        }
        inner.progress.send_if_modified(|p| {
            let changed = *p != progress;
            *p = progress;
            changed
        });
    }

    fn prepare(&self, mut object: K, progress: &mut Progress) -> Arc<K> {
        object.meta_mut().managed_fields = None;
        (self.inner.trim)(&mut object);
        let version = object.meta().resource_version.as_deref();
        let version = version.and_then(|v| v.parse().ok()).unwrap_or(0);
        progress.resource_version = progress.resource_version.max(version);
        Arc::new(object)
    }
}

async fn feed<K: Object>(informer: Informer<K>, api: Api<K>, config: watcher::Config) {
    let mut stream = std::pin::pin!(watcher::watcher(api, config));
    let mut failures = WatchFailures::new(K::kind(&()));
    while let Some(next) = stream.next().await {
        match next {
            Ok(event) => {
                if !matches!(event, watcher::Event::Init) {
                    failures.succeeded();
                }
                informer.handle(event);
            }
            Err(error) => failures.failed(&error).await,
        }
    }
}

/// A cache of any kind, for waiting until it shows a write.
pub trait Cache: Send + Sync {
    /// How far the cache is now.
    fn progress(&self) -> Progress;
    /// Follows the cache.
    fn follow(&self) -> watch::Receiver<Progress>;
    /// Whether the cache holds this very object, not yet marked for deletion.
    fn holds(&self, key: &Key, uid: &str) -> bool;
}

impl<K: Object> Cache for Informer<K> {
    fn progress(&self) -> Progress {
        *self.inner.progress.borrow()
    }

    fn follow(&self) -> watch::Receiver<Progress> {
        self.inner.progress.subscribe()
    }

    fn holds(&self, key: &Key, uid: &str) -> bool {
        self.get_key(key).is_some_and(|object| {
            let meta = object.meta();
            meta.uid.as_deref() == Some(uid) && meta.deletion_timestamp.is_none()
        })
    }
}

struct Entry {
    informer: Box<dyn Any + Send + Sync>,
    cache: Arc<dyn Cache>,
    group: String,
    kind: String,
}

/// The informers of a process: asking twice for a kind gives the same cache and one watch.
#[derive(Clone)]
pub struct Informers {
    client: Client,
    entries: Arc<Mutex<HashMap<TypeId, Entry>>>,
}

impl Informers {
    /// None yet; each starts when first asked for.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            entries: Arc::default(),
        }
    }

    /// The client the watches run on.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The cache of all objects of a kind.
    pub fn get<K: Object>(&self) -> Informer<K> {
        self.get_trimmed(|_| {})
    }

    /// As `get`; `trim` counts only for the first who asks.
    pub fn get_trimmed<K: Object>(&self, trim: fn(&mut K)) -> Informer<K> {
        let mut entries = self.entries.lock();
        let entry = entries.entry(TypeId::of::<K>()).or_insert_with(|| {
            let api = Api::all(self.client.clone());
            let informer = informer_trimmed::<K>(api, watcher::Config::default(), trim);
            Entry {
                informer: Box::new(informer.clone()),
                cache: Arc::new(informer),
                group: K::group(&()).into_owned(),
                kind: K::kind(&()).into_owned(),
            }
        });
        entry
            .informer
            .downcast_ref::<Informer<K>>()
            .expect("entries are stored under their own type")
            .clone()
    }

    /// The cache of a kind by name, if one was started.
    pub fn cache(&self, group: &str, kind: &str) -> Option<Arc<dyn Cache>> {
        let entries = self.entries.lock();
        let mut all = entries.values();
        all.find(|e| e.group == group && e.kind == kind)
            .map(|e| e.cache.clone())
    }

    /// Waits until every cache asked for so far holds its first list.
    pub async fn synced(&self) {
        let following: Vec<_> = self.entries.lock().values().map(|e| e.cache.follow()).collect();
        for mut progress in following {
            // Informers live as long as the registry that holds them.
            let _ = progress.wait_for(|p| p.synced).await;
        }
    }

    /// Kinds whose first list is missing, for a health check's message.
    pub fn unsynced(&self) -> Vec<String> {
        let entries = self.entries.lock();
        let missing = entries.values().filter(|e| !e.cache.progress().synced);
        missing.map(|e| e.kind.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    fn object(name: &str, version: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.name = Some(name.into());
        object.metadata.resource_version = Some(version.into());
        object.metadata.uid = Some(format!("uid-{name}"));
        object.metadata.managed_fields = Some(vec![]);
        object
    }

    #[test]
    fn handlers_see_what_is_there_and_what_follows() {
        let informer = Informer::<ConfigMap>::detached(|_| {});
        informer.handle(watcher::Event::Init);
        informer.handle(watcher::Event::InitApply(object("a", "5")));
        assert!(informer.list().is_empty(), "a list shows only when whole");
        informer.handle(watcher::Event::InitDone);
        assert!(informer.has_synced());
        let mut subscription = informer.subscribe();
        informer.handle(watcher::Event::Apply(object("b", "7")));
        let names: Vec<String> = std::iter::from_fn(|| subscription.try_recv())
            .map(|event| event.object().metadata.name.clone().unwrap())
            .collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(informer.progress().resource_version, 7);
        assert!(informer.get("", "a").unwrap().metadata.managed_fields.is_none());
        assert!(informer.holds(&Key::new("", "b"), "uid-b"));
        assert!(!informer.holds(&Key::new("", "b"), "uid-x"));
    }
}
