//! Namespace controller: empties a namespace that is being deleted, then lets it go.
//!
//! What there is to delete comes from discovery. Each resource's collection is deleted; what remains (objects with
//! finalizers, pods that still run) is counted, told in the namespace's conditions, and waited for. When nothing
//! remains and all of it is known, the `kubernetes` finalizer is taken off.
//!
//! This is work on the live server, not a plan over caches: only the server knows what remains. The decision on
//! conditions is the pure `conditions`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use keelson_client::{Informer, Key};
use keelson_controller::Queue;
use keelson_controller::runtime::WorkError;
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::Mutex;
use serde::Deserialize;

use crate::context::Context;
use crate::discovery::{self, Found, Resource};
use crate::limits::{DISCOVERY_PERIOD, NAMESPACE_DELETIONS_MAX};

const NAME: &str = "namespace-controller";
const FINALIZER: &str = "kubernetes";

/// Starts the controller.
pub fn start(context: &Context) {
    let namespaces = context.informer::<Namespace>();
    let queue = Queue::default();
    let changed = queue.clone();
    namespaces.on(move |event| {
        let namespace = event.object();
        if namespace.metadata.deletion_timestamp.is_some() {
            changed.add(Key::of(namespace.as_ref()));
        }
    });
    let worker = Arc::new(Worker {
        client: context.client.clone(),
        namespaces,
        discovered: Mutex::new(None),
    });
    let workers = context.config.concurrent.namespace_syncs;
    context.drive(NAME, queue, workers, move |key: Key| {
        let worker = worker.clone();
        async move { worker.process(&key).await }
    });
}

struct Worker {
    client: Client,
    namespaces: Informer<Namespace>,
    /// Discovery as last read.
    discovered: Mutex<Option<(Instant, Arc<Found>)>>,
}

/// What is left of one resource.
#[derive(Debug, Default, PartialEq)]
struct Remains {
    /// Objects by "plural.group".
    objects: BTreeMap<String, usize>,
    /// How many of them each finalizer holds.
    finalizers: BTreeMap<String, usize>,
    /// Longest grace period still running, in seconds.
    grace_s: i64,
    /// Deletions or lists that failed.
    failures: Vec<String>,
    /// Group versions that cannot be discovered.
    undiscovered: Vec<String>,
}

#[derive(Deserialize)]
struct Partials {
    #[serde(default)]
    items: Vec<Partial>,
}

#[derive(Deserialize)]
struct Partial {
    #[serde(default)]
    metadata: PartialMeta,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PartialMeta {
    finalizers: Vec<String>,
    deletion_grace_period_seconds: Option<i64>,
}

impl Worker {
    async fn process(&self, key: &Key) -> Result<Option<Duration>, WorkError> {
        let Some(namespace) = self.namespaces.get_key(key) else {
            return Ok(None);
        };
        let api: Api<Namespace> = Api::all(self.client.clone());
        // The cache may be behind: nobody's content is deleted on an old view.
        let Some(live) = api.get_opt(&key.name).await? else {
            return Ok(None);
        };
        if live.metadata.deletion_timestamp.is_none() || live.metadata.uid != namespace.metadata.uid {
            return Ok(None);
        }
        let finalizers = live.spec.as_ref().and_then(|spec| spec.finalizers.clone());
        if !finalizers.iter().flatten().any(|f| f == FINALIZER) {
            return Ok(None);
        }
        let live = terminating(&api, live).await?;
        let remains = self.delete_content(&key.name).await;
        let live = self.record(&api, live, &remains).await?;
        if remains.failures.is_empty() && remains.undiscovered.is_empty() && remains.objects.is_empty() {
            return self.finalize(live).await.map(|()| None);
        }
        if !remains.failures.is_empty() || !remains.undiscovered.is_empty() {
            return Err(WorkError {
                error: format!("content not deleted: {}", remains.failures.join("; ")),
                expected: false,
            });
        }
        // Upstream waits half the grace period and a second; we look sooner, since pods usually end sooner.
        Ok(Some(Duration::from_millis(if remains.grace_s > 0 {
            500
        } else {
            250
        })))
    }

    async fn discovered(&self) -> Result<Arc<Found>, kube::Error> {
        let cached = self.discovered.lock().clone();
        if let Some((at, found)) = cached
            && at.elapsed() < DISCOVERY_PERIOD
        {
            return Ok(found);
        }
        let found = Arc::new(discovery::fetch(&self.client).await?);
        *self.discovered.lock() = Some((Instant::now(), found.clone()));
        Ok(found)
    }

    /// Deletes all there is, and counts what remains.
    async fn delete_content(&self, namespace: &str) -> Remains {
        let mut remains = Remains::default();
        let found = match self.discovered().await {
            Ok(found) => found,
            Err(error) => {
                remains.undiscovered.push(keelson_base::error::chain(&error));
                return remains;
            }
        };
        remains.undiscovered.clone_from(&found.failed);
        let deletable = |r: &&Resource| {
            r.namespaced
                && r.can(&["delete", "list"])
                && !(r.group == "events.k8s.io" && r.plural == "events")
        };
        // Pods first, as upstream since 1.33: what they use is still there while they end.
        let (pods, others): (Vec<_>, Vec<_>) = found
            .resources
            .iter()
            .filter(deletable)
            .partition(|r| r.group.is_empty() && r.plural == "pods");
        for phase in [pods, others] {
            let mut deletions = Vec::with_capacity(phase.len());
            for resource in phase {
                deletions.push(self.delete_collection(resource, namespace));
            }
            let done: Vec<_> = futures::stream::iter(deletions)
                .buffer_unordered(NAMESPACE_DELETIONS_MAX)
                .collect()
                .await;
            for (name, outcome) in done {
                match outcome {
                    Ok(left) => remains.add(name, &left),
                    Err(error) => remains
                        .failures
                        .push(format!("{name}: {}", keelson_base::error::chain(&error))),
                }
            }
            if !remains.objects.is_empty() {
                break;
            }
        }
        remains
    }

    async fn delete_collection(
        &self,
        resource: &Resource,
        namespace: &str,
    ) -> (String, Result<Vec<Partial>, kube::Error>) {
        let name = match resource.group.as_str() {
            "" => format!("{}.", resource.plural),
            group => format!("{}.{group}", resource.plural),
        };
        let outcome = async {
            // Asking first spares most of the deletions: almost all of the kinds have no object here.
            let left = self.list(resource, namespace).await?;
            if left.is_empty() || !resource.can(&["deletecollection"]) {
                return Ok(left);
            }
            let options = br#"{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Background"}"#;
            let request = http::Request::delete(resource.path(Some(namespace)))
                .header(http::header::CONTENT_TYPE, "application/json")
                .body(options.to_vec())
                .map_err(kube::Error::HttpError)?;
            self.client.request_text(request).await?;
            self.list(resource, namespace).await
        };
        (name, missing_is_empty(outcome.await))
    }

    async fn list(&self, resource: &Resource, namespace: &str) -> Result<Vec<Partial>, kube::Error> {
        let request = http::Request::get(resource.path(Some(namespace)))
            .header(
                http::header::ACCEPT,
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json",
            )
            .body(Vec::new())
            .map_err(kube::Error::HttpError)?;
        Ok(self.client.request::<Partials>(request).await?.items)
    }

    async fn record(
        &self,
        api: &Api<Namespace>,
        live: Namespace,
        remains: &Remains,
    ) -> Result<Namespace, kube::Error> {
        let before = live
            .status
            .as_ref()
            .and_then(|s| s.conditions.clone())
            .unwrap_or_default();
        let after = conditions(&before, remains, Timestamp::now());
        if before == after {
            return Ok(live);
        }
        let mut updated = live;
        updated.status.get_or_insert_default().conditions = Some(after);
        let name = updated.metadata.name.clone().unwrap_or_default();
        api.replace_status(&name, &PostParams::default(), &updated).await
    }

    async fn finalize(&self, mut namespace: Namespace) -> Result<(), WorkError> {
        let name = namespace.metadata.name.clone().unwrap_or_default();
        if let Some(finalizers) = namespace.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
            finalizers.retain(|finalizer| finalizer != FINALIZER);
        }
        let body = serde_json::to_vec(&namespace).map_err(kube::Error::SerdeError)?;
        let request = http::Request::put(format!("/api/v1/namespaces/{name}/finalize"))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(kube::Error::HttpError)?;
        match self.client.request_text(request).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            outcome => Ok(outcome.map(|_| ())?),
        }
    }
}

impl Remains {
    fn add(&mut self, name: String, left: &[Partial]) {
        if left.is_empty() {
            return;
        }
        self.objects.insert(name, left.len());
        for meta in left.iter().map(|object| &object.metadata) {
            for finalizer in &meta.finalizers {
                *self.finalizers.entry(finalizer.clone()).or_default() += 1;
            }
            self.grace_s = self.grace_s.max(meta.deletion_grace_period_seconds.unwrap_or(0));
        }
    }
}

/// A resource that is no longer served, or cannot be deleted, holds nothing up.
fn missing_is_empty(outcome: Result<Vec<Partial>, kube::Error>) -> Result<Vec<Partial>, kube::Error> {
    match outcome {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 405) => Ok(Vec::new()),
        outcome => outcome,
    }
}

async fn terminating(api: &Api<Namespace>, mut live: Namespace) -> Result<Namespace, kube::Error> {
    let status = live.status.get_or_insert_default();
    if status.phase.as_deref() == Some("Terminating") {
        return Ok(live);
    }
    status.phase = Some("Terminating".to_owned());
    let name = live.metadata.name.clone().unwrap_or_default();
    api.replace_status(&name, &PostParams::default(), &live).await
}

/// A condition: its type, reason and message when true, reason and message when false.
type Row = (
    &'static str,
    Option<(&'static str, String)>,
    (&'static str, &'static str),
);

/// The five conditions of a terminating namespace; one whose status stays keeps its transition time.
fn conditions(before: &[NamespaceCondition], remains: &Remains, now: Timestamp) -> Vec<NamespaceCondition> {
    let rows = rows(remains);
    let mut after: Vec<NamespaceCondition> = before
        .iter()
        .filter(|c| !rows.iter().any(|(type_, _, _)| c.type_ == *type_))
        .cloned()
        .collect();
    for (type_, problem, fine) in rows {
        let (status, reason, message) = match problem {
            Some((reason, message)) => ("True", reason, message),
            None => ("False", fine.0, fine.1.to_owned()),
        };
        let standing = before.iter().find(|c| c.type_ == type_);
        let since = standing
            .filter(|c| c.status == status)
            .and_then(|c| c.last_transition_time.clone());
        after.push(NamespaceCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: since.or(Some(Time(now))),
        });
    }
    after
}

/// Counts as a list of `what` it says of each.
fn listed(counts: &BTreeMap<String, usize>, what: &str) -> String {
    let parts = counts
        .iter()
        .map(|(name, count)| format!("{name} {what} {count} resource instances"));
    parts.collect::<Vec<_>>().join(", ")
}

fn rows(remains: &Remains) -> [Row; 5] {
    let resources = listed(&remains.objects, "has");
    let holding = listed(&remains.finalizers, "in");
    [
        (
            "NamespaceDeletionDiscoveryFailure",
            (!remains.undiscovered.is_empty()).then(|| {
                let list = remains.undiscovered.join(", ");
                (
                    "DiscoveryFailed",
                    format!(
                        "Discovery failed for some groups, {} failing: {list}",
                        remains.undiscovered.len()
                    ),
                )
            }),
            ("ResourcesDiscovered", "All resources successfully discovered"),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
        ),
        (
            "NamespaceDeletionContentFailure",
            (!remains.failures.is_empty()).then(|| {
                let list = remains.failures.join(", ");
                (
                    "ContentDeletionFailed",
                    format!(
                        "Failed to delete all resource types, {} remaining: {list}",
                        remains.failures.len()
                    ),
                )
            }),
            (
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization",
            ),
        ),
        (
            "NamespaceContentRemaining",
            (!remains.objects.is_empty()).then(|| {
                (
                    "SomeResourcesRemain",
                    format!("Some resources are remaining: {resources}"),
                )
            }),
            ("ContentRemoved", "All content successfully removed"),
        ),
        (
            "NamespaceFinalizersRemaining",
            (!remains.finalizers.is_empty()).then(|| {
                (
                    "SomeFinalizersRemain",
                    format!("Some content in the namespace has finalizers remaining: {holding}"),
                )
            }),
            (
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished",
            ),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_tell_what_remains() {
        let mut remains = Remains::default();
        remains.add(
            "pods.".into(),
            &[Partial {
                metadata: PartialMeta {
                    finalizers: vec!["x/y".into()],
                    deletion_grace_period_seconds: Some(30),
                },
            }],
        );
        assert_eq!(remains.grace_s, 30);
        let at = |s| Timestamp::from_second(s).unwrap();
        let first = conditions(&[], &remains, at(1));
        let text = |type_: &str| {
            let c = first.iter().find(|c| c.type_ == type_).unwrap();
            (c.status.clone(), c.message.clone().unwrap())
        };
        assert_eq!(
            text("NamespaceContentRemaining"),
            (
                "True".into(),
                "Some resources are remaining: pods. has 1 resource instances".into()
            )
        );
        assert_eq!(
            text("NamespaceFinalizersRemaining").1,
            "Some content in the namespace has finalizers remaining: x/y in 1 resource instances"
        );
        assert_eq!(conditions(&first, &remains, at(9)), first, "nothing new");
        let done = conditions(&first, &Remains::default(), at(9));
        let changed = done
            .iter()
            .filter(|c| c.last_transition_time == Some(Time(at(9))))
            .count();
        assert_eq!(changed, 2);
    }
}
