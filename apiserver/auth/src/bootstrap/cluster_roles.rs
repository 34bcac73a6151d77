//! The ClusterRoles every cluster has, apart from those of controllers, and their bindings (facts of Kubernetes 1.36).

use super::rule::Subject::{Group, ServiceAccount, User};
use super::rule::{
    ClusterRole, EVENTS, READ, READ_UPDATE, READ_WRITE, Rule, Subject, WRITE, named, on, role, urls,
};
use crate::user;

const TO_ADMIN: &str = "rbac.authorization.k8s.io/aggregate-to-admin";
const TO_EDIT: &str = "rbac.authorization.k8s.io/aggregate-to-edit";
const TO_VIEW: &str = "rbac.authorization.k8s.io/aggregate-to-view";

const fn aggregate(name: &'static str, label: Option<&'static str>, aggregates: &'static str) -> ClusterRole {
    ClusterRole {
        name,
        label,
        aggregates: Some(aggregates),
        rules: &[],
    }
}

const fn part(name: &'static str, label: &'static str, rules: &'static [Rule]) -> ClusterRole {
    ClusterRole {
        name,
        label: Some(label),
        aggregates: None,
        rules,
    }
}

/// What a kubelet may do, where the Node authorizer's graph does not decide.
pub const NODE_RULES: &[Rule] = &[
    on("create", "authentication.k8s.io", "tokenreviews"),
    on(
        "create",
        "authorization.k8s.io",
        "subjectaccessreviews localsubjectaccessreviews",
    ),
    on(READ, "core", "services"),
    on("create get list watch", "core", "nodes"),
    on("update patch", "core", "nodes/status"),
    on("update patch", "core", "nodes"),
    on("create update patch", "core", "events"),
    on(READ, "core", "pods"),
    on("create delete", "core", "pods"),
    on("update patch", "core", "pods/status"),
    on("create", "core", "pods/eviction"),
    on(READ, "core", "secrets configmaps"),
    on("get", "core", "persistentvolumeclaims persistentvolumes"),
    on("get", "core", "endpoints"),
    on(
        "create get list watch",
        "certificates.k8s.io",
        "certificatesigningrequests",
    ),
    on("get create update patch delete", "coordination.k8s.io", "leases"),
    on("get", "storage.k8s.io", "volumeattachments"),
    on("create", "core", "serviceaccounts/token"),
    on("get update patch", "core", "persistentvolumeclaims/status"),
    on(READ, "storage.k8s.io", "csidrivers"),
    on("get create update patch delete", "storage.k8s.io", "csinodes"),
    on(READ, "node.k8s.io", "runtimeclasses"),
    on("get", "resource.k8s.io", "resourceclaims"),
    on("deletecollection", "resource.k8s.io", "resourceslices"),
    on("get", "core", "serviceaccounts"),
];

const EDIT_RULES: &[Rule] = &[
    on(
        READ,
        "core",
        "pods/attach pods/proxy pods/exec pods/portforward secrets services/proxy",
    ),
    on("impersonate", "core", "serviceaccounts"),
    on(
        WRITE,
        "core",
        "pods pods/attach pods/proxy pods/exec pods/portforward",
    ),
    on("create", "core", "pods/eviction"),
    on(
        WRITE,
        "core",
        "replicationcontrollers replicationcontrollers/scale serviceaccounts services services/proxy \
         persistentvolumeclaims configmaps secrets events",
    ),
    on("create", "core", "serviceaccounts/token"),
    on(
        WRITE,
        "apps",
        "statefulsets statefulsets/scale daemonsets deployments deployments/scale deployments/rollback \
         replicasets replicasets/scale",
    ),
    on(WRITE, "autoscaling", "horizontalpodautoscalers"),
    on(WRITE, "batch", "jobs cronjobs"),
    on(
        WRITE,
        "extensions",
        "daemonsets deployments deployments/scale deployments/rollback ingresses replicasets \
         replicasets/scale replicationcontrollers/scale networkpolicies",
    ),
    on(WRITE, "policy", "poddisruptionbudgets"),
    on(WRITE, "networking.k8s.io", "networkpolicies ingresses"),
    on(READ_WRITE, "coordination.k8s.io", "leases"),
    on(WRITE, "resource.k8s.io", "resourceclaims resourceclaimtemplates"),
];

const VIEW_RULES: &[Rule] = &[
    on(
        READ,
        "core",
        "pods replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status \
         endpoints persistentvolumeclaims persistentvolumeclaims/status configmaps",
    ),
    on(
        READ,
        "core",
        "limitranges resourcequotas bindings events pods/status resourcequotas/status namespaces/status \
         replicationcontrollers/status pods/log",
    ),
    on(READ, "core", "namespaces"),
    on(READ, "discovery.k8s.io", "endpointslices"),
    on(
        READ,
        "apps",
        "controllerrevisions statefulsets statefulsets/status statefulsets/scale daemonsets daemonsets/status \
         deployments deployments/status deployments/scale replicasets replicasets/status replicasets/scale",
    ),
    on(
        READ,
        "autoscaling",
        "horizontalpodautoscalers horizontalpodautoscalers/status",
    ),
    on(READ, "batch", "jobs cronjobs cronjobs/status jobs/status"),
    on(
        READ,
        "extensions",
        "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses \
         ingresses/status replicasets replicasets/scale replicasets/status replicationcontrollers/scale \
         networkpolicies",
    ),
    on(READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
    on(
        READ,
        "networking.k8s.io",
        "networkpolicies ingresses ingresses/status",
    ),
    on(
        READ,
        "resource.k8s.io",
        "resourceclaims resourceclaims/status resourceclaimtemplates",
    ),
];

const CONTROLLER_MANAGER_RULES: &[Rule] = &[
    EVENTS,
    on("create", "coordination.k8s.io", "leases"),
    named(
        "get update",
        "coordination.k8s.io",
        "leases",
        "kube-controller-manager",
    ),
    on("create", "core", "secrets serviceaccounts"),
    on("delete", "core", "secrets"),
    on("get", "core", "namespaces secrets serviceaccounts configmaps"),
    on("update", "core", "secrets serviceaccounts"),
    on("create", "authentication.k8s.io", "tokenreviews"),
    on("create", "authorization.k8s.io", "subjectaccessreviews"),
    on("list watch", "*", "*"),
    on("create", "core", "serviceaccounts/token"),
];

const SCHEDULER_RULES: &[Rule] = &[
    EVENTS,
    on("create", "coordination.k8s.io", "leases"),
    named(
        "get list update watch",
        "coordination.k8s.io",
        "leases",
        "kube-scheduler",
    ),
    on(READ, "core", "nodes"),
    on("get list watch delete", "core", "pods"),
    on("create", "core", "pods/binding bindings"),
    on("patch update", "core", "pods/status"),
    on(READ, "core", "services replicationcontrollers"),
    on(READ, "apps extensions", "replicasets"),
    on(READ, "apps", "statefulsets"),
    on(READ, "policy", "poddisruptionbudgets"),
    on(READ, "core", "persistentvolumeclaims persistentvolumes"),
    on("create", "authentication.k8s.io", "tokenreviews"),
    on("create", "authorization.k8s.io", "subjectaccessreviews"),
    on(READ, "storage.k8s.io", "csinodes"),
    on(READ, "storage.k8s.io", "volumeattachments"),
    on(READ, "core", "namespaces"),
    on(READ, "storage.k8s.io", "csidrivers"),
    on(READ, "storage.k8s.io", "csistoragecapacities"),
    on(READ, "resource.k8s.io", "deviceclasses"),
    on(READ_UPDATE, "resource.k8s.io", "resourceclaims"),
    on(READ_UPDATE, "resource.k8s.io", "resourceclaims/status"),
    on(READ_UPDATE, "core", "pods/finalizers"),
    on(READ, "resource.k8s.io", "resourceslices"),
    on(READ, "resource.k8s.io", "devicetaintrules"),
];

/// In upstream's order.
pub const CLUSTER_ROLES: &[ClusterRole] = &[
    role("cluster-admin", &[on("*", "*", "*"), urls("*", "*")]),
    role(
        "system:discovery",
        &[urls(
            "get",
            "/livez /readyz /healthz /version /version/ /openapi /openapi/* /api /api/* /apis /apis/*",
        )],
    ),
    role(
        "system:monitoring",
        &[
            urls(
                "get",
                "/metrics /metrics/slis /livez /readyz /healthz /livez/* /readyz/* /healthz/*",
            ),
            urls("get", "/flagz"),
            urls("get", "/statusz"),
        ],
    ),
    role(
        "system:basic-user",
        &[
            on(
                "create",
                "authorization.k8s.io",
                "selfsubjectaccessreviews selfsubjectrulesreviews",
            ),
            on("create", "authentication.k8s.io", "selfsubjectreviews"),
        ],
    ),
    role(
        "system:public-info-viewer",
        &[urls("get", "/livez /readyz /healthz /version /version/")],
    ),
    aggregate("admin", None, TO_ADMIN),
    aggregate("edit", Some(TO_ADMIN), TO_EDIT),
    aggregate("view", Some(TO_EDIT), TO_VIEW),
    part(
        "system:aggregate-to-admin",
        TO_ADMIN,
        &[
            on("create", "authorization.k8s.io", "localsubjectaccessreviews"),
            on(READ_WRITE, "rbac.authorization.k8s.io", "roles rolebindings"),
        ],
    ),
    part("system:aggregate-to-edit", TO_EDIT, EDIT_RULES),
    part("system:aggregate-to-view", TO_VIEW, VIEW_RULES),
    role(
        "system:heapster",
        &[
            on(READ, "core", "events pods nodes namespaces"),
            on(READ, "extensions", "deployments"),
        ],
    ),
    role("system:node", NODE_RULES),
    role(
        "system:node-problem-detector",
        &[
            on("get", "core", "nodes"),
            on("patch", "core", "nodes/status"),
            EVENTS,
        ],
    ),
    role(
        "system:kubelet-api-admin",
        &[
            on(READ, "core", "nodes"),
            on("proxy", "core", "nodes"),
            on("*", "core", "nodes/proxy nodes/metrics nodes/stats nodes/log"),
            on("*", "core", "nodes/configz nodes/healthz nodes/pods"),
        ],
    ),
    role(
        "system:node-bootstrapper",
        &[on(
            "create get list watch",
            "certificates.k8s.io",
            "certificatesigningrequests",
        )],
    ),
    role(
        "system:auth-delegator",
        &[
            on("create", "authentication.k8s.io", "tokenreviews"),
            on("create", "authorization.k8s.io", "subjectaccessreviews"),
        ],
    ),
    role(
        "system:kube-aggregator",
        &[on(READ, "core", "services endpoints")],
    ),
    role("system:kube-controller-manager", CONTROLLER_MANAGER_RULES),
    role(
        "system:kube-dns",
        &[on("list watch", "core", "endpoints services")],
    ),
    role(
        "system:persistent-volume-provisioner",
        &[
            on("get list watch create delete", "core", "persistentvolumes"),
            on("get list watch update", "core", "persistentvolumeclaims"),
            on(READ, "storage.k8s.io", "storageclasses"),
            on("watch", "core", "events"),
            EVENTS,
        ],
    ),
    role(
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        &[on(
            "create",
            "certificates.k8s.io",
            "certificatesigningrequests/nodeclient",
        )],
    ),
    role(
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        &[on(
            "create",
            "certificates.k8s.io",
            "certificatesigningrequests/selfnodeclient",
        )],
    ),
    role(
        "system:volume-scheduler",
        &[
            on(READ_UPDATE, "core", "persistentvolumes"),
            on(READ, "storage.k8s.io", "storageclasses"),
            on(READ_UPDATE, "core", "persistentvolumeclaims"),
        ],
    ),
    role(
        "system:certificates.k8s.io:legacy-unknown-approver",
        &[named(
            "approve",
            "certificates.k8s.io",
            "signers",
            "kubernetes.io/legacy-unknown",
        )],
    ),
    role(
        "system:certificates.k8s.io:kubelet-serving-approver",
        &[named(
            "approve",
            "certificates.k8s.io",
            "signers",
            "kubernetes.io/kubelet-serving",
        )],
    ),
    role(
        "system:certificates.k8s.io:kube-apiserver-client-approver",
        &[named(
            "approve",
            "certificates.k8s.io",
            "signers",
            "kubernetes.io/kube-apiserver-client",
        )],
    ),
    role(
        "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
        &[named(
            "approve",
            "certificates.k8s.io",
            "signers",
            "kubernetes.io/kube-apiserver-client-kubelet",
        )],
    ),
    role(
        "system:service-account-issuer-discovery",
        &[urls(
            "get",
            "/.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/",
        )],
    ),
    role(
        "system:node-proxier",
        &[
            on("list watch", "core", "services endpoints"),
            on(READ, "core", "nodes"),
            EVENTS,
            on("list watch", "networking.k8s.io", "servicecidrs"),
            on("list watch", "discovery.k8s.io", "endpointslices"),
        ],
    ),
    role("system:kube-scheduler", SCHEDULER_RULES),
];

/// Role and subjects of each ClusterRoleBinding, which is named like its role. `system:node` keeps an empty binding so that
/// clusters from before the Node authorizer lose the old one's subjects.
pub const CLUSTER_BINDINGS: &[(&str, &[Subject])] = &[
    ("cluster-admin", &[Group(user::MASTERS)]),
    ("system:monitoring", &[Group("system:monitoring")]),
    ("system:discovery", &[Group(user::ALL_AUTHENTICATED)]),
    ("system:basic-user", &[Group(user::ALL_AUTHENTICATED)]),
    (
        "system:public-info-viewer",
        &[Group(user::ALL_AUTHENTICATED), Group(user::ALL_UNAUTHENTICATED)],
    ),
    ("system:node-proxier", &[User(user::KUBE_PROXY)]),
    (
        "system:kube-controller-manager",
        &[User(user::KUBE_CONTROLLER_MANAGER)],
    ),
    ("system:kube-dns", &[ServiceAccount("kube-dns")]),
    ("system:kube-scheduler", &[User(user::KUBE_SCHEDULER)]),
    ("system:volume-scheduler", &[User(user::KUBE_SCHEDULER)]),
    ("system:node", &[]),
    (
        "system:service-account-issuer-discovery",
        &[Group(user::ALL_SERVICE_ACCOUNTS)],
    ),
];
