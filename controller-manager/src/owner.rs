//! Controller references: who owns what, adoption and release. Pure.
//!
//! An object without a controller that matches a controller's selector is adopted; one owned but no longer matching
//! is released. Both are patches bound to the object's uid; an adoption is preceded by a live look at the owner, so
//! that nothing is given to one that is being deleted.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use keelson_controller::action::Kind;
use keelson_controller::{Action, Verb};
use serde_json::json;

/// Name of the index that maps objects to their controller's uid, or orphans to their namespace.
pub const INDEX: &str = "controller";

/// Index values for `INDEX`.
pub fn index<K: Kind>(object: &K) -> Vec<String> {
    let meta = object.metadata();
    vec![match controller_of(meta) {
        Some(owner) => owner.uid.clone(),
        None => orphans(meta.namespace.as_deref().unwrap_or_default()),
    }]
}

/// The index value of a namespace's orphans.
pub fn orphans(namespace: &str) -> String {
    format!("orphans/{namespace}")
}

/// The owner that controls an object.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references
        .as_ref()?
        .iter()
        .find(|owner| owner.controller == Some(true))
}

/// A controller reference to `owner`, which blocks its foreground deletion.
pub fn reference<K: Kind>(owner: &K) -> OwnerReference {
    reference_as(owner.metadata(), K::API_VERSION, K::KIND)
}

/// The same for an owner known by its parts.
pub fn reference_as(owner: &ObjectMeta, api_version: &str, kind: &str) -> OwnerReference {
    OwnerReference {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        name: owner.name.clone().unwrap_or_default(),
        uid: owner.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// What of the candidates belongs to the owner, and the patches that make it so.
#[derive(Debug)]
pub struct Claimed<K> {
    /// Owned now.
    pub owned: Vec<Arc<K>>,
    /// Adoptions and releases.
    pub actions: Vec<Action>,
}

/// Sorts candidates: owned ones stay or are released, orphans that match are adopted.
pub fn claim<O: Kind, K: Kind>(
    owner: &O,
    candidates: Vec<Arc<K>>,
    selects: impl Fn(&K) -> bool,
) -> Claimed<K> {
    let owner_meta = owner.metadata();
    let owner_leaves = owner_meta.deletion_timestamp.is_some();
    let mut claimed = Claimed {
        owned: Vec::new(),
        actions: Vec::new(),
    };
    for object in candidates {
        let meta = object.metadata();
        if meta.namespace != owner_meta.namespace {
            continue;
        }
        match controller_of(meta) {
            Some(owner) if Some(&owner.uid) != owner_meta.uid.as_ref() => {}
            Some(_) if selects(&object) => claimed.owned.push(object),
            Some(_) if owner_leaves => {}
            Some(_) => claimed.actions.push(release(owner_meta, object.as_ref())),
            None if owner_leaves || meta.deletion_timestamp.is_some() => {}
            None if selects(&object) => {
                claimed
                    .actions
                    .push(adopt(owner, object.as_ref()).guarded_by(owner));
            }
            None => {}
        }
    }
    claimed
}

fn adopt<O: Kind, K: Kind>(owner: &O, object: &K) -> Action {
    let patch = json!({ "metadata": { "ownerReferences": [reference(owner)] } });
    Action::patch(Verb::StrategicPatch, object, patch).tolerating(&[404])
}

fn release<K: Kind>(owner: &ObjectMeta, object: &K) -> Action {
    let patch = json!({
        "metadata": { "ownerReferences": [{ "$patch": "delete", "uid": owner.uid }] },
    });
    // Gone, or replaced by another of its name: nothing to release.
    Action::patch(Verb::StrategicPatch, object, patch).tolerating(&[404, 409, 422])
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::ReplicaSet;
    use k8s_openapi::api::core::v1::Pod;

    fn pod(name: &str, owner: Option<&str>) -> Arc<Pod> {
        let mut pod = Pod::default();
        pod.metadata.name = Some(name.into());
        pod.metadata.namespace = Some("ns".into());
        pod.metadata.owner_references = owner.map(|uid| {
            vec![OwnerReference {
                uid: uid.into(),
                controller: Some(true),
                ..OwnerReference::default()
            }]
        });
        Arc::new(pod)
    }

    #[test]
    fn claims() {
        let mut set = ReplicaSet::default();
        set.metadata.uid = Some("me".into());
        set.metadata.namespace = Some("ns".into());
        let candidates = || {
            vec![
                pod("match-mine", Some("me")),
                pod("stray-mine", Some("me")),
                pod("match-orphan", None),
                pod("stray-orphan", None),
                pod("match-other", Some("you")),
            ]
        };
        let selects = |pod: &Pod| pod.metadata.name.as_ref().unwrap().starts_with("match");
        let claimed = claim(&set, candidates(), selects);
        let owned: Vec<_> = claimed
            .owned
            .iter()
            .map(|p| p.metadata.name.clone().unwrap())
            .collect();
        assert_eq!(owned, ["match-mine"]);
        let patched: Vec<_> = claimed
            .actions
            .iter()
            .map(|a| (a.target.name.as_str(), a.guard.is_some()))
            .collect();
        assert_eq!(patched, [("stray-mine", false), ("match-orphan", true)]);
        set.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            jiff::Timestamp::UNIX_EPOCH,
        ));
        assert!(claim(&set, candidates(), selects).actions.is_empty());
    }
}
