//! One write a plan asks for. A value: nothing here does I/O.
//!
//! Each action names the object it was decided on: updates carry its uid and resourceVersion in their body, patches
//! its uid, deletions its uid as a precondition. The server refuses what no longer fits.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, Resource};
use keelson_client::{EventType, Key};
use serde::Serialize;
use serde_json::{Value, json};

/// Any built-in kind.
pub trait Kind: Resource + Metadata<Ty = ObjectMeta> + Serialize {}
impl<K: Resource + Metadata<Ty = ObjectMeta> + Serialize> Kind for K {}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Empty for the core group.
    pub group: String,
    /// "v1".
    pub version: String,
    /// "Pod"; finds the cache that will show the write.
    pub kind: String,
    /// "pods".
    pub resource: String,
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
    /// Empty for a creation with a generated name.
    pub name: String,
    /// "status", "scale", ...
    pub subresource: Option<&'static str>,
}

impl Target {
    /// The object itself.
    pub fn of<K: Kind>(object: &K) -> Self {
        let meta = object.metadata();
        Self {
            group: K::GROUP.to_owned(),
            version: K::VERSION.to_owned(),
            kind: K::KIND.to_owned(),
            resource: K::URL_PATH_SEGMENT.to_owned(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            subresource: None,
        }
    }

    /// Its key in the cache.
    pub fn key(&self) -> Key {
        Key::new(&self.namespace, &self.name)
    }

    /// The URL path of the object (`named`) or of its collection.
    pub fn path(&self, named: bool) -> String {
        let mut path = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        if !self.namespace.is_empty() {
            path += &format!("/namespaces/{}", self.namespace);
        }
        path += &format!("/{}", self.resource);
        if named {
            path += &format!("/{}", self.name);
            if let Some(subresource) = self.subresource {
                path += &format!("/{subresource}");
            }
        }
        path
    }
}

/// What to do to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// POST of the body.
    Create,
    /// PUT of the body.
    Update,
    /// PATCH with a strategic merge patch.
    StrategicPatch,
    /// PATCH with a merge patch.
    MergePatch,
    /// DELETE with the body as DeleteOptions.
    Delete,
    /// POST to a subresource of an existing object (eviction, token).
    Post,
}

/// An Event to be recorded. In its message `{name}` stands for the written object's name and `{error}` for the
/// server's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// What it is about.
    pub object: ObjectReference,
    /// Normal or Warning.
    pub type_: EventType,
    /// "SuccessfulCreate".
    pub reason: &'static str,
    /// See above.
    pub message: String,
}

impl Note {
    /// A Normal event.
    pub fn normal<K>(object: &K, reason: &'static str, message: impl Into<String>) -> Self
    where
        K: kube::Resource<DynamicType = ()>,
    {
        Self {
            object: keelson_client::events::reference(object),
            type_: EventType::Normal,
            reason,
            message: message.into(),
        }
    }

    /// A Warning event.
    pub fn warning<K>(object: &K, reason: &'static str, message: impl Into<String>) -> Self
    where
        K: kube::Resource<DynamicType = ()>,
    {
        Self {
            type_: EventType::Warning,
            ..Self::normal(object, reason, message)
        }
    }
}

/// An object that must, asked of the server itself, still be the same and not being deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct Guard {
    /// Which object.
    pub target: Target,
    /// It must have this uid.
    pub uid: String,
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    /// What to do.
    pub verb: Verb,
    /// To what.
    pub target: Target,
    /// Body of the request.
    pub body: Value,
    /// uid of the object decided on; empty for creations.
    pub uid: String,
    /// Checked live before the write (adoption).
    pub guard: Option<Guard>,
    /// Told when it succeeds.
    pub on_success: Option<Note>,
    /// Told when it fails.
    pub on_failure: Option<Note>,
    /// HTTP codes that are as good as success.
    pub tolerated: &'static [u16],
}

impl Action {
    fn new(verb: Verb, target: Target, body: Value, uid: Option<&String>) -> Self {
        Self {
            verb,
            target,
            body,
            uid: uid.cloned().unwrap_or_default(),
            guard: None,
            on_success: None,
            on_failure: None,
            tolerated: &[],
        }
    }

    /// Creates `object`.
    pub fn create<K: Kind>(object: &K) -> Self {
        Self::new(Verb::Create, Target::of(object), body(object), None)
    }

    /// Replaces an object by `object`, which keeps the uid and resourceVersion it was read with.
    pub fn update<K: Kind>(object: &K) -> Self {
        let uid = object.metadata().uid.as_ref();
        Self::new(Verb::Update, Target::of(object), body(object), uid)
    }

    /// Replaces a subresource ("status", "finalize", "approval").
    pub fn update_subresource<K: Kind>(object: &K, subresource: &'static str) -> Self {
        let mut action = Self::update(object);
        action.target.subresource = Some(subresource);
        action
    }

    /// Replaces the status.
    pub fn update_status<K: Kind>(object: &K) -> Self {
        Self::update_subresource(object, "status")
    }

    /// Patches `object`; its uid is added to the patch.
    pub fn patch<K: Kind>(verb: Verb, object: &K, mut patch: Value) -> Self {
        let uid = object.metadata().uid.as_ref();
        if patch.get("metadata").is_none() {
            patch["metadata"] = json!({});
        }
        patch["metadata"]["uid"] = json!(uid);
        Self::new(verb, Target::of(object), patch, uid)
    }

    /// Deletes `object` if it still has its uid. Being gone already is as good.
    pub fn delete<K: Kind>(object: &K) -> Self {
        let uid = object.metadata().uid.as_ref();
        let options = json!({ "preconditions": { "uid": uid } });
        Self::new(Verb::Delete, Target::of(object), options, uid).tolerating(&[404])
    }

    /// Adds a deletion option ("propagationPolicy", "gracePeriodSeconds").
    pub fn option(mut self, name: &str, value: Value) -> Self {
        self.body[name] = value;
        self
    }

    /// Requires that the decided-on object has not changed at all.
    pub fn at_version(mut self, version: Option<&str>) -> Self {
        self.body["preconditions"]["resourceVersion"] = json!(version);
        self
    }

    /// Sends it to a subresource.
    pub fn to_subresource(mut self, subresource: &'static str) -> Self {
        self.target.subresource = Some(subresource);
        self
    }

    /// See [`Guard`].
    pub fn guarded_by<K: Kind>(mut self, object: &K) -> Self {
        self.guard = Some(Guard {
            target: Target::of(object),
            uid: object.metadata().uid.clone().unwrap_or_default(),
        });
        self
    }

    /// Tells of success.
    pub fn on_success(mut self, note: Note) -> Self {
        self.on_success = Some(note);
        self
    }

    /// Tells of failure.
    pub fn on_failure(mut self, note: Note) -> Self {
        self.on_failure = Some(note);
        self
    }

    /// Takes these HTTP codes for success.
    pub fn tolerating(mut self, codes: &'static [u16]) -> Self {
        self.tolerated = codes;
        self
    }
}

fn body<K: Kind>(object: &K) -> Value {
    serde_json::to_value(object).expect("k8s-openapi objects have string keys and finite numbers")
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::ReplicaSet;
    use k8s_openapi::api::core::v1::Node;

    #[test]
    fn paths_are_the_apis() {
        let mut set = ReplicaSet::default();
        set.metadata.namespace = Some("ns".into());
        set.metadata.name = Some("web".into());
        set.metadata.uid = Some("u1".into());
        let status = Action::update_status(&set);
        assert_eq!(
            status.target.path(true),
            "/apis/apps/v1/namespaces/ns/replicasets/web/status"
        );
        assert_eq!(
            status.target.path(false),
            "/apis/apps/v1/namespaces/ns/replicasets"
        );
        let mut node = Node::default();
        node.metadata.name = Some("n1".into());
        assert_eq!(Target::of(&node).path(true), "/api/v1/nodes/n1");
        assert_eq!(Action::delete(&set).body, json!({"preconditions": {"uid": "u1"}}));
    }
}
