//! Makes sure a container's image is on the node, by its pull policy, with back-off per pod and image.
//!
//! Pulls of one image by several pods share one transfer in the runtime; here only their number is bounded.

use super::{credentials, name};
use crate::cri::{self, Cri};
use crate::limits;
use crate::plan::backoff::{self, Backoff};
use crate::pod;
use crate::runtime::security::ImageUser;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Secret};
use keelson_client::EventType;
use keelson_proto::cri::v1::{Image, PodSandboxConfig};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Instant;
use tokio::sync::Semaphore;

/// An image on the node.
#[derive(Clone, Debug, Default)]
pub struct Ensured {
    /// What the runtime calls it.
    pub id: String,
    pub user: ImageUser,
}

/// Why a container cannot start for its image: the reason in its waiting state and the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageError {
    pub reason: &'static str,
    pub message: String,
    /// When it may be tried again; none: only after the spec changed.
    pub retry_at: Option<Timestamp>,
}

/// Tells of an event about the container.
pub type Tell<'a> = &'a (dyn Fn(EventType, &str, String) + Send + Sync);

/// The node's images.
pub struct Images {
    cri: Cri,
    pulls: Semaphore,
    /// By pod uid and image; guards bookkeeping only.
    backoffs: Mutex<HashMap<(String, String), Failure>>,
}

#[derive(Clone)]
struct Failure {
    backoff: Backoff,
    last: String,
}

impl Images {
    pub fn new(cri: Cri) -> Self {
        Images {
            cri,
            pulls: Semaphore::new(limits::IMAGE_PULLS_MAX),
            backoffs: Mutex::default(),
        }
    }

    /// The image of `container`, pulled when policy and presence ask for it.
    pub async fn ensure(
        &self,
        pod: &Pod,
        container: &Container,
        secrets: &[Secret],
        sandbox: &PodSandboxConfig,
        tell: Tell<'_>,
    ) -> Result<Ensured, ImageError> {
        let wanted = container.image.as_deref().unwrap_or_default();
        let image = name::with_default_tag(wanted).map_err(|why| {
            let message = format!("Failed to apply default image tag \"{wanted}\": {why}");
            tell(EventType::Warning, "InspectFailed", message.clone());
            ImageError {
                reason: "InvalidImageName",
                message,
                retry_at: None,
            }
        })?;
        let present = self.cri.image_status(&image).await.map_err(|status| {
            let message = format!("Failed to inspect image \"{image}\": {}", cri::describe(&status));
            tell(EventType::Warning, "InspectFailed", message.clone());
            ImageError {
                reason: "ImageInspectError",
                message,
                retry_at: Some(in_seconds(10)),
            }
        })?;
        let policy = container.image_pull_policy.as_deref().unwrap_or("IfNotPresent");
        match (policy, present) {
            ("IfNotPresent" | "Never", Some(image)) => {
                let message = format!(
                    "Container image \"{wanted}\" already present on machine and can be accessed by the pod"
                );
                tell(EventType::Normal, "Pulled", message);
                Ok(ensured(&image))
            }
            ("Never", None) => {
                let message =
                    format!("Container image \"{wanted}\" is not present with pull policy of Never");
                tell(EventType::Warning, "ErrImageNeverPull", message.clone());
                Err(ImageError {
                    reason: "ErrImageNeverPull",
                    message,
                    retry_at: Some(in_seconds(10)),
                })
            }
            _ => self.pull(pod, wanted, &image, secrets, sandbox, tell).await,
        }
    }

    /// Forgets the back-offs of a pod.
    pub fn forget(&self, pod_uid: &str) {
        self.backoffs.lock().retain(|(uid, _), _| uid != pod_uid);
    }

    async fn pull(
        &self,
        pod: &Pod,
        wanted: &str,
        image: &str,
        secrets: &[Secret],
        sandbox: &PodSandboxConfig,
        tell: Tell<'_>,
    ) -> Result<Ensured, ImageError> {
        let key = (pod::uid(pod).to_owned(), wanted.to_owned());
        let failure = self.backoffs.lock().get(&key).cloned();
        if let Some(failure) = &failure {
            let updated = failure.backoff.updated;
            if let Some(left) = backoff::remaining(
                Some(&failure.backoff),
                updated,
                Timestamp::now(),
                backoff::DEFAULT,
            ) {
                tell(
                    EventType::Normal,
                    "BackOff",
                    format!("Back-off pulling image \"{wanted}\""),
                );
                return Err(ImageError {
                    reason: "ImagePullBackOff",
                    message: format!(
                        "Back-off pulling image \"{wanted}\": ErrImagePull: {}",
                        failure.last
                    ),
                    retry_at: Timestamp::now().checked_add(left).ok(),
                });
            }
        }
        tell(
            EventType::Normal,
            "Pulling",
            format!("Pulling image \"{wanted}\""),
        );
        let asked = Instant::now();
        // The semaphore is never closed.
        let _permit = self.pulls.acquire().await;
        let started = Instant::now();
        match self.pull_with_any(image, secrets, sandbox).await {
            Ok(found) => {
                self.backoffs.lock().remove(&key);
                let message = format!(
                    "Successfully pulled image \"{wanted}\" in {} ({} including waiting). Image size: {} bytes.",
                    pod::go_duration_ms(started.elapsed().as_millis()),
                    pod::go_duration_ms(asked.elapsed().as_millis()),
                    found.size
                );
                tell(EventType::Normal, "Pulled", message);
                Ok(ensured(&found))
            }
            Err(why) => {
                tell(
                    EventType::Warning,
                    "Failed",
                    format!("Failed to pull image \"{wanted}\": {why}"),
                );
                let now = Timestamp::now();
                let next = backoff::next(failure.as_ref().map(|f| &f.backoff), now, now, backoff::DEFAULT);
                self.backoffs.lock().insert(
                    key,
                    Failure {
                        backoff: next,
                        last: why.clone(),
                    },
                );
                // Tried again soon only to show ImagePullBackOff; the back-off holds the pull itself.
                Err(ImageError {
                    reason: "ErrImagePull",
                    message: why,
                    retry_at: Some(in_seconds(2)),
                })
            }
        }
    }

    /// Pulls with each fitting credential in turn, or without any.
    async fn pull_with_any(
        &self,
        image: &str,
        secrets: &[Secret],
        sandbox: &PodSandboxConfig,
    ) -> Result<Image, String> {
        let found = credentials::matching(name::registry(image), secrets);
        let mut auths: Vec<_> = found.into_iter().map(Some).collect();
        if auths.is_empty() {
            auths.push(None);
        }
        let mut last = String::new();
        for auth in auths {
            match self.cri.pull_image(image, auth, Some(sandbox.clone())).await {
                Ok(reference) => {
                    let status = self
                        .cri
                        .image_status(&reference)
                        .await
                        .map_err(|s| cri::describe(&s))?;
                    return status.ok_or_else(|| format!("image \"{image}\" vanished after it was pulled"));
                }
                Err(status) => last = cri::describe(&status),
            }
        }
        Err(last)
    }
}

fn ensured(image: &Image) -> Ensured {
    Ensured {
        id: image.id.clone(),
        user: ImageUser {
            uid: image.uid.as_ref().map(|u| u.value),
            username: image.username.clone(),
        },
    }
}

fn in_seconds(seconds: i64) -> Timestamp {
    let now = Timestamp::now();
    now.checked_add(jiff::SignedDuration::from_secs(seconds))
        .unwrap_or(now)
}
