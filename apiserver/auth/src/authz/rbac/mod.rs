//! The RBAC authorizer: roles and bindings, compiled once and looked up by subject.
//!
//! The compiled [`Snapshot`] is rebuilt only when the reader's generation of one of the four resources has moved. Rules only
//! ever allow; a request nothing allows is `NoOpinion`, with the errors met on the way (bindings to roles that do not
//! exist) as the reason.

pub mod escalation;
pub mod rule;
pub mod snapshot;

use std::sync::Arc;

use keelson_machinery::{GroupResource, ObjectReader};
use parking_lot::RwLock;

use self::rule::Rule;
use self::snapshot::Snapshot;
use super::{Attributes, Authorizer, Decision};
use crate::user::UserInfo;

pub const GROUP: &str = "rbac.authorization.k8s.io";
pub const ROLES: GroupResource = GroupResource::new(GROUP, "roles");
pub const CLUSTER_ROLES: GroupResource = GroupResource::new(GROUP, "clusterroles");
pub const ROLE_BINDINGS: GroupResource = GroupResource::new(GROUP, "rolebindings");
pub const CLUSTER_ROLE_BINDINGS: GroupResource = GroupResource::new(GROUP, "clusterrolebindings");

/// Decides by the cluster's roles and bindings.
pub struct Rbac {
    reader: Arc<dyn ObjectReader>,
    /// The generations of the four resources and what was compiled from them. Held for writing only to swap the pointer.
    compiled: RwLock<([u64; 4], Arc<Snapshot>)>,
}

impl Rbac {
    pub fn new(reader: Arc<dyn ObjectReader>) -> Self {
        let empty = ([u64::MAX; 4], Arc::new(Snapshot::default()));
        Self {
            reader,
            compiled: RwLock::new(empty),
        }
    }

    /// The policy as of now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        let resources = [&ROLES, &CLUSTER_ROLES, &ROLE_BINDINGS, &CLUSTER_ROLE_BINDINGS];
        let generations = resources.map(|resource| self.reader.generation(resource));
        {
            let compiled = self.compiled.read();
            if compiled.0 == generations {
                return compiled.1.clone();
            }
        }
        // The generations were read first: what is listed now is at least as new, so a snapshot is never kept under
        // numbers newer than its contents.
        let snapshot = Arc::new(Snapshot::compile(self.reader.as_ref()));
        *self.compiled.write() = (generations, snapshot.clone());
        snapshot
    }

    /// Every rule the user holds in the namespace (empty: cluster-wide only), and what could not be resolved.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        let snapshot = self.snapshot();
        let mut rules = Vec::new();
        let mut errors = Vec::new();
        snapshot.visit(user, namespace, |grant| {
            match &grant.rules {
                Ok(own) => rules.extend(own.iter().cloned()),
                Err(error) => errors.push(error.clone()),
            }
            None::<()>
        });
        (rules, errors)
    }
}

impl Authorizer for Rbac {
    fn authorize(&self, request: &Attributes) -> (Decision, String) {
        let snapshot = self.snapshot();
        let mut errors: Vec<String> = Vec::new();
        let allowed = snapshot.visit(&request.user, &request.namespace, |grant| match &grant.rules {
            Ok(rules) => rules
                .iter()
                .any(|rule| rule.allows(request))
                .then(|| grant.to_string()),
            Err(error) => {
                if !errors.contains(error) {
                    errors.push(error.clone());
                }
                None
            }
        });
        match (allowed, errors.as_slice()) {
            (Some(by), _) => (Decision::Allow, format!("RBAC: allowed by {by}")),
            (None, []) => (Decision::NoOpinion, String::new()),
            (None, [one]) => (Decision::NoOpinion, format!("RBAC: {one}")),
            (None, many) => (Decision::NoOpinion, format!("RBAC: [{}]", many.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keelson_testkit::Objects;
    use serde_json::{Value, json};

    fn role(kind: &str, namespace: Option<&str>, name: &str, rules: Value) -> Value {
        let mut role = json!({"kind": kind, "metadata": {"name": name}, "rules": rules});
        if let Some(namespace) = namespace {
            role["metadata"]["namespace"] = namespace.into();
        }
        role
    }

    fn binding(namespace: Option<&str>, name: &str, to: (&str, &str), subject: Value) -> Value {
        let mut binding = json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": GROUP, "kind": to.0, "name": to.1},
            "subjects": [subject],
        });
        if let Some(namespace) = namespace {
            binding["metadata"]["namespace"] = namespace.into();
        }
        binding
    }

    fn cluster() -> Arc<Objects> {
        let read_pods = json!([{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}]);
        let all = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]);
        Arc::new(Objects::new([
            (
                GROUP,
                "clusterroles",
                role("ClusterRole", None, "reader", read_pods.clone()),
            ),
            (GROUP, "roles", role("Role", Some("dev"), "owner", all)),
            (
                GROUP,
                "clusterrolebindings",
                binding(
                    None,
                    "readers",
                    ("ClusterRole", "reader"),
                    json!({"kind": "Group", "name": "ops"}),
                ),
            ),
            (
                GROUP,
                "rolebindings",
                binding(
                    Some("dev"),
                    "owners",
                    ("Role", "owner"),
                    json!({"kind": "ServiceAccount", "name": "ci", "namespace": "build"}),
                ),
            ),
            (
                GROUP,
                "rolebindings",
                binding(
                    Some("dev"),
                    "broken",
                    ("ClusterRole", "gone"),
                    json!({"kind": "User", "name": "bob"}),
                ),
            ),
        ]))
    }

    fn request(
        user: &str,
        groups: &[&str],
        verb: &str,
        namespace: &str,
        resource: &'static str,
    ) -> Attributes {
        Attributes {
            user: Arc::new(UserInfo::new(user, groups)),
            verb: verb.to_owned().into(),
            namespace: namespace.to_owned(),
            resource: resource.into(),
            is_resource: true,
            ..Attributes::default()
        }
    }

    #[test]
    fn decisions_and_reasons_are_upstreams() {
        let rbac = Rbac::new(cluster());
        let ci = "system:serviceaccount:build:ci";
        for (request, decision, reason) in [
            (
                request("ann", &["ops"], "list", "dev", "pods"),
                Decision::Allow,
                r#"RBAC: allowed by ClusterRoleBinding "readers" of ClusterRole "reader" to Group "ops""#,
            ),
            (
                request("ann", &["ops"], "delete", "dev", "pods"),
                Decision::NoOpinion,
                "",
            ),
            (
                request(ci, &[], "delete", "dev", "secrets"),
                Decision::Allow,
                r#"RBAC: allowed by RoleBinding "owners/dev" of Role "owner" to ServiceAccount "ci/build""#,
            ),
            (
                request(ci, &[], "delete", "prod", "secrets"),
                Decision::NoOpinion,
                "",
            ),
            (request(ci, &[], "delete", "", "secrets"), Decision::NoOpinion, ""),
            (
                request("bob", &[], "get", "dev", "pods"),
                Decision::NoOpinion,
                r#"RBAC: clusterrole.rbac.authorization.k8s.io "gone" not found"#,
            ),
        ] {
            assert_eq!(
                rbac.authorize(&request),
                (decision, reason.to_owned()),
                "{request:?}"
            );
        }
    }

    #[test]
    fn a_changed_binding_counts_at_once() {
        let objects = cluster();
        let rbac = Rbac::new(objects.clone());
        let list = request("ann", &["ops"], "list", "", "pods");
        assert_eq!(rbac.authorize(&list).0, Decision::Allow);
        objects.remove(&CLUSTER_ROLE_BINDINGS, None, "readers");
        assert_eq!(rbac.authorize(&list).0, Decision::NoOpinion);
    }

    #[test]
    fn rights_cannot_be_given_away_unless_held() {
        let rbac = Rbac::new(cluster());
        let mut write = request("ann", &["ops"], "create", "dev", "roles");
        write.group = GROUP.into();
        let allowed = role(
            "Role",
            Some("dev"),
            "new",
            json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]),
        );
        assert_eq!(escalation::check(&rbac, &rbac, &write, &allowed, None), Ok(()));
        let refused = role(
            "Role",
            Some("dev"),
            "new",
            json!([{"verbs": ["get", "delete"], "apiGroups": [""], "resources": ["pods", "secrets"]}]),
        );
        let status = escalation::check(&rbac, &rbac, &write, &refused, None).unwrap_err();
        assert_eq!(
            status.message,
            "roles.rbac.authorization.k8s.io \"new\" is forbidden: user \"ann\" (groups=[\"ops\"]) is attempting to \
             grant RBAC permissions not currently held:\n\
             {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}\n\
             {APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"delete\"]}"
        );
        write.resource = "rolebindings".into();
        let to_owner = binding(
            Some("dev"),
            "x",
            ("Role", "owner"),
            json!({"kind": "User", "name": "ann"}),
        );
        let status = escalation::check(&rbac, &rbac, &write, &to_owner, None).unwrap_err();
        assert!(
            status
                .message
                .ends_with(r#"{APIGroups:["*"], Resources:["*"], Verbs:["*"]}"#),
            "{status}"
        );
        let to_nothing = binding(
            Some("dev"),
            "x",
            ("Role", "none"),
            json!({"kind": "User", "name": "ann"}),
        );
        assert_eq!(
            escalation::check(&rbac, &rbac, &write, &to_nothing, None)
                .unwrap_err()
                .code,
            404
        );
    }
}
