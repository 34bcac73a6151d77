//! events.k8s.io/v1 Events, as upstream's scheduler writes them: one Event, and a series count when it repeats.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use tokio::sync::mpsc;

use crate::limits::{RECORDED_MAX, SERIES_AGE, SERIES_MAX};
use crate::model::pod::Pod;

/// What happened to a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Occurrence {
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub uid: Box<str>,
    /// The profile: upstream's reporting controller.
    pub controller: Box<str>,
    pub type_: &'static str,
    pub reason: &'static str,
    pub action: &'static str,
    pub note: String,
}

impl Occurrence {
    /// Something about a pod.
    pub fn new(
        pod: &Pod,
        type_: &'static str,
        reason: &'static str,
        action: &'static str,
        note: String,
    ) -> Self {
        Self {
            namespace: pod.class.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid.0.clone(),
            controller: pod.class.scheduler_name.clone(),
            type_,
            reason,
            action,
            note: shortened(note),
        }
    }
}

/// The API takes notes up to 1 KiB.
const NOTE_MAX: usize = 1024;

fn shortened(mut note: String) -> String {
    if note.len() > NOTE_MAX {
        let end = (0..=NOTE_MAX - 4)
            .rev()
            .find(|at| note.is_char_boundary(*at))
            .unwrap_or(0);
        note.truncate(end);
        note.push_str(" ...");
    }
    note
}

/// Hands occurrences to the task that writes them.
#[derive(Clone, Debug)]
pub struct Recorder {
    sender: mpsc::Sender<Occurrence>,
}

impl Recorder {
    /// Starts the writing task; it ends with the last recorder.
    pub fn start(client: Client, host: String) -> Self {
        let (sender, receiver) = mpsc::channel(RECORDED_MAX);
        tokio::spawn(write_all(client, host, receiver));
        Self { sender }
    }

    /// Records an occurrence; dropped when too many wait.
    pub fn record(&self, occurrence: Occurrence) {
        if self.sender.try_send(occurrence).is_err() {
            tracing::debug!("too many events wait to be written; dropped one");
        }
    }
}

struct Series {
    /// The Event's name.
    name: String,
    count: i32,
    last: Instant,
}

async fn write_all(client: Client, host: String, mut receiver: mpsc::Receiver<Occurrence>) {
    let mut series: HashMap<Occurrence, Series> = HashMap::new();
    while let Some(occurrence) = receiver.recv().await {
        let api: Api<Event> = Api::namespaced(client.clone(), &occurrence.namespace);
        let now = Timestamp::now();
        let known = series
            .get_mut(&occurrence)
            .filter(|s| s.last.elapsed() < SERIES_AGE);
        let written = match known {
            Some(known) => {
                known.count += 1;
                known.last = Instant::now();
                let patch = serde_json::json!({
                    "series": {"count": known.count, "lastObservedTime": MicroTime(now)}
                });
                api.patch(&known.name, &PatchParams::default(), &Patch::Strategic(patch))
                    .await
            }
            None => {
                let event = event(&occurrence, &host, now);
                let name = event.metadata.name.clone().unwrap_or_default();
                let written = api.create(&PostParams::default(), &event).await;
                remember(
                    &mut series,
                    occurrence,
                    Series {
                        name,
                        count: 1,
                        last: Instant::now(),
                    },
                );
                written
            }
        };
        if let Err(error) = written {
            tracing::debug!(
                error = keelson_base::error::chain(&error),
                "cannot write an event"
            );
        }
    }
}

fn remember(series: &mut HashMap<Occurrence, Series>, occurrence: Occurrence, one: Series) {
    if series.len() >= SERIES_MAX {
        series.retain(|_, s| s.last.elapsed() < Duration::from_secs(30));
    }
    if series.len() < SERIES_MAX {
        series.insert(occurrence, one);
    }
}

fn event(occurrence: &Occurrence, host: &str, now: Timestamp) -> Event {
    let controller = occurrence.controller.to_string();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{:x}", occurrence.name, now.as_nanosecond())),
            namespace: Some(occurrence.namespace.to_string()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        reporting_instance: Some(format!("{controller}-{host}")),
        reporting_controller: Some(controller),
        action: Some(occurrence.action.to_owned()),
        reason: Some(occurrence.reason.to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(occurrence.namespace.to_string()),
            name: Some(occurrence.name.to_string()),
            uid: Some(occurrence.uid.to_string()),
            ..ObjectReference::default()
        }),
        note: Some(occurrence.note.clone()),
        type_: Some(occurrence.type_.to_owned()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_notes_are_cut_between_characters() {
        let note = shortened("ä".repeat(NOTE_MAX));
        assert!(note.len() <= NOTE_MAX && note.ends_with("ä ..."));
        assert_eq!(shortened("short".into()), "short");
    }
}
