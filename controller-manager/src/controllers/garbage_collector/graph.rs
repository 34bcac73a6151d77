//! Who owns whom, over all kinds: the garbage collector's memory. Pure.
//!
//! A node exists for every object seen, and, marked virtual, for every owner named by an object but not seen yet.
//! Changes return what has to be looked at: objects to try to delete, objects whose dependents to orphan.
//!
//! Example: a ReplicaSet r owns pods p and q. `remove(r)` returns p and q to be tried.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::limits::GC_ABSENT_OWNERS_MAX;

/// An object's uid.
pub type Uid = Arc<str>;

/// Finalizer of an object that waits for its dependents' deletion.
pub const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer of an object that waits for its dependents to be orphaned.
pub const ORPHAN: &str = "orphan";

/// A reference to an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub uid: Uid,
    pub api_version: String,
    pub kind: String,
    pub name: String,
    /// Foreground deletion of the owner waits for this dependent.
    pub blocks: bool,
}

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub api_version: Arc<str>,
    pub kind: Arc<str>,
    pub namespace: String,
    pub name: String,
}

/// What the collector needs of an object's metadata.
#[derive(Clone, Debug)]
pub struct Seen {
    pub uid: Uid,
    pub place: Place,
    pub owners: Vec<Owner>,
    pub deleting: bool,
    pub foreground: bool,
    pub orphan: bool,
}

/// One object.
#[derive(Clone, Debug)]
pub struct Node {
    pub place: Place,
    pub owners: Vec<Owner>,
    pub dependents: BTreeSet<Uid>,
    pub deleting: bool,
    /// Waits for its dependents' deletion.
    pub foreground: bool,
    /// Known only from references to it.
    pub virtual_: bool,
    orphaning: bool,
}

/// Work found by a change.
#[derive(Debug, Default, PartialEq)]
pub struct Work {
    pub delete: Vec<Uid>,
    pub orphan: Vec<Uid>,
}

/// All objects.
#[derive(Default)]
pub struct Graph {
    nodes: HashMap<Uid, Node>,
    absent: HashSet<Uid>,
    absent_order: VecDeque<Uid>,
}

impl Graph {
    pub fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// Objects known, virtual ones included.
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// All seen objects of a kind.
    pub fn of_kind(&self, api_version: &str, kind: &str) -> Vec<Uid> {
        let of_kind = |node: &Node| {
            !node.virtual_ && *node.place.kind == *kind && *node.place.api_version == *api_version
        };
        self.nodes
            .iter()
            .filter(|(_, node)| of_kind(node))
            .map(|(uid, _)| uid.clone())
            .collect()
    }

    /// Whether an owner is known to be gone for good (uids are never used twice).
    pub fn is_absent(&self, uid: &str) -> bool {
        self.absent.contains(uid)
    }

    /// Remembers that an owner is gone; the oldest memory makes room.
    pub fn note_absent(&mut self, uid: &Uid) {
        if self.absent.insert(uid.clone()) {
            self.absent_order.push_back(uid.clone());
        }
        if self.absent_order.len() > GC_ABSENT_OWNERS_MAX
            && let Some(oldest) = self.absent_order.pop_front()
        {
            self.absent.remove(&oldest);
        }
    }

    /// Takes in an object as it is now.
    pub fn apply(&mut self, seen: Seen) -> Work {
        let mut work = Work::default();
        let before = self.nodes.get(&seen.uid).map(|node| {
            let held = (node.deleting && node.foreground, node.orphaning);
            (node.owners.clone(), held)
        });
        let (owners_before, (was_foreground, was_orphaning)) = before.unwrap_or_default();
        for gone in owners_before
            .iter()
            .filter(|o| !seen.owners.iter().any(|n| n.uid == o.uid))
        {
            self.unlink(&gone.uid, &seen.uid, &mut work);
        }
        for owner in &seen.owners {
            let known = owners_before.iter().find(|o| o.uid == owner.uid);
            match known {
                None => self.link(owner, &seen, &mut work),
                Some(known) if known.blocks && !owner.blocks => self.unblocked(&owner.uid, &mut work),
                Some(_) => {}
            }
        }
        let node = self.nodes.entry(seen.uid.clone()).or_insert_with(|| Node {
            place: seen.place.clone(),
            owners: Vec::new(),
            dependents: BTreeSet::new(),
            deleting: false,
            foreground: false,
            virtual_: false,
            orphaning: false,
        });
        node.place = seen.place;
        node.owners = seen.owners;
        node.virtual_ = false;
        node.deleting = seen.deleting;
        node.foreground = seen.deleting && seen.foreground;
        node.orphaning = seen.deleting && seen.orphan;
        if node.orphaning && !was_orphaning {
            work.orphan.push(seen.uid.clone());
        }
        if node.foreground && !was_foreground {
            work.delete.extend(node.dependents.iter().cloned());
            work.delete.push(seen.uid);
        }
        work
    }

    /// Takes out an object that is gone.
    pub fn remove(&mut self, uid: &str) -> Work {
        let mut work = Work::default();
        let Some((uid, node)) = self.nodes.remove_entry(uid) else {
            return work;
        };
        if !node.dependents.is_empty() {
            self.note_absent(&uid);
        }
        for owner in &node.owners {
            self.unlink(&owner.uid, &uid, &mut work);
        }
        work.delete.extend(node.dependents);
        work
    }

    /// Dependents that a foreground deletion of `uid` waits for.
    pub fn blocking(&self, uid: &str) -> Vec<Uid> {
        let Some(node) = self.nodes.get(uid) else {
            return Vec::new();
        };
        let blocks = |dependent: &&Uid| {
            let node = self.nodes.get(&***dependent);
            node.is_some_and(|n| n.owners.iter().any(|o| &*o.uid == uid && o.blocks))
        };
        node.dependents.iter().filter(blocks).cloned().collect()
    }

    /// Whether one of its dependents itself waits for dependents: a circle must not wait for itself.
    pub fn has_waiting_dependent(&self, uid: &str) -> bool {
        self.nodes.get(uid).is_some_and(|node| {
            let waits = |d: &Uid| self.nodes.get(d).is_some_and(|n| n.foreground);
            node.dependents.iter().any(waits)
        })
    }

    fn link(&mut self, owner: &Owner, dependent: &Seen, work: &mut Work) {
        let node = self.nodes.entry(owner.uid.clone()).or_insert_with(|| {
            // An owner nobody has seen: ask for it.
            work.delete.push(owner.uid.clone());
            Node {
                place: Place {
                    api_version: owner.api_version.as_str().into(),
                    kind: owner.kind.as_str().into(),
                    namespace: dependent.place.namespace.clone(),
                    name: owner.name.clone(),
                },
                owners: Vec::new(),
                dependents: BTreeSet::new(),
                deleting: false,
                foreground: false,
                virtual_: true,
                orphaning: false,
            }
        });
        node.dependents.insert(dependent.uid.clone());
        let misplaced = !node.virtual_
            && !node.place.namespace.is_empty()
            && node.place.namespace != dependent.place.namespace;
        if node.foreground || misplaced {
            work.delete.push(dependent.uid.clone());
        }
    }

    fn unlink(&mut self, owner: &Uid, dependent: &Uid, work: &mut Work) {
        let Some(node) = self.nodes.get_mut(owner) else {
            return;
        };
        node.dependents.remove(dependent);
        if node.virtual_ && node.dependents.is_empty() {
            self.nodes.remove(owner);
            return;
        }
        self.unblocked(owner, work);
    }

    fn unblocked(&self, owner: &Uid, work: &mut Work) {
        if self.nodes.get(owner).is_some_and(|node| node.foreground) {
            work.delete.push(owner.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(uid: &str, owners: &[&str]) -> Seen {
        Seen {
            uid: uid.into(),
            place: Place {
                api_version: "v1".into(),
                kind: "Thing".into(),
                namespace: "ns".into(),
                name: uid.into(),
            },
            owners: owners
                .iter()
                .map(|owner| Owner {
                    uid: (*owner).into(),
                    api_version: "v1".into(),
                    kind: "Thing".into(),
                    name: (*owner).into(),
                    blocks: true,
                })
                .collect(),
            deleting: false,
            foreground: false,
            orphan: false,
        }
    }

    fn deleting(mut seen: Seen, foreground: bool, orphan: bool) -> Seen {
        (seen.deleting, seen.foreground, seen.orphan) = (true, foreground, orphan);
        seen
    }

    fn names(uids: &[Uid]) -> Vec<&str> {
        uids.iter().map(|uid| &**uid).collect()
    }

    #[test]
    fn dependents_of_the_gone_are_tried() {
        let mut graph = Graph::default();
        assert_eq!(graph.apply(seen("r", &[])), Work::default());
        graph.apply(seen("p", &["r"]));
        graph.apply(seen("q", &["r"]));
        assert_eq!(names(&graph.remove("r").delete), ["p", "q"]);
        assert!(graph.is_absent("r"));
    }

    #[test]
    fn unseen_owners_are_asked_for_until_seen() {
        let mut graph = Graph::default();
        assert_eq!(names(&graph.apply(seen("p", &["r"])).delete), ["r"]);
        assert!(graph.get("r").unwrap().virtual_);
        graph.apply(seen("r", &[]));
        let owner = graph.get("r").unwrap();
        assert!(!owner.virtual_ && owner.dependents.len() == 1);
        graph.remove("p");
        assert!(graph.get("r").unwrap().dependents.is_empty());
    }

    #[test]
    fn a_virtual_owner_leaves_with_its_last_dependent() {
        let mut graph = Graph::default();
        graph.apply(seen("p", &["r"]));
        graph.remove("p");
        assert_eq!(graph.size(), 0);
    }

    #[test]
    fn foreground_deletion_waits_for_blocking_dependents() {
        let mut graph = Graph::default();
        graph.apply(seen("r", &[]));
        graph.apply(seen("p", &["r"]));
        let work = graph.apply(deleting(seen("r", &[]), true, false));
        assert_eq!(names(&work.delete), ["p", "r"]);
        assert_eq!(names(&graph.blocking("r")), ["p"]);
        assert_eq!(
            names(&graph.remove("p").delete),
            ["r"],
            "the owner is looked at again"
        );
        assert!(graph.blocking("r").is_empty());
    }

    #[test]
    fn orphaning_starts_once() {
        let mut graph = Graph::default();
        graph.apply(seen("r", &[]));
        assert_eq!(
            names(&graph.apply(deleting(seen("r", &[]), false, true)).orphan),
            ["r"]
        );
        assert!(
            graph
                .apply(deleting(seen("r", &[]), false, true))
                .orphan
                .is_empty()
        );
    }

    #[test]
    fn memory_of_the_absent_is_bounded() {
        let mut graph = Graph::default();
        for n in 0..GC_ABSENT_OWNERS_MAX + 5 {
            graph.note_absent(&Uid::from(n.to_string().as_str()));
        }
        assert_eq!(graph.absent.len(), GC_ABSENT_OWNERS_MAX);
        assert!(!graph.is_absent("0") && graph.is_absent("7"));
    }
}
