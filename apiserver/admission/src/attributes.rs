//! What a write is, as far as admission is concerned.

use std::sync::Arc;

use keelson_auth::{Authorizer, UserInfo};
use keelson_machinery::{GroupResource, GroupVersionKind, GroupVersionResource, Status};
use serde_json::Value;

/// What is done to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    /// `exec`, `attach`, `portforward`, `proxy`.
    Connect,
}

impl Operation {
    /// As webhooks and policies name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// A write to be admitted. The object itself travels beside it, as plugins may change it.
pub struct AdmissionAttributes<'a> {
    pub user: Arc<UserInfo>,
    pub operation: Operation,
    pub kind: GroupVersionKind,
    pub resource: GroupVersionResource,
    /// Empty where the resource itself is written.
    pub subresource: &'a str,
    /// Empty for cluster-scoped resources.
    pub namespace: &'a str,
    /// Empty while a name is still to be generated.
    pub name: &'a str,
    /// The stored object, for updates and deletes.
    pub old: Option<&'a Value>,
    /// `CreateOptions`, `UpdateOptions`, `PatchOptions` or `DeleteOptions`.
    pub options: &'a Value,
    pub dry_run: bool,
    /// For plugins that ask whether the user might do something else as well.
    pub authorizer: &'a dyn Authorizer,
    /// The time the request is judged at.
    pub now: jiff::Timestamp,
    /// Five random characters of upstream's alphabet (`bcdfghjklmnpqrstvwxz2456789`), for names made during admission.
    pub name_suffix: &'a str,
}

impl AdmissionAttributes<'_> {
    pub fn group_resource(&self) -> GroupResource {
        self.resource.group_resource()
    }

    /// Whether the resource itself (no subresource) of this group is meant.
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.subresource.is_empty() && self.is_any(group, resource)
    }

    /// The resource or one of its subresources.
    pub fn is_any(&self, group: &str, resource: &str) -> bool {
        self.resource.group == group && self.resource.resource == resource
    }

    /// Upstream's `admission.NewForbidden`: `pods "x" is forbidden: why`.
    pub fn forbidden(&self, object: &Value, why: &str) -> Status {
        let resource = GroupResource {
            group: self.resource.group.clone(),
            resource: self.resource.resource.clone(),
        };
        Status::forbidden(&resource, &self.object_name(object), why)
    }

    /// The name, or what upstream shows while there is none: the prefix it is generated from, or `Unknown`.
    pub fn object_name(&self, object: &Value) -> String {
        if !self.name.is_empty() {
            return self.name.to_owned();
        }
        let metadata = &object["metadata"];
        match (metadata["name"].as_str(), metadata["generateName"].as_str()) {
            (Some(name), _) if !name.is_empty() => name.to_owned(),
            (_, Some(prefix)) if !prefix.is_empty() => prefix.to_owned(),
            _ => "Unknown".to_owned(),
        }
    }
}
