//! What the server makes for itself at start: namespaces, the RBAC policy, PriorityClasses, flow control.
//!
//! [`objects`] lists it as compact data; [`plan`] compares it with what is stored and says what to write. Nothing an operator took
//! over is touched: RBAC objects annotated `rbac.authorization.kubernetes.io/autoupdate: "false"`, flow-control objects
//! whose autoupdate annotation is not `true`. Nothing is ever taken away.

pub mod cluster_roles;
pub mod controller_roles;
pub mod flow_control;
pub mod namespace_roles;
pub mod priority;
mod reconcile;
pub mod rule;

pub use reconcile::{Action, plan};

use keelson_machinery::GroupResource;
use serde_json::{Value, json};

/// The namespaces that always exist.
pub const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Everything, in the order it should be created: namespaces, then roles before their bindings.
pub fn objects() -> Vec<(GroupResource, Value)> {
    let mut objects: Vec<(GroupResource, Value)> = Vec::new();
    let mut add = |group, resource, value| objects.push((GroupResource::new(group, resource), value));
    for name in NAMESPACES {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        add("", "namespaces", namespace);
    }
    for class in priority::priority_classes() {
        add("scheduling.k8s.io", "priorityclasses", class);
    }
    for level in flow_control::priority_levels() {
        add(
            "flowcontrol.apiserver.k8s.io",
            "prioritylevelconfigurations",
            level,
        );
    }
    for schema in flow_control::flow_schemas() {
        add("flowcontrol.apiserver.k8s.io", "flowschemas", schema);
    }
    for role in cluster_roles::CLUSTER_ROLES {
        add(RBAC, "clusterroles", role.to_value());
    }
    for (name, rules) in controller_roles::CONTROLLER_ROLES {
        let name: &str = &format!("{CONTROLLER_PREFIX}{name}");
        add(RBAC, "clusterroles", rule::cluster_role(name, rules));
    }
    for (role, subjects) in cluster_roles::CLUSTER_BINDINGS {
        add(RBAC, "clusterrolebindings", rule::cluster_binding(role, subjects));
    }
    for (name, _) in controller_roles::CONTROLLER_ROLES {
        let role = format!("{CONTROLLER_PREFIX}{name}");
        let binding = rule::cluster_binding(&role, &[rule::Subject::ServiceAccount(name)]);
        add(RBAC, "clusterrolebindings", binding);
    }
    for role in namespace_roles::roles() {
        add(RBAC, "roles", role);
    }
    for binding in namespace_roles::bindings() {
        add(RBAC, "rolebindings", binding);
    }
    objects
}

const RBAC: &str = "rbac.authorization.k8s.io";
const CONTROLLER_PREFIX: &str = "system:controller:";

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_object_has_one_place_and_every_binding_a_role() {
        let mut places = BTreeSet::new();
        let objects = objects();
        for (resource, object) in &objects {
            let metadata = &object["metadata"];
            let place = format!("{resource} {} {}", metadata["namespace"], metadata["name"]);
            assert!(places.insert(place.clone()), "twice: {place}");
        }
        for (_, binding) in objects.iter().filter(|(_, object)| object["roleRef"].is_object()) {
            let reference = &binding["roleRef"];
            let found = objects.iter().any(|(_, role)| {
                role["kind"] == reference["kind"]
                    && role["metadata"]["name"] == reference["name"]
                    && (reference["kind"] == "ClusterRole"
                        || role["metadata"]["namespace"] == binding["metadata"]["namespace"])
            });
            assert!(found, "{} has no role", binding["metadata"]["name"]);
        }
    }

    #[test]
    fn the_edit_role_is_an_aggregate() {
        let objects = objects();
        let edit = &objects
            .iter()
            .find(|(resource, object)| {
                resource.resource == "clusterroles" && object["metadata"]["name"] == "edit"
            })
            .unwrap()
            .1;
        let wanted = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {
                "name": "edit",
                "labels": {
                    "kubernetes.io/bootstrapping": "rbac-defaults",
                    "rbac.authorization.k8s.io/aggregate-to-admin": "true",
                },
                "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
            },
            "aggregationRule": {"clusterRoleSelectors": [
                {"matchLabels": {"rbac.authorization.k8s.io/aggregate-to-edit": "true"}},
            ]},
        });
        assert_eq!(edit, &wanted);
    }
}
