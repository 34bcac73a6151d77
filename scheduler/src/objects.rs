//! The other objects scheduling looks at, by name: what selects pods, namespaces' labels, disruption budgets, storage.

use std::collections::{BTreeMap, HashMap};

use crate::model::labels::{Labels, Selector};
use crate::model::pod::Pod;
use crate::model::volume::{BoundVolume, Claim, Class};

/// Namespace and name; the namespace is empty for cluster-wide objects.
pub type ObjectKey = (Box<str>, Box<str>);

/// Something that selects the pods it belongs with: Service, ReplicationController, ReplicaSet, StatefulSet.
pub type SelectorKind = &'static str;

/// A PodDisruptionBudget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    pub selector: Selector,
    /// Pods that may still be disrupted.
    pub allowed: i32,
    /// Pods whose disruption is already counted.
    pub disrupted: Vec<Box<str>>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Objects {
    /// By kind, then namespace and name.
    pub selectors: BTreeMap<SelectorKind, HashMap<ObjectKey, Selector>>,
    pub namespaces: HashMap<Box<str>, Labels>,
    pub budgets: HashMap<ObjectKey, Budget>,
    pub claims: HashMap<ObjectKey, Claim>,
    pub volumes: HashMap<Box<str>, BoundVolume>,
    pub storage_classes: HashMap<Box<str>, Class>,
}

static NO_LABELS: std::sync::LazyLock<Labels> = std::sync::LazyLock::new(Labels::default);

impl Objects {
    /// The labels of a namespace; none while it is not known.
    pub fn namespace_labels(&self, name: &str) -> &Labels {
        self.namespaces.get(name).unwrap_or(&NO_LABELS)
    }

    /// What default spreading goes by: every Service and the controller that select the pod; `None` when none does.
    pub fn default_selector(&self, pod: &crate::model::class::Requirements) -> Option<Selector> {
        let services = self.selectors.get("Service").into_iter().flatten();
        let services = services.filter(|((ns, _), s)| *ns == pod.namespace && s.matches(&pod.labels));
        let controller = pod.controller.as_ref().and_then(|(kind, name)| {
            let kind = self.selectors.get(&**kind)?;
            kind.get(&(pod.namespace.clone(), name.clone()))
        });
        let mut all = services
            .map(|(_, s)| s)
            .chain(controller.filter(|s| s.matches(&pod.labels)));
        let first = all.next()?.clone();
        Some(all.fold(first, |sum, next| sum.and(next)))
    }

    /// The disruption budgets that cover a pod.
    pub fn budgets_of(&self, pod: &Pod) -> impl Iterator<Item = (&ObjectKey, &Budget)> {
        let (namespace, labels) = (pod.class.namespace.clone(), pod.class.labels.clone());
        self.budgets
            .iter()
            .filter(move |((ns, _), budget)| *ns == namespace && budget.selector.matches(&labels))
    }
}
