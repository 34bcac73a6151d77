//! Config maps and secrets that pods on this node refer to: one watch per object, as the Node authorizer allows.
//!
//! A watch starts with the first reference and ends with the last. Every change is told to `changed`, so that volumes
//! follow. Nothing is ever listed that no pod names.

use crate::limits;
use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::runtime::watcher;
use kube::{Api, Resource};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// How long a first answer may take before the reference counts as failed for now.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// Why an object cannot be used now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    NotFound,
    /// The API server did not answer, or refused.
    Failed(String),
}

#[derive(Clone)]
enum Known<K> {
    Loading,
    Present(Arc<K>),
    Absent,
    Failed(String),
}

struct Entry<K> {
    state: watch::Receiver<Known<K>>,
    users: HashSet<String>,
    task: AbortHandle,
}

/// Called with the uids of the pods that refer to a changed object.
pub type Changed = Arc<dyn Fn(&HashSet<String>) + Send + Sync>;

type Entries<K> = Arc<Mutex<HashMap<(String, String), Entry<K>>>>;

/// The watched objects of one kind.
pub struct Watched<K> {
    client: kube::Client,
    /// Guards the table of watches; held for look-ups only.
    entries: Entries<K>,
    changed: Changed,
}

/// Both kinds.
pub struct Objects {
    pub config_maps: Watched<ConfigMap>,
    pub secrets: Watched<Secret>,
}

impl Objects {
    pub fn new(client: kube::Client, changed: Changed) -> Self {
        Objects {
            config_maps: Watched::new(client.clone(), changed.clone()),
            secrets: Watched::new(client, changed),
        }
    }

    /// Ends the watches only this pod needed.
    pub fn release(&self, pod_uid: &str) {
        self.config_maps.release(pod_uid);
        self.secrets.release(pod_uid);
    }
}

impl<K> Watched<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    fn new(client: kube::Client, changed: Changed) -> Self {
        Watched {
            client,
            entries: Arc::default(),
            changed,
        }
    }

    /// The object as the API server has it, on behalf of a pod.
    pub async fn get(&self, pod_uid: &str, namespace: &str, name: &str) -> Result<Arc<K>, Missing> {
        let mut state = self.follow(pod_uid, namespace, name)?;
        let settled = state.wait_for(|known| !matches!(known, Known::Loading));
        match tokio::time::timeout(FIRST_ANSWER, settled).await {
            Ok(Ok(known)) => match &*known {
                Known::Present(object) => Ok(object.clone()),
                Known::Failed(why) => Err(Missing::Failed(why.clone())),
                _ => Err(Missing::NotFound),
            },
            _ => Err(Missing::Failed(
                "failed to sync cache: timed out waiting for the condition".into(),
            )),
        }
    }

    fn follow(
        &self,
        pod_uid: &str,
        namespace: &str,
        name: &str,
    ) -> Result<watch::Receiver<Known<K>>, Missing> {
        let mut entries = self.entries.lock();
        let key = (namespace.to_owned(), name.to_owned());
        if !entries.contains_key(&key) && entries.len() >= limits::WATCHED_OBJECTS_MAX {
            return Err(Missing::Failed(
                "too many config maps and secrets are in use on this node".into(),
            ));
        }
        let entry = entries.entry(key.clone()).or_insert_with(|| {
            let (sender, state) = watch::channel(Known::Loading);
            let api = Api::<K>::namespaced(self.client.clone(), namespace);
            let task = tokio::spawn(feed(api, key, sender, self.entries.clone(), self.changed.clone()))
                .abort_handle();
            Entry {
                state,
                users: HashSet::new(),
                task,
            }
        });
        entry.users.insert(pod_uid.to_owned());
        Ok(entry.state.clone())
    }

    fn release(&self, pod_uid: &str) {
        self.entries.lock().retain(|_, entry| {
            entry.users.remove(pod_uid);
            if entry.users.is_empty() {
                entry.task.abort();
            }
            !entry.users.is_empty()
        });
    }
}

async fn feed<K>(
    api: Api<K>,
    key: (String, String),
    sender: watch::Sender<Known<K>>,
    entries: Entries<K>,
    changed: Changed,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={}", key.1));
    let mut stream = std::pin::pin!(watcher::watcher(api, config));
    let mut listed = None;
    let mut pause = Duration::from_millis(200);
    while let Some(next) = stream.next().await {
        let known = match next {
            Ok(watcher::Event::Init) => {
                listed = None;
                continue;
            }
            Ok(watcher::Event::InitApply(object)) => {
                listed = Some(object);
                continue;
            }
            Ok(watcher::Event::InitDone) => listed
                .take()
                .map_or(Known::Absent, |o| Known::Present(Arc::new(o))),
            Ok(watcher::Event::Apply(object)) => Known::Present(Arc::new(object)),
            Ok(watcher::Event::Delete(_)) => Known::Absent,
            Err(error) => {
                // A lost watch resumes by itself; only a reference that never had an answer fails.
                if !matches!(*sender.borrow(), Known::Present(_)) {
                    sender.send_replace(Known::Failed(keelson_base::error::chain(&error)));
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(30));
                continue;
            }
        };
        pause = Duration::from_millis(200);
        let first = matches!(*sender.borrow(), Known::Loading);
        sender.send_replace(known);
        if !first {
            let users = entries
                .lock()
                .get(&key)
                .map(|e| e.users.clone())
                .unwrap_or_default();
            changed(&users);
        }
    }
}
