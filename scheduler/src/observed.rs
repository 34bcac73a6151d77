//! Events as the scheduler takes them in, and what the objects of lesser kinds become.

use k8s_openapi::api::core::v1 as api;

use crate::hint::Change;
use crate::model::labels::{Labels, Selector};
use crate::model::node::Node;
use crate::model::pod::Uid;
use crate::model::volume::{BoundVolume, Claim, Class};
use crate::objects::{Budget, ObjectKey, Objects, SelectorKind};

/// Something the watches saw.
#[derive(Debug)]
pub enum Observed {
    Pod(Box<api::Pod>),
    PodGone(Uid),
    Node(Box<Node>),
    NodeGone(Box<str>),
    Object(ObjectChange),
}

/// An object of a lesser kind, or `None` when it is gone.
#[derive(Debug)]
pub enum ObjectChange {
    Selector(SelectorKind, ObjectKey, Option<Selector>),
    Namespace(Box<str>, Option<Labels>),
    Budget(ObjectKey, Option<Budget>),
    Claim(ObjectKey, Option<Claim>),
    Volume(Box<str>, Option<BoundVolume>),
    StorageClass(Box<str>, Option<Class>),
}

impl ObjectChange {
    /// Takes it over. Returns what refused pods should hear of, if anything changed.
    pub fn apply(self, objects: &mut Objects) -> Option<Change<'static>> {
        match self {
            Self::Selector(kind, key, value) => {
                set(objects.selectors.entry(kind).or_default(), key, value);
                None
            }
            Self::Namespace(name, value) => {
                set(&mut objects.namespaces, name, value).then_some(Change::NamespaceLabels)
            }
            Self::Budget(key, value) => {
                set(&mut objects.budgets, key, value);
                None
            }
            Self::Claim(key, value) => set(&mut objects.claims, key, value).then_some(Change::Storage),
            Self::Volume(name, value) => set(&mut objects.volumes, name, value).then_some(Change::Storage),
            Self::StorageClass(name, value) => {
                set(&mut objects.storage_classes, name, value).then_some(Change::Storage)
            }
        }
    }
}

/// Sets or removes; whether that changed anything.
fn set<K, V>(map: &mut std::collections::HashMap<K, V>, key: K, value: Option<V>) -> bool
where
    K: std::hash::Hash + Eq,
    V: PartialEq,
{
    match value {
        Some(value) => {
            let same = map.get(&key) == Some(&value);
            map.insert(key, value);
            !same
        }
        None => map.remove(&key).is_some(),
    }
}
