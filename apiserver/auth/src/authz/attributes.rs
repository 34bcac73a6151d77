//! What a request is, as far as authorization is concerned, and the text that refuses it.

use std::sync::Arc;

use keelson_machinery::gvk::Name;
use keelson_machinery::{GroupResource, Status, fields};
use serde_json::json;

use crate::user::UserInfo;

/// One requirement of a label or field selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectorRequirement {
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: &'static str,
    pub values: Vec<String>,
}

/// A request to be decided on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    pub user: Arc<UserInfo>,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, `proxy`, or a special verb
    /// (`bind`, `escalate`, `impersonate`, `use`, ...); for non-resource requests the HTTP method in lower case.
    pub verb: Name,
    /// Empty for cluster-scoped resources and for all namespaces.
    pub namespace: String,
    pub group: Name,
    pub version: Name,
    pub resource: Name,
    /// Empty where the resource itself is meant.
    pub subresource: Name,
    /// Empty where no single object is named.
    pub name: String,
    /// The URL path; only decides for non-resource requests.
    pub path: String,
    pub is_resource: bool,
    /// The request's field selector, where it could be parsed; all requirements hold at once.
    pub field_selector: Vec<SelectorRequirement>,
    pub label_selector: Vec<SelectorRequirement>,
}

impl Attributes {
    pub fn is_read_only(&self) -> bool {
        matches!(self.verb.as_ref(), "get" | "list" | "watch")
    }

    /// A parsed field selector as requirements.
    pub fn field_requirements(selector: &fields::Selector) -> Vec<SelectorRequirement> {
        let requirements = selector.requirements().iter();
        requirements
            .map(|requirement| SelectorRequirement {
                key: requirement.field.clone(),
                operator: if requirement.negated { "NotIn" } else { "In" },
                values: vec![requirement.value.clone()],
            })
            .collect()
    }

    /// `pods/status`, or `pods`.
    pub fn combined_resource(&self) -> String {
        match self.subresource.is_empty() {
            true => self.resource.to_string(),
            false => format!("{}/{}", self.resource, self.subresource),
        }
    }

    /// The refusal as clients see it: 403 with upstream's text, e.g. `pods is forbidden: User "bob" cannot list
    /// resource "pods" in API group "" in the namespace "default"`; `reason` is appended where there is one.
    pub fn forbidden(&self, reason: &str) -> Status {
        let text = self.forbidden_text();
        let why = match reason.is_empty() {
            true => text,
            false => format!("{text}: {reason}"),
        };
        let resource = GroupResource {
            group: self.group.clone(),
            resource: self.resource.clone(),
        };
        let mut status = Status::forbidden(&resource, &self.name, &why);
        if status.details.is_null() {
            status.details = json!({});
        }
        status
    }

    fn forbidden_text(&self) -> String {
        let user = &self.user.name;
        if !self.is_resource {
            return format!("User {user:?} cannot {} path {:?}", self.verb, self.path);
        }
        let resource = self.combined_resource();
        let head = format!(
            "User {user:?} cannot {} resource {resource:?} in API group {:?}",
            self.verb, self.group
        );
        match self.namespace.is_empty() {
            true => format!("{head} at the cluster scope"),
            false => format!("{head} in the namespace {:?}", self.namespace),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bob(verb: &'static str) -> Attributes {
        Attributes {
            user: Arc::new(UserInfo::new("bob", &[])),
            verb: verb.into(),
            is_resource: true,
            ..Attributes::default()
        }
    }

    #[test]
    fn refusals_read_as_upstreams() {
        let mut pods = bob("list");
        pods.resource = "pods".into();
        pods.namespace = "default".to_owned();
        let mut scale = bob("update");
        scale.group = "apps".into();
        scale.resource = "deployments".into();
        scale.subresource = "scale".into();
        scale.name = "web".to_owned();
        let mut path = bob("get");
        path.is_resource = false;
        path.path = "/metrics".to_owned();
        for (attributes, reason, message) in [
            (
                &pods,
                "",
                r#"pods is forbidden: User "bob" cannot list resource "pods" in API group "" in the namespace "default""#,
            ),
            (
                &scale,
                "no",
                r#"deployments.apps "web" is forbidden: User "bob" cannot update resource "deployments/scale" in API group "apps" at the cluster scope: no"#,
            ),
            (&path, "", r#"forbidden: User "bob" cannot get path "/metrics""#),
        ] {
            let status = attributes.forbidden(reason);
            assert_eq!((status.code, status.message.as_str()), (403, message));
        }
    }
}
