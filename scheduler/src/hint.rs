//! Changes that may make a refused pod schedulable. Each plugin says which ones concern it (`Row::hint`), so that a
//! change wakes only the pods it may help.

use crate::model::class::Class;
use crate::model::node::Node;

/// Something changed in the cluster.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    NodeAdded(&'a Node),
    NodeUpdated {
        before: &'a Node,
        after: &'a Node,
    },
    NodeRemoved,
    /// A pod is on a node now, or its labels there changed.
    PodAdded {
        class: &'a Class,
    },
    /// A pod left its node or finished.
    PodRemoved {
        class: &'a Class,
    },
    NamespaceLabels,
    /// A claim, volume or storage class.
    Storage,
}
