//! Kinds of `rbac.authorization.k8s.io`: roles here, bindings in their own file.

mod binding;

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value};

pub use binding::{ClusterRoleBinding, RoleBinding};

use crate::kind::{Column, Kind, resource};
use crate::{cells, check, metadata, strategy};

const COLUMNS: &[Column] = &[
    cells::NAME,
    Column::new(
        "Created At",
        "date",
        "CreationTimestamp is a timestamp representing the server time when this object was created.",
        0,
    ),
];

/// Role: rules within a namespace.
pub struct Role;
/// ClusterRole: rules everywhere, on cluster-scoped resources and on paths.
pub struct ClusterRole;

impl Kind for Role {
    resource!("rbac.authorization.k8s.io", "v1", "roles");

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, metadata::path_segment_name);
        rules(&mut e, &Cursor::root(new).child("rules"), true);
        e
    }

    fn create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, _now: Timestamp) -> Vec<Value> {
        vec![cells::name(obj), obj["metadata"]["creationTimestamp"].clone()]
    }
}

impl Kind for ClusterRole {
    resource!("rbac.authorization.k8s.io", "v1", "clusterroles");

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, metadata::path_segment_name);
        let role = Cursor::root(new);
        rules(&mut e, &role.child("rules"), false);
        let aggregation = role.child("aggregationRule");
        if !aggregation.is_absent() {
            let selectors = aggregation.child("clusterRoleSelectors");
            if selectors.is_empty() {
                e.required(
                    selectors.path(),
                    "at least one clusterRoleSelector required if aggregationRule is non-nil",
                );
            }
            for selector in selectors.items() {
                check::label_selector(&mut e, &selector);
            }
        }
        e
    }

    fn create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, _now: Timestamp) -> Vec<Value> {
        vec![cells::name(obj), obj["metadata"]["creationTimestamp"].clone()]
    }
}

fn rules(e: &mut FieldErrors, list: &Cursor, namespaced: bool) {
    for rule in list.items() {
        let verbs = rule.child("verbs");
        if verbs.is_empty() {
            e.required(verbs.path(), "verbs must contain at least one value");
        }
        let paths = rule.child("nonResourceURLs");
        let (groups, resources) = (rule.child("apiGroups"), rule.child("resources"));
        if !paths.is_empty() {
            if namespaced {
                check::invalid(e, &paths, "namespaced rules cannot apply to non-resource URLs");
            }
            if [&groups, &resources, &rule.child("resourceNames")]
                .iter()
                .any(|l| !l.is_empty())
            {
                check::invalid(
                    e,
                    &paths,
                    "rules cannot apply to both regular resources and non-resource URLs",
                );
            }
            continue;
        }
        if groups.is_empty() {
            e.required(groups.path(), "resource rules must supply at least one api group");
        }
        if resources.is_empty() {
            e.required(
                resources.path(),
                "resource rules must supply at least one resource",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{create, update};
    use serde_json::json;

    #[test]
    fn rules_are_whole() {
        let role = |rule: Value| json!({"metadata": {"name": "system:a", "namespace": "d"}, "rules": [rule]});
        assert_eq!(
            create(&Role, role(json!({}))),
            [
                "rules[0].verbs: Required value: verbs must contain at least one value",
                "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
                "rules[0].resources: Required value: resource rules must supply at least one resource",
            ]
        );
        assert_eq!(
            create(&Role, role(json!({"verbs": ["get"], "nonResourceURLs": ["/x"]}))),
            [
                "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs"
            ]
        );
    }

    #[test]
    fn bindings_keep_their_role() {
        let binding = |role: &str| {
            json!({"metadata": {"name": "b", "namespace": "d"},
                "roleRef": {"kind": "Role", "name": role},
                "subjects": [{"kind": "ServiceAccount", "name": "s", "namespace": "d"}]})
        };
        assert_eq!(create(&RoleBinding, binding("r")), Vec::<String>::new());
        assert_eq!(
            update(&RoleBinding, binding("q"), binding("r")),
            [
                "roleRef: Invalid value: {\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"Role\",\"name\":\"q\"}: \
                 cannot change roleRef",
            ]
        );
    }
}
