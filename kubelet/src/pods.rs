//! The workers of all pods of the node: made, fed, and cleaned up after.
//!
//! Feeds come from the pod watch, from the runtime's news and from watched config maps and secrets. On start every
//! worker reads what an earlier kubelet left, so nothing is created twice.

use crate::admission::{self, NodeView};
use crate::host::Host;
use crate::pod;
use crate::runtime_events::News;
use crate::static_pods;
use crate::worker::{Mailbox, Worker};
use k8s_openapi::api::core::v1::Pod;
use keelson_client::EventType;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

struct Handle {
    mailbox: Arc<Mailbox>,
    rejected: bool,
}

/// All pods of this node by uid.
pub struct Pods {
    host: Arc<Host>,
    /// Guards the table; held for look-ups and the admission of one pod.
    workers: Mutex<HashMap<String, Handle>>,
    /// Pods the runtime had something of when the kubelet started.
    adopted: HashSet<String>,
}

impl Pods {
    pub fn new(host: Arc<Host>, found: &HashMap<String, Vec<(String, i32)>>) -> Arc<Self> {
        Arc::new(Pods {
            host,
            workers: Mutex::default(),
            adopted: found.keys().cloned().collect(),
        })
    }

    /// A pod was added or changed.
    pub fn put(self: &Arc<Self>, pod: &Arc<Pod>) {
        if pod::is_mirror(pod) {
            return self.put_mirror(pod);
        }
        let uid = pod::uid(pod).to_owned();
        let mut workers = self.workers.lock();
        if let Some(handle) = workers.get(&uid) {
            handle.mailbox.put_pod(pod.clone());
            return;
        }
        let rejected = self.admit(pod, &workers);
        let mailbox = Arc::new(Mailbox::new(pod.clone()));
        workers.insert(
            uid.clone(),
            Handle {
                mailbox: mailbox.clone(),
                rejected: rejected.is_some(),
            },
        );
        drop(workers);
        let fresh =
            !self.adopted.contains(&uid) && pod.status.as_ref().is_none_or(|s| s.start_time.is_none());
        let worker = Worker::new(self.host.clone(), mailbox, rejected, fresh);
        let pods = self.clone();
        tokio::spawn(async move {
            worker.run().await;
            pods.workers.lock().remove(&uid);
            crate::garbage::remove_pod(&pods.host, &uid).await;
        });
    }

    /// The mirror of a static pod came or changed. One that is being deleted is let go: a new one follows.
    fn put_mirror(&self, mirror: &Pod) {
        let Some(pod) = self.mirrored(mirror) else { return };
        if pod::deletion_time(mirror).is_some() {
            self.host.sender.set_mirror(&pod, None);
            let host = self.host.clone();
            tokio::spawn(async move { static_pods::delete_mirror(&host, &pod).await });
            return;
        }
        let status = mirror.status.clone().unwrap_or_default();
        self.host
            .sender
            .set_mirror(&pod, Some((pod::uid(mirror).to_owned(), status)));
    }

    fn runs_on(&self, uid: &str) -> bool {
        self.workers.lock().get(uid).is_some_and(|h| !h.mailbox.is_gone())
    }

    /// The static pod a mirror stands for: the mirror's annotation holds its uid.
    fn mirrored(&self, mirror: &Pod) -> Option<Arc<Pod>> {
        let uid = pod::annotation(mirror, pod::CONFIG_MIRROR)?;
        self.workers.lock().get(uid).map(|h| h.mailbox.pod())
    }

    /// A pod's object is gone.
    pub fn gone(&self, pod: &Pod) {
        if pod::is_mirror(pod) {
            if let Some(pod) = self.mirrored(pod) {
                self.host.sender.set_mirror(&pod, None);
                let (host, stays) = (self.host.clone(), self.runs_on(pod::uid(&pod)));
                if stays {
                    tokio::spawn(async move { static_pods::ensure_mirror(&host, &pod).await });
                }
            }
            return;
        }
        if let Some(handle) = self.workers.lock().get(pod::uid(pod)) {
            handle.mailbox.put_gone(pod);
        }
    }

    /// News of the runtime.
    pub fn hear(&self, news: News) {
        match news {
            News::Changed { pod_uid, id } => self.tell(&pod_uid, |mailbox| mailbox.put_dirty(&id)),
            News::Listed(all) => {
                for (uid, handle) in self.workers.lock().iter() {
                    handle
                        .mailbox
                        .put_listing(all.get(uid).map_or(&[], Vec::as_slice));
                }
            }
        }
    }

    /// Config maps or secrets of these pods changed.
    pub fn volumes_changed(&self, uids: &HashSet<String>) {
        for uid in uids {
            self.tell(uid, Mailbox::put_volumes_changed);
        }
    }

    /// Uids of the pods that have a worker.
    pub fn uids(&self) -> HashSet<String> {
        self.workers.lock().keys().cloned().collect()
    }

    /// All pods, as the API server last told.
    pub fn list(&self) -> Vec<Arc<Pod>> {
        self.workers.lock().values().map(|h| h.mailbox.pod()).collect()
    }

    fn tell(&self, uid: &str, what: impl FnOnce(&Mailbox)) {
        if let Some(handle) = self.workers.lock().get(uid) {
            what(&handle.mailbox);
        }
    }

    /// Checks a pod that was not running here before.
    fn admit(&self, pod: &Pod, workers: &HashMap<String, Handle>) -> Option<(String, String)> {
        let settled = pod::is_terminal_phase(pod::phase(pod)) || pod::deletion_time(pod).is_some();
        if settled || self.adopted.contains(pod::uid(pod)) {
            return None;
        }
        let others: Vec<Arc<Pod>> = workers
            .values()
            .filter(|h| !h.rejected)
            .map(|h| h.mailbox.pod())
            .filter(|p| !pod::is_terminal_phase(pod::phase(p)))
            .collect();
        let node = self.host.node.get("", &self.host.settings.node_name);
        let empty = std::collections::BTreeMap::new();
        let view = NodeView {
            labels: node
                .as_ref()
                .and_then(|n| n.metadata.labels.as_ref())
                .unwrap_or(&empty),
            allocatable: &self.host.settings.allocatable,
            max_pods: self.host.settings.max_pods,
        };
        let refs: Vec<&Pod> = others.iter().map(Arc::as_ref).collect();
        let refusal = admission::check(pod, &refs, &view).err()?;
        self.host
            .pod_event(pod, EventType::Warning, &refusal.reason, refusal.message.clone());
        Some((refusal.reason, format!("Pod was rejected: {}", refusal.message)))
    }
}
