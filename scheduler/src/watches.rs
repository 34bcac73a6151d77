//! One watch per kind, from the API into the scheduling loop's channel.
//!
//! Objects are turned into the scheduler's own values here and dropped.

use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1 as api;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use keelson_client::changes::{Change, Changes, changes, namespaced_key};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
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
    let uid = |pod: &api::Pod| pod.metadata.uid.clone().unwrap_or_default();
    let gone = |uid: String| Observed::PodGone(Uid(uid.into()));
    follow(
        changes(pods, unfinished, uid),
        sender,
        |pod| Observed::Pod(Box::new(pod)),
        gone,
    );

    let nodes = changes(
        Api::<api::Node>::all(client.clone()),
        watcher::Config::default(),
        |n| n.name_any(),
    );
    let gone = |name: String| Observed::NodeGone(name.into());
    follow(nodes, sender, |n| Observed::Node(Box::new(Node::new(&n))), gone);

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
    let all = changes::<K>(
        Api::all(client.clone()),
        watcher::Config::default(),
        namespaced_key,
    );
    let apply = move |object: K| Observed::Object(change(split(&namespaced_key(&object)), Some(&object)));
    let gone = move |key: String| Observed::Object(change(split(&key), None));
    follow(all, sender, apply, gone);
}

/// Watches one kind until the loop is gone.
fn follow<K: keelson_client::Object>(
    mut changes: Changes<K>,
    sender: &mpsc::Sender<Message>,
    apply: impl Fn(K) -> Observed + Send + 'static,
    gone: impl Fn(String) -> Observed + Send + 'static,
) {
    let sender = sender.clone();
    tokio::spawn(async move {
        while let Some(change) = changes.next().await {
            let message = match change {
                Change::Applied(object) => Message::Observed(apply(object)),
                Change::Gone(key) => Message::Observed(gone(key)),
                Change::Synced => Message::Synced,
            };
            if sender.send(message).await.is_err() {
                return;
            }
        }
    });
}
