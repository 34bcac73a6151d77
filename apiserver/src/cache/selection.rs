//! What a list or watch selects: namespace, name, labels, fields.

use keelson_machinery::{fields, labels};

use super::entry::{Entry, Event, EventType};

/// A selection within one resource.
#[derive(Clone, Debug)]
pub struct Selection {
    /// `None`: all namespaces (or a cluster-scoped resource).
    pub namespace: Option<String>,
    /// From the path, or from a `metadata.name=` field requirement.
    pub name: Option<String>,
    /// `None`: every object.
    pub labels: Option<labels::Selector>,
    /// `None`: every object.
    pub fields: Option<fields::Selector>,
    /// `spec.nodeName` required by the field selector: what the dispatch of pods is indexed by.
    pub node: Option<String>,
}

impl Selection {
    /// Everything of a namespace, or of all.
    pub fn all(namespace: Option<String>) -> Self {
        Self {
            namespace,
            name: None,
            labels: None,
            fields: None,
            node: None,
        }
    }

    /// Whether nothing beyond the namespace is asked for.
    pub fn is_plain(&self) -> bool {
        self.name.is_none() && self.labels.is_none() && self.fields.is_none() && self.node.is_none()
    }

    /// Whether every object of the resource is asked for.
    pub fn is_everything(&self) -> bool {
        self.is_plain() && self.namespace.is_none()
    }

    /// The one key this can select, where it names one.
    pub fn key(&self, namespaced: bool) -> Option<String> {
        match (namespaced, &self.namespace, &self.name) {
            (true, Some(namespace), Some(name)) => Some(format!("{namespace}/{name}")),
            (false, _, Some(name)) => Some(name.clone()),
            _ => None,
        }
    }

    pub fn matches(&self, entry: &Entry) -> bool {
        if self
            .namespace
            .as_deref()
            .is_some_and(|namespace| namespace != entry.namespace())
        {
            return false;
        }
        if self.name.as_deref().is_some_and(|name| name != entry.name()) {
            return false;
        }
        if self
            .fields
            .as_ref()
            .is_some_and(|fields| !fields.matches(|name| entry.field(name)))
        {
            return false;
        }
        self.labels
            .as_ref()
            .is_none_or(|labels| labels.matches(&entry.labels()))
    }

    /// What a change is to someone with this selection; `None`: nothing.
    pub fn event(&self, event: &Event) -> Option<EventType> {
        let before = event.old.as_ref().is_some_and(|entry| self.matches(entry));
        let after = event.new.as_ref().is_some_and(|entry| self.matches(entry));
        match (before, after) {
            (false, true) => Some(EventType::Added),
            (true, true) => Some(EventType::Modified),
            (true, false) => Some(EventType::Deleted),
            (false, false) => None,
        }
    }
}
