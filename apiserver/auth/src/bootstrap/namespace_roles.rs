//! The roles and bindings of kube-system and kube-public.

use serde_json::Value;

use super::rule::Subject::{ServiceAccount, User};
use super::rule::{EVENTS, READ, Rule, Subject, binding, named, namespaced_role, on};
use crate::user::{KUBE_CONTROLLER_MANAGER, KUBE_SCHEDULER};

const LEADER_LOCKING: &[Rule] = &[on(
    "get watch list create update",
    "coordination.k8s.io",
    "leases",
)];

const ROLES: &[(&str, &str, &[Rule])] = &[
    (
        "kube-system",
        "extension-apiserver-authentication-reader",
        &[named(
            READ,
            "core",
            "configmaps",
            "extension-apiserver-authentication",
        )],
    ),
    (
        "kube-system",
        "system:controller:bootstrap-signer",
        &[on(READ, "core", "secrets")],
    ),
    (
        "kube-system",
        "system:controller:cloud-provider",
        &[on("create get list watch", "core", "configmaps")],
    ),
    (
        "kube-system",
        "system:controller:token-cleaner",
        &[on("get list watch delete", "core", "secrets"), EVENTS],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-controller-manager",
        LEADER_LOCKING,
    ),
    (
        "kube-system",
        "system::leader-locking-kube-scheduler",
        LEADER_LOCKING,
    ),
    (
        "kube-public",
        "system:controller:bootstrap-signer",
        &[
            on(READ, "core", "configmaps"),
            named("update", "core", "configmaps", "cluster-info"),
            EVENTS,
        ],
    ),
];

/// Namespace, binding, role, subjects.
const BINDINGS: &[(&str, &str, &str, &[Subject])] = &[
    (
        "kube-system",
        "system::extension-apiserver-authentication-reader",
        "extension-apiserver-authentication-reader",
        &[User(KUBE_CONTROLLER_MANAGER), User(KUBE_SCHEDULER)],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-controller-manager",
        "system::leader-locking-kube-controller-manager",
        &[
            User(KUBE_CONTROLLER_MANAGER),
            ServiceAccount("kube-controller-manager"),
        ],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-scheduler",
        "system::leader-locking-kube-scheduler",
        &[User(KUBE_SCHEDULER), ServiceAccount("kube-scheduler")],
    ),
    (
        "kube-system",
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        &[ServiceAccount("bootstrap-signer")],
    ),
    (
        "kube-system",
        "system:controller:cloud-provider",
        "system:controller:cloud-provider",
        &[ServiceAccount("cloud-provider")],
    ),
    (
        "kube-system",
        "system:controller:token-cleaner",
        "system:controller:token-cleaner",
        &[ServiceAccount("token-cleaner")],
    ),
    (
        "kube-public",
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        &[ServiceAccount("bootstrap-signer")],
    ),
];

pub fn roles() -> impl Iterator<Item = Value> {
    ROLES
        .iter()
        .map(|(namespace, name, rules)| namespaced_role(namespace, name, rules))
}

pub fn bindings() -> impl Iterator<Item = Value> {
    BINDINGS
        .iter()
        .map(|(namespace, name, role, subjects)| binding(namespace, name, role, subjects))
}
