//! The identity a request acts under, and the names upstream reserves (`k8s.io/apiserver/pkg/authentication/user`).

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// The user of requests that carry no credentials.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group that may do everything, whatever the roles say.
pub const MASTERS: &str = "system:masters";
/// Everyone who proved who they are.
pub const ALL_AUTHENTICATED: &str = "system:authenticated";
/// Everyone who did not.
pub const ALL_UNAUTHENTICATED: &str = "system:unauthenticated";
/// The kubelets.
pub const NODES: &str = "system:nodes";
/// What node user names start with.
pub const NODE_USER_PREFIX: &str = "system:node:";
/// What service account user names start with: `system:serviceaccount:NAMESPACE:NAME`.
pub const SERVICE_ACCOUNT_USER_PREFIX: &str = "system:serviceaccount:";
/// All service accounts; those of one namespace are in `system:serviceaccounts:NAMESPACE`.
pub const ALL_SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
/// Holders of bootstrap tokens.
pub const BOOTSTRAPPERS: &str = "system:bootstrappers";
/// The API server itself, on its loopback calls.
pub const API_SERVER: &str = "system:apiserver";
pub const KUBE_CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
pub const KUBE_SCHEDULER: &str = "system:kube-scheduler";
pub const KUBE_PROXY: &str = "system:kube-proxy";

/// Extra keys that bound service account tokens and client certificates set.
pub const EXTRA_CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";
pub const EXTRA_POD_NAME: &str = "authentication.kubernetes.io/pod-name";
pub const EXTRA_POD_UID: &str = "authentication.kubernetes.io/pod-uid";
pub const EXTRA_NODE_NAME: &str = "authentication.kubernetes.io/node-name";
pub const EXTRA_NODE_UID: &str = "authentication.kubernetes.io/node-uid";

/// Who a request is from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    pub name: String,
    /// Empty where the authenticator knows none.
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        Self {
            name: name.into(),
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
            ..Self::default()
        }
    }

    /// The user of a request without credentials.
    pub fn anonymous() -> Self {
        Self::new(ANONYMOUS, &[ALL_UNAUTHENTICATED])
    }

    /// The API server acting for itself.
    pub fn loopback() -> Self {
        Self::new(API_SERVER, &[MASTERS, ALL_AUTHENTICATED])
    }

    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    /// The node's name, where the user is a kubelet with a well-formed identity: upstream's default node identifier.
    pub fn node_name(&self) -> Option<&str> {
        let name = self.name.strip_prefix(NODE_USER_PREFIX)?;
        (!name.is_empty() && self.in_group(NODES)).then_some(name)
    }

    /// The user claims to be a node, named or not.
    pub fn is_node(&self) -> bool {
        self.name.starts_with(NODE_USER_PREFIX) && self.in_group(NODES)
    }

    /// Namespace and name, where the user is a service account.
    pub fn service_account(&self) -> Option<(&str, &str)> {
        split_service_account(&self.name)
    }

    /// `authentication/v1 UserInfo`, as reviews and admission webhooks carry it.
    pub fn to_value(&self) -> Value {
        let mut user = Map::new();
        if !self.name.is_empty() {
            user.insert("username".to_owned(), self.name.as_str().into());
        }
        if !self.uid.is_empty() {
            user.insert("uid".to_owned(), self.uid.as_str().into());
        }
        if !self.groups.is_empty() {
            user.insert("groups".to_owned(), self.groups.clone().into());
        }
        if !self.extra.is_empty() {
            let extra: Map<String, Value> = self
                .extra
                .iter()
                .map(|(key, values)| (key.clone(), values.clone().into()))
                .collect();
            user.insert("extra".to_owned(), extra.into());
        }
        Value::Object(user)
    }
}

/// `system:serviceaccount:NAMESPACE:NAME`.
pub fn service_account_user(namespace: &str, name: &str) -> String {
    format!("{SERVICE_ACCOUNT_USER_PREFIX}{namespace}:{name}")
}

/// Namespace and name of a service account's user name.
pub fn split_service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(SERVICE_ACCOUNT_USER_PREFIX)?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

/// The groups of every service account of a namespace, without `system:authenticated`.
pub fn service_account_groups(namespace: &str) -> Vec<String> {
    vec![
        ALL_SERVICE_ACCOUNTS.to_owned(),
        format!("{ALL_SERVICE_ACCOUNTS}:{namespace}"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_account_names_split_only_when_well_formed() {
        for (user, split) in [
            (
                "system:serviceaccount:kube-system:job-controller",
                Some(("kube-system", "job-controller")),
            ),
            ("system:serviceaccount:kube-system", None),
            ("system:serviceaccount::x", None),
            ("system:serviceaccount:a:b:c", None),
            ("bob", None),
        ] {
            assert_eq!(split_service_account(user), split, "{user}");
        }
    }

    #[test]
    fn a_node_needs_name_and_group() {
        let node = UserInfo::new("system:node:n1", &[NODES]);
        assert_eq!(node.node_name(), Some("n1"));
        assert_eq!(UserInfo::new("system:node:n1", &[]).node_name(), None);
        let nameless = UserInfo::new("system:node:", &[NODES]);
        assert_eq!((nameless.node_name(), nameless.is_node()), (None, true));
    }
}
