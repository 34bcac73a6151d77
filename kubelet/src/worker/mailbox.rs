//! A worker's mailbox: the newest of everything, never a queue.

use crate::pod;
use crate::probes;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::{Notify, watch};

/// What a probe found out about a container instance.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub container_id: String,
    pub probe: probes::Type,
    pub success: bool,
}

/// What a worker takes out.
pub(super) struct Mail {
    pub pod: Arc<Pod>,
    pub dirty: HashSet<String>,
    pub verdicts: Vec<Verdict>,
    pub relist: bool,
    pub refresh_volumes: bool,
}

struct Inbox {
    pod: Arc<Pod>,
    gone: bool,
    dirty: HashSet<String>,
    verdicts: Vec<Verdict>,
    relist: bool,
    refresh_volumes: bool,
}

/// Shared by the worker and everyone who has news for it.
pub struct Mailbox {
    /// Guards the news; held for moves only.
    inbox: Mutex<Inbox>,
    news: Notify,
    /// What the worker knows of the runtime, to be compared with listings.
    fingerprint: Mutex<Vec<(String, i32)>>,
    /// The grace period in seconds once the pod has to go; shorter ones replace longer ones.
    grace_s: watch::Sender<Option<i64>>,
}

impl Mailbox {
    pub fn new(pod: Arc<Pod>) -> Self {
        let grace = pod::deletion_time(&pod).map(|_| pod::grace_period_s(&pod));
        Mailbox {
            inbox: Mutex::new(Inbox {
                pod,
                gone: false,
                dirty: HashSet::new(),
                verdicts: Vec::new(),
                relist: false,
                refresh_volumes: false,
            }),
            news: Notify::new(),
            fingerprint: Mutex::default(),
            grace_s: watch::Sender::new(grace),
        }
    }

    /// The newest spec.
    pub fn pod(&self) -> Arc<Pod> {
        self.inbox.lock().pod.clone()
    }

    /// The API object vanished.
    pub fn is_gone(&self) -> bool {
        self.inbox.lock().gone
    }

    /// A new version of the pod. Its own status coming back wakes nobody.
    pub fn put_pod(&self, pod: Arc<Pod>) {
        if pod::deletion_time(&pod).is_some() {
            self.terminate(pod::grace_period_s(&pod));
        }
        let mut inbox = self.inbox.lock();
        let same = inbox.pod.metadata.generation == pod.metadata.generation
            && inbox.pod.spec == pod.spec
            && inbox.pod.metadata.labels == pod.metadata.labels
            && inbox.pod.metadata.annotations == pod.metadata.annotations
            && inbox.pod.metadata.deletion_timestamp == pod.metadata.deletion_timestamp
            && gates(&inbox.pod) == gates(&pod)
            && !pod::is_terminal_phase(pod::phase(&pod));
        let labelled = inbox.pod.metadata.labels != pod.metadata.labels
            || inbox.pod.metadata.annotations != pod.metadata.annotations;
        inbox.refresh_volumes |= labelled;
        inbox.pod = pod;
        drop(inbox);
        if !same {
            self.news.notify_one();
        }
    }

    /// The API object vanished; `last` is the form it had then.
    pub fn put_gone(&self, last: &Pod) {
        self.inbox.lock().gone = true;
        self.terminate(pod::grace_period_s(last));
        self.news.notify_one();
    }

    /// A container or sandbox of the pod changed its state.
    pub fn put_dirty(&self, id: &str) {
        self.inbox.lock().dirty.insert(id.to_owned());
        self.news.notify_one();
    }

    /// The runtime's whole view has to be read again.
    pub fn put_relist(&self) {
        self.inbox.lock().relist = true;
        self.news.notify_one();
    }

    /// Notes what the worker knows.
    pub(super) fn set_fingerprint(&self, fingerprint: Vec<(String, i32)>) {
        *self.fingerprint.lock() = fingerprint;
    }

    /// Takes a listing of the pod's sandboxes and containers, sorted; the worker looks when it knows something else.
    pub fn put_listing(&self, listing: &[(String, i32)]) {
        if self.fingerprint.lock().as_slice() != listing {
            self.put_relist();
        }
    }

    pub fn put_verdict(&self, verdict: Verdict) {
        self.inbox.lock().verdicts.push(verdict);
        self.news.notify_one();
    }

    /// An object that a volume is made from changed.
    pub fn put_volumes_changed(&self) {
        self.inbox.lock().refresh_volumes = true;
        self.news.notify_one();
    }

    /// Ready once the pod has to go.
    pub(super) async fn termination(&self) {
        let mut grace = self.grace_s.subscribe();
        // The sender lives in self.
        let _ = grace.wait_for(Option::is_some).await;
    }

    /// Follows the grace period.
    pub(super) fn grace(&self) -> watch::Receiver<Option<i64>> {
        self.grace_s.subscribe()
    }

    pub(super) async fn arrived(&self) {
        self.news.notified().await;
    }

    pub(super) fn take(&self) -> Mail {
        let mut inbox = self.inbox.lock();
        Mail {
            pod: inbox.pod.clone(),
            dirty: std::mem::take(&mut inbox.dirty),
            verdicts: std::mem::take(&mut inbox.verdicts),
            relist: std::mem::take(&mut inbox.relist),
            refresh_volumes: std::mem::take(&mut inbox.refresh_volumes),
        }
    }

    fn terminate(&self, grace_s: i64) {
        self.grace_s.send_if_modified(|current| {
            let shorter = current.is_none_or(|old| grace_s < old);
            if shorter {
                *current = Some(grace_s);
            }
            shorter
        });
    }
}

/// Conditions of others, which readiness gates look at.
fn gates(pod: &Pod) -> Vec<(&str, &str)> {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    let wanted = pod::spec(pod).readiness_gates.as_deref().unwrap_or_default();
    conditions
        .iter()
        .filter(|c| wanted.iter().any(|g| g.condition_type == c.type_))
        .map(|c| (c.type_.as_str(), c.status.as_str()))
        .collect()
}
