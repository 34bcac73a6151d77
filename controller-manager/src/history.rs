//! ControllerRevisions: the past templates of a DaemonSet or StatefulSet. Pure.
//!
//! A revision holds the template as a patch. The one equal to the present template is the current one; when an older
//! one is equal (a rollback) it gets the highest number again instead of being made anew.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use keelson_controller::Action;
use serde_json::{Value, json};

use crate::revision::hash_name;
use crate::selector::Labels;

/// Label of revisions and pods that names the revision's hash.
pub const HASH_LABEL: &str = "controller-revision-hash";

/// The present revision, or what to write so that there is one.
#[derive(Debug)]
pub enum Current {
    /// This one.
    Is(Arc<ControllerRevision>),
    /// Not there yet, or not numbered highest: after this write it is.
    Write(Box<Action>),
    /// Another object has its name: count a collision.
    Collision,
}

/// Whose history.
pub struct Owner<'a> {
    /// Its metadata.
    pub meta: &'a ObjectMeta,
    /// How revisions refer to it.
    pub reference: OwnerReference,
    /// Collisions so far.
    pub collisions: Option<i32>,
}

/// Finds or makes the revision of `template` among the owner's `revisions`; `taken` tells whether a name is used.
pub fn current(
    owner: &Owner,
    template: &PodTemplateSpec,
    revisions: &[Arc<ControllerRevision>],
    taken: impl Fn(&str) -> bool,
) -> Current {
    let data = patch_of(template);
    let highest = revisions.iter().map(|r| r.revision).max().unwrap_or(0);
    let equal = revisions
        .iter()
        .filter(|r| r.data.as_ref().map(|d| &d.0) == Some(&data));
    if let Some(found) = equal.max_by_key(|r| r.revision) {
        if found.revision == highest {
            return Current::Is(found.clone());
        }
        let mut raised = found.as_ref().clone();
        raised.revision = highest + 1;
        return Current::Write(Box::new(Action::update(&raised)));
    }
    let hash = hash_name(data.to_string().as_bytes(), owner.collisions);
    let name = format!("{}-{hash}", owner.meta.name.as_deref().unwrap_or_default());
    if taken(&name) {
        return Current::Collision;
    }
    let mut labels: Labels = template
        .metadata
        .as_ref()
        .and_then(|m| m.labels.clone())
        .unwrap_or_default();
    labels.insert(HASH_LABEL.to_owned(), hash);
    let revision = ControllerRevision {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: owner.meta.namespace.clone(),
            labels: Some(labels),
            annotations: owner.meta.annotations.clone(),
            owner_references: Some(vec![owner.reference.clone()]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(data)),
        revision: highest + 1,
    };
    Current::Write(Box::new(Action::create(&revision)))
}

fn patch_of(template: &PodTemplateSpec) -> Value {
    let mut template =
        serde_json::to_value(template).expect("k8s-openapi objects have string keys and finite numbers");
    template["$patch"] = json!("replace");
    json!({ "spec": { "template": template } })
}

/// The hash a revision's pods are labelled with.
pub fn hash(revision: &ControllerRevision) -> &str {
    let labels = revision.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(HASH_LABEL))
        .map_or("", String::as_str)
}

/// Deletes the oldest revisions beyond the limit that no pod is of.
pub fn cleanup(
    revisions: &[Arc<ControllerRevision>],
    live_hashes: &HashSet<String>,
    keep: &[&str],
    limit: Option<i32>,
) -> Vec<Action> {
    let limit = usize::try_from(limit.unwrap_or(10)).unwrap_or(0);
    let mut old: Vec<_> = revisions
        .iter()
        .filter(|r| {
            !live_hashes.contains(hash(r)) && !keep.contains(&r.metadata.name.as_deref().unwrap_or_default())
        })
        .collect();
    old.sort_by_key(|r| r.revision);
    let surplus = old.len().saturating_sub(limit);
    old.iter()
        .take(surplus)
        .map(|r| Action::delete(r.as_ref()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use keelson_controller::Verb;

    fn template(label: &str) -> PodTemplateSpec {
        PodTemplateSpec {
            metadata: Some(ObjectMeta {
                labels: Some([("v".to_owned(), label.to_owned())].into()),
                ..ObjectMeta::default()
            }),
            spec: None,
        }
    }

    fn revision(number: i64, label: &str) -> Arc<ControllerRevision> {
        Arc::new(ControllerRevision {
            metadata: ObjectMeta {
                name: Some(label.to_owned()),
                labels: Some([(HASH_LABEL.to_owned(), label.to_owned())].into()),
                ..ObjectMeta::default()
            },
            data: Some(RawExtension(patch_of(&template(label)))),
            revision: number,
        })
    }

    #[test]
    fn revisions_are_found_raised_or_made() {
        let meta = ObjectMeta {
            name: Some("set".into()),
            ..ObjectMeta::default()
        };
        let owner = Owner {
            meta: &meta,
            reference: OwnerReference::default(),
            collisions: None,
        };
        let all = [revision(1, "a"), revision(2, "b")];
        assert!(
            matches!(current(&owner, &template("b"), &all, |_| false), Current::Is(r) if r.revision == 2)
        );
        let Current::Write(raise) = current(&owner, &template("a"), &all, |_| false) else {
            panic!("a rollback raises the number");
        };
        assert_eq!(
            (raise.verb, raise.body["revision"].as_i64()),
            (Verb::Update, Some(3))
        );
        let Current::Write(create) = current(&owner, &template("c"), &all, |_| false) else {
            panic!("a new template is a new revision");
        };
        assert_eq!(
            (create.verb, create.body["revision"].as_i64()),
            (Verb::Create, Some(3))
        );
        assert!(matches!(
            current(&owner, &template("c"), &all, |_| true),
            Current::Collision
        ));
    }

    #[test]
    fn live_revisions_are_kept() {
        let all = [revision(1, "a"), revision(2, "b"), revision(3, "c")];
        let live = HashSet::from(["a".to_owned()]);
        let deleted: Vec<_> = cleanup(&all, &live, &["c"], Some(0))
            .iter()
            .map(|a| a.target.name.clone())
            .collect();
        assert_eq!(deleted, ["b"]);
    }
}
