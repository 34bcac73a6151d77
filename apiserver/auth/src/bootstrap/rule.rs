//! The notation of the bootstrap policy: one line per rule, expanded into RBAC objects on demand.
//!
//! Lists are words in one string; the core group is written `core`. Verbs, groups and resources are sorted when
//! expanded, as upstream's builder sorts them, so that the objects compare equal with those an upstream server made.

use serde_json::{Map, Value, json};

/// The label of everything the server makes and reconciles at start.
pub const LABEL: (&str, &str) = ("kubernetes.io/bootstrapping", "rbac-defaults");
/// `false` tells the server to leave an object alone.
pub const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

pub const READ: &str = "get list watch";
pub const WRITE: &str = "create update patch delete deletecollection";
pub const READ_WRITE: &str = "get list watch create update patch delete deletecollection";
pub const READ_UPDATE: &str = "get list watch update patch";

/// One policy rule.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    verbs: &'static str,
    groups: &'static str,
    resources: &'static str,
    names: &'static str,
    urls: &'static str,
}

/// Verbs on resources of groups.
pub const fn on(verbs: &'static str, groups: &'static str, resources: &'static str) -> Rule {
    Rule {
        verbs,
        groups,
        resources,
        names: "",
        urls: "",
    }
}

/// Verbs on named objects only.
pub const fn named(
    verbs: &'static str,
    groups: &'static str,
    resources: &'static str,
    names: &'static str,
) -> Rule {
    Rule {
        verbs,
        groups,
        resources,
        names,
        urls: "",
    }
}

/// Verbs on paths that are no resources.
pub const fn urls(verbs: &'static str, urls: &'static str) -> Rule {
    Rule {
        verbs,
        groups: "",
        resources: "",
        names: "",
        urls,
    }
}

/// Writing events, in both groups.
pub const EVENTS: Rule = on("create update patch", "core events.k8s.io", "events");

fn words(text: &str) -> Vec<&str> {
    let mut words: Vec<&str> = text
        .split_whitespace()
        .map(|word| if word == "core" { "" } else { word })
        .collect();
    words.sort_unstable();
    words
}

impl Rule {
    /// `rbac/v1 PolicyRule`.
    pub fn to_value(self) -> Value {
        let mut rule = Map::new();
        rule.insert("verbs".to_owned(), words(self.verbs).into());
        for (key, text) in [
            ("apiGroups", self.groups),
            ("resources", self.resources),
            ("resourceNames", self.names),
            ("nonResourceURLs", self.urls),
        ] {
            if !text.is_empty() {
                rule.insert(key.to_owned(), words(text).into());
            }
        }
        Value::Object(rule)
    }
}

/// A ClusterRole, with the labels it adds to the standard one and, for aggregates, the label it collects.
#[derive(Clone, Copy, Debug)]
pub struct ClusterRole {
    pub name: &'static str,
    /// A label key whose value is `true`.
    pub label: Option<&'static str>,
    /// A label key: the rules come from the roles that carry it, and are filled in by a controller.
    pub aggregates: Option<&'static str>,
    pub rules: &'static [Rule],
}

pub const fn role(name: &'static str, rules: &'static [Rule]) -> ClusterRole {
    ClusterRole {
        name,
        label: None,
        aggregates: None,
        rules,
    }
}

fn metadata(name: &str, namespace: Option<&str>, label: Option<&str>) -> Value {
    let mut metadata = json!({
        "name": name,
        "labels": {LABEL.0: LABEL.1},
        "annotations": {AUTOUPDATE: "true"},
    });
    if let Some(namespace) = namespace {
        metadata["namespace"] = namespace.into();
    }
    if let Some(label) = label {
        metadata["labels"][label] = "true".into();
    }
    metadata
}

const API_VERSION: &str = "rbac.authorization.k8s.io/v1";
const GROUP: &str = "rbac.authorization.k8s.io";

impl ClusterRole {
    pub fn to_value(self) -> Value {
        let mut role = json!({
            "apiVersion": API_VERSION, "kind": "ClusterRole",
            "metadata": metadata(self.name, None, self.label),
        });
        match self.aggregates {
            Some(label) => {
                role["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]});
            }
            None => role["rules"] = self.rules.iter().map(|rule| rule.to_value()).collect(),
        }
        role
    }
}

/// A ClusterRole without further labels.
pub fn cluster_role(name: &str, rules: &[Rule]) -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": "ClusterRole",
        "metadata": metadata(name, None, None),
        "rules": rules.iter().map(|rule| rule.to_value()).collect::<Vec<_>>(),
    })
}

/// A Role of a system namespace.
pub fn namespaced_role(namespace: &str, name: &str, rules: &[Rule]) -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": "Role",
        "metadata": metadata(name, Some(namespace), None),
        "rules": rules.iter().map(|rule| rule.to_value()).collect::<Vec<_>>(),
    })
}

/// Who a binding is for.
#[derive(Clone, Copy, Debug)]
pub enum Subject {
    User(&'static str),
    Group(&'static str),
    /// Of the namespace kube-system.
    ServiceAccount(&'static str),
}

impl Subject {
    fn to_value(self) -> Value {
        match self {
            Self::User(name) => json!({"kind": "User", "apiGroup": GROUP, "name": name}),
            Self::Group(name) => json!({"kind": "Group", "apiGroup": GROUP, "name": name}),
            Self::ServiceAccount(name) => {
                json!({"kind": "ServiceAccount", "name": name, "namespace": "kube-system"})
            }
        }
    }
}

fn subjects(subjects: &[Subject]) -> Vec<Value> {
    subjects.iter().map(|subject| subject.to_value()).collect()
}

/// A ClusterRoleBinding named like its role.
pub fn cluster_binding(role: &str, to: &[Subject]) -> Value {
    let mut binding = json!({
        "apiVersion": API_VERSION, "kind": "ClusterRoleBinding",
        "metadata": metadata(role, None, None),
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role},
    });
    if !to.is_empty() {
        binding["subjects"] = subjects(to).into();
    }
    binding
}

/// A RoleBinding to a Role of the same namespace.
pub fn binding(namespace: &str, name: &str, role: &str, to: &[Subject]) -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": "RoleBinding",
        "metadata": metadata(name, Some(namespace), None),
        "roleRef": {"apiGroup": GROUP, "kind": "Role", "name": role},
        "subjects": subjects(to),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_expand_sorted() {
        let rule = named("update get", "core", "configmaps", "b a");
        let wanted = json!({"verbs": ["get", "update"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a", "b"]});
        assert_eq!(rule.to_value(), wanted);
    }
}
