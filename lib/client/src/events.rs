//! Telling people what happened: core/v1 Events, written in the background.
//!
//! `Recorder::event` never waits and never fails: when more events wait than `limits::EVENTS_QUEUED_MAX`, new ones
//! are dropped, as upstream does. Counting and combining is [`crate::correlator`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use tokio::sync::mpsc;

use crate::correlator::{Correlator, Verdict};
use crate::limits::EVENTS_QUEUED_MAX;

/// How serious an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// Information.
    Normal,
    /// Something a person may have to look at.
    Warning,
}

impl EventType {
    /// As written in the `type` field.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Writes events of one source; clones and `for_source` share one background writer.
#[derive(Clone)]
pub struct Recorder {
    source: Arc<EventSource>,
    queue: mpsc::Sender<Event>,
    dropped: Arc<AtomicU64>,
}

impl Recorder {
    /// A recorder for a component ("kubelet"), on a host where that matters (kubelet, kube-proxy).
    pub fn new(client: Client, component: &str, host: Option<&str>) -> Self {
        let (queue, waiting) = mpsc::channel(EVENTS_QUEUED_MAX);
        tokio::spawn(write_all(client, waiting));
        Self {
            source: Arc::new(source(component, host)),
            queue,
            dropped: Arc::default(),
        }
    }

    /// The same writer under another source ("deployment-controller").
    pub fn for_source(&self, component: &str) -> Self {
        Self {
            source: Arc::new(source(component, self.source.host.as_deref())),
            ..self.clone()
        }
    }

    /// Events lost because too many waited, since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Tells of `object`.
    pub fn event<K>(&self, object: &K, type_: EventType, reason: &str, message: impl Into<String>)
    where
        K: Resource<DynamicType = ()>,
    {
        self.event_on(reference(object), type_, reason, message);
    }

    /// Tells of what `object` refers to; its `field_path` may name a part (`spec.containers{web}`).
    pub fn event_on(
        &self,
        object: ObjectReference,
        type_: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        let event = self.make(object, type_, reason, message.into(), Timestamp::now());
        if self.queue.try_send(event).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn make(
        &self,
        object: ObjectReference,
        type_: EventType,
        reason: &str,
        message: String,
        now: Timestamp,
    ) -> Event {
        let name = object.name.as_deref().unwrap_or_default();
        let namespace = object.namespace.as_deref().filter(|n| !n.is_empty());
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{:x}", now.as_nanosecond())),
                namespace: Some(namespace.unwrap_or("default").to_owned()),
                ..ObjectMeta::default()
            },
            reason: Some(reason.to_owned()),
            message: Some(message),
            source: Some(EventSource::clone(&self.source)),
            reporting_component: self.source.component.clone(),
            reporting_instance: Some(self.source.host.clone().unwrap_or_default()),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            count: Some(1),
            type_: Some(type_.as_str().to_owned()),
            involved_object: object,
            ..Event::default()
        }
    }
}

/// A reference to an object, as events carry it.
pub fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    let meta = object.meta();
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

fn source(component: &str, host: Option<&str>) -> EventSource {
    EventSource {
        component: Some(component.to_owned()),
        host: host.map(str::to_owned),
    }
}

async fn write_all(client: Client, mut waiting: mpsc::Receiver<Event>) {
    let mut correlator = Correlator::default();
    while let Some(event) = waiting.recv().await {
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let outcome = match correlator.decide(event, Timestamp::now()) {
            Verdict::Drop => continue,
            Verdict::Create(event) => create(&api, &event).await,
            Verdict::Patch { name, patch, instead } => {
                let patch = Patch::Strategic(patch);
                match api.patch(&name, &PatchParams::default(), &patch).await {
                    Err(kube::Error::Api(status)) if status.code == 404 => {
                        correlator.written(&renamed(&instead, &name), &name_of(&instead));
                        create(&api, &instead).await
                    }
                    outcome => outcome.map(|_| ()),
                }
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(error = keelson_base::error::chain(&error), "event not written");
        }
    }
}

async fn create(api: &Api<Event>, event: &Event) -> Result<(), kube::Error> {
    api.create(&PostParams::default(), event).await.map(|_| ())
}

fn name_of(event: &Event) -> String {
    event.metadata.name.clone().unwrap_or_default()
}

fn renamed(event: &Event, name: &str) -> Event {
    let mut event = event.clone();
    event.metadata.name = Some(name.to_owned());
    event
}
