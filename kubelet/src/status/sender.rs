//! Sends pod statuses: one task per pod while there is something to send, always the latest, never two at once.
//!
//! Holds what the API server last acknowledged, so that a patch carries only differences. After the last status of a
//! deleted pod it removes the object itself, with the uid as precondition.

use super::patch;
use crate::{limits, pod};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

const FIELD_MANAGER: &str = "kubelet";
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// One pod's mail to the API server.
struct Slot {
    namespace: String,
    name: String,
    acknowledged: PodStatus,
    wanted: Option<PodStatus>,
    /// What was wanted last: a new mirror gets it again.
    latest: Option<PodStatus>,
    delete: bool,
    busy: bool,
    /// A static pod is sent under the uid of its mirror, once there is one.
    target: Target,
}

#[derive(Clone, PartialEq, Eq)]
enum Target {
    Own,
    NoMirror,
    Mirror(String),
}

/// Clones share the slots.
#[derive(Clone)]
pub struct StatusSender {
    client: kube::Client,
    /// By pod uid. Guards bookkeeping only; never held across an await.
    slots: Arc<Mutex<HashMap<String, Slot>>>,
    permits: Arc<Semaphore>,
}

enum Step {
    /// Namespace, name, body, the status it leads to.
    Patch(String, String, serde_json::Value, Box<PodStatus>),
    Delete(String, String),
    Idle,
}

impl StatusSender {
    pub fn new(client: kube::Client) -> Self {
        StatusSender {
            client,
            slots: Arc::default(),
            permits: Arc::new(Semaphore::new(limits::STATUS_PATCHES_MAX)),
        }
    }

    /// Makes `status` the one the API server is to have.
    pub fn set(&self, pod: &Pod, status: PodStatus) {
        self.update(pod, |slot| {
            if slot.target != Target::Own {
                slot.latest = Some(status.clone());
            }
            slot.wanted = Some(status);
        });
    }

    /// Removes the object once the last status is sent.
    pub fn delete(&self, pod: &Pod) {
        self.update(pod, |slot| slot.delete = true);
    }

    /// The mirror of a static pod came (its uid and status), or went.
    pub fn set_mirror(&self, pod: &Pod, mirror: Option<(String, PodStatus)>) {
        self.update(pod, |slot| match mirror {
            Some((uid, status)) => {
                if slot.target != Target::Mirror(uid.clone()) {
                    slot.acknowledged = status;
                    slot.target = Target::Mirror(uid);
                    slot.wanted = slot.latest.clone();
                }
            }
            None => slot.target = Target::NoMirror,
        });
    }

    /// Forgets a pod whose object is gone.
    pub fn forget(&self, uid: &str) {
        self.slots.lock().remove(uid);
    }

    fn update(&self, pod: &Pod, change: impl FnOnce(&mut Slot)) {
        let uid = pod::uid(pod).to_owned();
        let mut slots = self.slots.lock();
        let slot = slots.entry(uid.clone()).or_insert_with(|| Slot {
            namespace: pod::namespace(pod).into(),
            name: pod::name(pod).into(),
            acknowledged: pod.status.clone().unwrap_or_default(),
            wanted: None,
            latest: None,
            delete: false,
            busy: false,
            target: if pod::is_static(pod) {
                Target::NoMirror
            } else {
                Target::Own
            },
        });
        change(slot);
        if !slot.busy {
            slot.busy = true;
            tokio::spawn(self.clone().drain(uid));
        }
    }

    /// Sends until nothing is wanted.
    async fn drain(self, uid: String) {
        let mut retry = RETRY_FIRST;
        loop {
            let result = match self.next(&uid) {
                Step::Idle => return,
                Step::Patch(namespace, name, body, status) => {
                    let _permit = self.permits.acquire().await;
                    let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
                    let params = PatchParams {
                        field_manager: Some(FIELD_MANAGER.into()),
                        ..PatchParams::default()
                    };
                    let sent = api.patch_status(&name, &params, &Patch::Strategic(body)).await;
                    sent.map(|answer| self.acknowledge(&uid, *status, answer.status))
                }
                Step::Delete(namespace, name) => {
                    let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
                    let params = DeleteParams {
                        grace_period_seconds: Some(0),
                        preconditions: Some(Preconditions {
                            uid: Some(uid.clone()),
                            resource_version: None,
                        }),
                        ..DeleteParams::default()
                    };
                    api.delete(&name, &params).await.map(|_| self.forget(&uid))
                }
            };
            match result {
                Ok(()) => retry = RETRY_FIRST,
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                    if self.lost_mirror(&uid) {
                        return;
                    }
                    // The object is gone, or another pod has its name.
                    tracing::debug!(%uid, reason = %status.reason, "pod is no longer the API server's");
                    self.forget(&uid);
                    return;
                }
                Err(error) => {
                    tracing::warn!(%uid, error = %keelson_base::error::chain(&error), "pod status not sent; retrying");
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(RETRY_MAX);
                }
            }
        }
    }

    /// A static pod outlives its mirror: its status waits for the next one.
    fn lost_mirror(&self, uid: &str) -> bool {
        let mut slots = self.slots.lock();
        let Some(slot) = slots.get_mut(uid).filter(|s| s.target != Target::Own) else {
            return false;
        };
        slot.target = Target::NoMirror;
        slot.busy = false;
        true
    }

    fn next(&self, uid: &str) -> Step {
        let mut slots = self.slots.lock();
        let Some(slot) = slots.get_mut(uid) else {
            return Step::Idle;
        };
        let uid = match &slot.target {
            Target::Own => uid,
            Target::Mirror(mirror) => mirror,
            Target::NoMirror => {
                slot.busy = false;
                return Step::Idle;
            }
        };
        if let Some(wanted) = &slot.wanted {
            if let Some(body) = patch::render(uid, &slot.acknowledged, wanted) {
                return Step::Patch(
                    slot.namespace.clone(),
                    slot.name.clone(),
                    body,
                    Box::new(wanted.clone()),
                );
            }
            slot.wanted = None;
        }
        if slot.delete {
            return Step::Delete(slot.namespace.clone(), slot.name.clone());
        }
        slot.busy = false;
        Step::Idle
    }

    /// Notes what the server stored. Where it stores another form of a field than was sent, the sent form counts, so
    /// that the same difference is not sent again and again.
    fn acknowledge(&self, uid: &str, sent: PodStatus, stored: Option<PodStatus>) {
        if let Some(slot) = self.slots.lock().get_mut(uid) {
            let same = stored.filter(|stored| patch::render(uid, stored, &sent).is_none());
            slot.acknowledged = same.unwrap_or(sent);
        }
    }
}
