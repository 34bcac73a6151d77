//! A watch for those who keep their own form of the objects: changes one by one, and of the objects only the keys are
//! remembered, so that what vanished while the watch was down is told when the list comes again.

use std::collections::{HashSet, VecDeque};
use std::pin::Pin;

use futures::{Stream, StreamExt};
use kube::Api;
use kube::runtime::watcher;

use crate::informer::Object;
use crate::watch_failures::WatchFailures;

/// What a watch saw.
#[derive(Debug)]
pub enum Change<K> {
    /// An object is there, new or not.
    Applied(K),
    /// The object of this key is gone.
    Gone(String),
    /// The first list is complete. Comes once.
    Synced,
}

/// The changes of one kind.
pub struct Changes<K> {
    events: Pin<Box<dyn Stream<Item = watcher::Result<watcher::Event<K>>> + Send>>,
    key: fn(&K) -> String,
    known: HashSet<String>,
    listed: HashSet<String>,
    ready: VecDeque<Change<K>>,
    synced: bool,
    failures: WatchFailures,
}

/// Watches one kind; `key` names an object for as long as it exists.
pub fn changes<K: Object>(api: Api<K>, config: watcher::Config, key: fn(&K) -> String) -> Changes<K> {
    Changes {
        events: Box::pin(watcher::watcher(api, config)),
        key,
        known: HashSet::new(),
        listed: HashSet::new(),
        ready: VecDeque::new(),
        synced: false,
        failures: WatchFailures::new(K::kind(&())),
    }
}

/// `namespace/name`, or `/name` without a namespace.
pub fn namespaced_key<K: Object>(object: &K) -> String {
    let meta = object.meta();
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    format!("{}/{}", text(&meta.namespace), text(&meta.name))
}

impl<K: Object> Changes<K> {
    /// The next change; `None` only when the watch can never go on.
    pub async fn next(&mut self) -> Option<Change<K>> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Some(change);
            }
            match self.events.next().await? {
                Ok(event) => self.take(event),
                Err(error) => self.failures.failed(&error).await,
            }
        }
    }

    fn take(&mut self, event: watcher::Event<K>) {
        if !matches!(event, watcher::Event::Init) {
            self.failures.succeeded();
        }
        match event {
            watcher::Event::Init => self.listed.clear(),
            watcher::Event::InitApply(object) => {
                self.listed.insert((self.key)(&object));
                self.ready.push_back(Change::Applied(object));
            }
            watcher::Event::InitDone => {
                let fresh = std::mem::take(&mut self.listed);
                self.ready
                    .extend(self.known.difference(&fresh).cloned().map(Change::Gone));
                self.known = fresh;
                if !std::mem::replace(&mut self.synced, true) {
                    self.ready.push_back(Change::Synced);
                }
            }
            watcher::Event::Apply(object) => {
                self.known.insert((self.key)(&object));
                self.ready.push_back(Change::Applied(object));
            }
            watcher::Event::Delete(object) => {
                let key = (self.key)(&object);
                self.known.remove(&key);
                self.ready.push_back(Change::Gone(key));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn object(name: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.name = Some(name.to_owned());
        object
    }

    #[tokio::test]
    async fn what_vanished_between_lists_is_told() {
        use watcher::Event::{Apply, Init, InitApply, InitDone};
        let events = [
            Init,
            InitApply(object("a")),
            InitApply(object("b")),
            InitDone,
            Apply(object("c")),
            Init,
            InitApply(object("b")),
            InitDone,
        ];
        let mut changes = Changes {
            events: Box::pin(futures::stream::iter(events.map(Ok))),
            key: namespaced_key::<ConfigMap>,
            known: HashSet::new(),
            listed: HashSet::new(),
            ready: VecDeque::new(),
            synced: false,
            failures: WatchFailures::new("ConfigMap"),
        };
        let mut told = Vec::new();
        while let Some(change) = changes.next().await {
            told.push(match change {
                Change::Applied(object) => format!("+{}", object.metadata.name.unwrap()),
                Change::Gone(key) => format!("-{key}"),
                Change::Synced => "synced".to_owned(),
            });
        }
        told[5..].sort();
        assert_eq!(told, ["+a", "+b", "synced", "+c", "+b", "-/a", "-/c"]);
    }
}
