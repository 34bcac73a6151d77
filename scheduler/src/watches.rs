//! One watch per kind, from the API into the scheduling loop's channel.
//!
//! Objects are turned into the scheduler's own values here and dropped; of each kind only the keys are kept, so that
//! what vanished while a watch was down is noticed when the list comes again.

use std::collections::HashSet;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1 as api;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::mpsc;

use crate::model::labels::{Labels, Selector};
use crate::model::node::Node;
use crate::model::pod::Uid;
use crate::model::volume::{BoundVolume, Claim, Class};
use crate::objects::{Budget, ObjectKey, SelectorKind};
use crate::observed::{ObjectChange, Observed};

/// What the loop's channel carries.
#[derive(Debug)]
pub enum Message {
    Observed(Observed),
    /// A kind's first list is complete.
    Synced,
    /// A pod's binding ended.
    Bound {
        uid: Uid,
        success: bool,
    },
    /// A write that the loop does not hear of otherwise ended.
    Written,
}

/// Kinds watched: the loop decides nothing before each of them is synced.
pub const KINDS: usize = 11;

/// Starts all watches.
pub fn start(client: &Client, sender: &mpsc::Sender<Message>) {
    let pods = Api::<api::Pod>::all(client.clone());
    let unfinished = watcher::Config::default().fields("status.phase!=Succeeded,status.phase!=Failed");
    let gone = |key: String| Observed::PodGone(Uid(key.into()));
    let uid = |pod: &api::Pod| pod.metadata.uid.clone().unwrap_or_default();
    follow(
        pods,
        unfinished,
        sender,
        uid,
        |pod| Observed::Pod(Box::new(pod)),
        gone,
    );

    let nodes = Api::<api::Node>::all(client.clone());
    let gone = |name: String| Observed::NodeGone(name.into());
    follow(
        nodes,
        watcher::Config::default(),
        sender,
        |n| n.name_any(),
        |n| Observed::Node(Box::new(Node::new(&n))),
        gone,
    );

    objects::<api::Namespace>(client, sender, |key, object| {
        ObjectChange::Namespace(key.1, object.map(|n| Labels::new(n.metadata.labels.as_ref())))
    });
    objects::<api::PersistentVolumeClaim>(client, sender, |key, object| {
        ObjectChange::Claim(key, object.map(Claim::new))
    });
    objects::<api::PersistentVolume>(client, sender, |key, object| {
        ObjectChange::Volume(key.1, object.map(BoundVolume::new))
    });
    objects::<StorageClass>(client, sender, |key, object| {
        ObjectChange::StorageClass(key.1, object.map(Class::new))
    });
    objects::<PodDisruptionBudget>(client, sender, |key, object| {
        ObjectChange::Budget(key, object.map(budget))
    });
    selectors::<api::Service>(client, sender, "Service", |service| {
        Selector::from_map(service.spec.as_ref().and_then(|s| s.selector.as_ref()))
    });
    selectors::<api::ReplicationController>(client, sender, "ReplicationController", |controller| {
        Selector::from_map(controller.spec.as_ref().and_then(|s| s.selector.as_ref()))
    });
    selectors::<ReplicaSet>(client, sender, "ReplicaSet", |set| {
        Selector::new(set.spec.as_ref().map(|s| &s.selector))
    });
    selectors::<StatefulSet>(client, sender, "StatefulSet", |set| {
        Selector::new(set.spec.as_ref().map(|s| &s.selector))
    });
}

fn budget(budget: &PodDisruptionBudget) -> Budget {
    let status = budget.status.as_ref();
    let disrupted = status
        .and_then(|s| s.disrupted_pods.as_ref())
        .into_iter()
        .flatten();
    Budget {
        selector: Selector::new(budget.spec.as_ref().and_then(|s| s.selector.as_ref())),
        allowed: status.and_then(|s| s.disruptions_allowed).unwrap_or(0),
        disrupted: disrupted.map(|(name, _)| name.as_str().into()).collect(),
    }
}

fn selectors<K>(
    client: &Client,
    sender: &mpsc::Sender<Message>,
    kind: SelectorKind,
    selector: impl Fn(&K) -> Selector + Copy + Send + 'static,
) where
    K: keelson_client::Object,
{
    objects::<K>(client, sender, move |key, object| {
        ObjectChange::Selector(kind, key, object.map(selector))
    });
}

fn objects<K>(
    client: &Client,
    sender: &mpsc::Sender<Message>,
    change: impl Fn(ObjectKey, Option<&K>) -> ObjectChange + Copy + Send + 'static,
) where
    K: keelson_client::Object,
{
    fn split(key: &str) -> ObjectKey {
        let (namespace, name) = key.split_once('/').unwrap_or(("", key));
        (namespace.into(), name.into())
    }
    let key = |object: &K| format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
    let apply = move |object: K| {
        let key: ObjectKey = (
            object.namespace().unwrap_or_default().into(),
            object.name_any().into(),
        );
        Observed::Object(change(key, Some(&object)))
    };
    let gone = move |key: String| Observed::Object(change(split(&key), None));
    follow(
        Api::all(client.clone()),
        watcher::Config::default(),
        sender,
        key,
        apply,
        gone,
    );
}

/// Watches one kind until the loop is gone.
fn follow<K>(
    api: Api<K>,
    config: watcher::Config,
    sender: &mpsc::Sender<Message>,
    key: impl Fn(&K) -> String + Send + 'static,
    apply: impl Fn(K) -> Observed + Send + 'static,
    gone: impl Fn(String) -> Observed + Send + 'static,
) where
    K: keelson_client::Object,
{
    let sender = sender.clone();
    tokio::spawn(async move {
        let mut stream = std::pin::pin!(watcher::watcher(api, config).default_backoff());
        let mut known: HashSet<String> = HashSet::new();
        let mut listed: HashSet<String> = HashSet::new();
        let mut synced = false;
        while let Some(next) = stream.next().await {
            let mut messages = Vec::new();
            match next {
                Ok(watcher::Event::Init) => listed.clear(),
                Ok(watcher::Event::InitApply(object)) => {
                    listed.insert(key(&object));
                    messages.push(Message::Observed(apply(object)));
                }
                Ok(watcher::Event::InitDone) => {
                    let fresh = std::mem::take(&mut listed);
                    let lost = known.difference(&fresh).cloned();
                    messages.extend(lost.map(|key| Message::Observed(gone(key))));
                    known = fresh;
                    if !std::mem::replace(&mut synced, true) {
                        messages.push(Message::Synced);
                    }
                }
                Ok(watcher::Event::Apply(object)) => {
                    known.insert(key(&object));
                    messages.push(Message::Observed(apply(object)));
                }
                Ok(watcher::Event::Delete(object)) => {
                    let key = key(&object);
                    known.remove(&key);
                    messages.push(Message::Observed(gone(key)));
                }
                Err(error) => {
                    let kind = <K as Resource>::kind(&());
                    tracing::warn!(%kind, error = keelson_base::error::chain(&error), "watch failed");
                }
            }
            for message in messages {
                if sender.send(message).await.is_err() {
                    return;
                }
            }
        }
    });
}
