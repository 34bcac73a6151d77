//! Roles and bindings compiled for lookup: bindings by subject, each with its role's rules at hand.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use keelson_machinery::ObjectReader;
use serde_json::Value;

use super::rule::Rule;
use super::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES};
use crate::user::{UserInfo, service_account_user};

/// What one binding gives one subject.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Shown in the reason: `ClusterRoleBinding "x" of ClusterRole "y" to `.
    binding: Arc<str>,
    /// `Group "z"`.
    subject: String,
    /// The role's rules, or why there are none.
    pub rules: Result<Arc<[Rule]>, String>,
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.binding, self.subject)
    }
}

/// Grants by the user name (service accounts by theirs) and by the group they are for.
#[derive(Debug, Default)]
struct Scope {
    users: HashMap<String, Vec<Grant>>,
    groups: HashMap<String, Vec<Grant>>,
}

impl Scope {
    fn visit<'a, T>(&'a self, user: &UserInfo, visit: &mut impl FnMut(&'a Grant) -> Option<T>) -> Option<T> {
        let by_name = self.users.get(&user.name).into_iter().flatten();
        let by_group = user
            .groups
            .iter()
            .filter_map(|group| self.groups.get(group))
            .flatten();
        by_name.chain(by_group).find_map(visit)
    }
}

/// All roles and bindings of one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    cluster: Scope,
    namespaces: HashMap<String, Scope>,
}

impl Snapshot {
    pub fn compile(reader: &dyn ObjectReader) -> Self {
        let roles = Roles::read(reader);
        let mut snapshot = Self::default();
        for binding in reader.list(&CLUSTER_ROLE_BINDINGS, None) {
            snapshot.cluster.add(&binding, "", &roles);
        }
        for binding in reader.list(&ROLE_BINDINGS, None) {
            let namespace = binding["metadata"]["namespace"].as_str().unwrap_or("").to_owned();
            let scope = snapshot.namespaces.entry(namespace.clone()).or_default();
            scope.add(&binding, &namespace, &roles);
        }
        snapshot
    }

    /// Calls `visit` for what the user holds cluster-wide and in the namespace (where one is given) until it answers.
    pub fn visit<'a, T>(
        &'a self,
        user: &UserInfo,
        namespace: &str,
        mut visit: impl FnMut(&'a Grant) -> Option<T>,
    ) -> Option<T> {
        if let Some(answer) = self.cluster.visit(user, &mut visit) {
            return Some(answer);
        }
        if namespace.is_empty() {
            return None;
        }
        self.namespaces.get(namespace)?.visit(user, &mut visit)
    }
}

struct Roles {
    cluster: HashMap<String, Arc<[Rule]>>,
    namespaced: HashMap<(String, String), Arc<[Rule]>>,
}

impl Roles {
    fn read(reader: &dyn ObjectReader) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        let rules = |role: &Value| -> Arc<[Rule]> { Rule::list(&role["rules"]).into() };
        let cluster = reader.list(&CLUSTER_ROLES, None);
        let namespaced = reader.list(&ROLES, None);
        Self {
            cluster: cluster
                .iter()
                .map(|role| (text(&role["metadata"]["name"]), rules(role)))
                .collect(),
            namespaced: namespaced
                .iter()
                .map(|role| {
                    let metadata = &role["metadata"];
                    (
                        (text(&metadata["namespace"]), text(&metadata["name"])),
                        rules(role),
                    )
                })
                .collect(),
        }
    }

    fn find(&self, kind: &str, name: &str, namespace: &str) -> Result<Arc<[Rule]>, String> {
        let (found, resource) = match kind {
            "Role" => {
                let key = (namespace.to_owned(), name.to_owned());
                (self.namespaced.get(&key), "role")
            }
            "ClusterRole" => (self.cluster.get(name), "clusterrole"),
            other => return Err(format!("unsupported role reference kind: {other:?}")),
        };
        found
            .cloned()
            .ok_or_else(|| format!("{resource}.rbac.authorization.k8s.io {name:?} not found"))
    }
}

impl Scope {
    /// `namespace` is the binding's own; empty for cluster-wide bindings.
    fn add(&mut self, binding: &Value, namespace: &str, roles: &Roles) {
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        let reference = &binding["roleRef"];
        let (kind, role) = (text(&reference["kind"]), text(&reference["name"]));
        let rules = roles.find(&kind, &role, namespace);
        let name = text(&binding["metadata"]["name"]);
        let described: Arc<str> = match namespace.is_empty() {
            true => format!("ClusterRoleBinding {name:?} of {kind} {role:?} to ").into(),
            false => {
                let name = format!("{name}/{namespace}");
                format!("RoleBinding {name:?} of {kind} {role:?} to ").into()
            }
        };
        for subject in binding["subjects"].as_array().into_iter().flatten() {
            let (kind, name) = (text(&subject["kind"]), text(&subject["name"]));
            let (map, key, shown) = match kind.as_str() {
                "User" => (&mut self.users, name.clone(), name),
                "Group" => (&mut self.groups, name.clone(), name),
                "ServiceAccount" => {
                    let own = match subject["namespace"].as_str() {
                        Some(own) if !own.is_empty() => own,
                        _ if !namespace.is_empty() => namespace,
                        _ => continue,
                    };
                    let user = service_account_user(own, &name);
                    (&mut self.users, user, format!("{name}/{own}"))
                }
                _ => continue,
            };
            map.entry(key).or_default().push(Grant {
                binding: described.clone(),
                subject: format!("{kind} {shown:?}"),
                rules: rules.clone(),
            });
        }
    }
}
