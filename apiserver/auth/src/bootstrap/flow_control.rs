//! The FlowSchemas and PriorityLevelConfigurations every cluster has (KEP-1040): the mandatory ones, whose specs the server
//! keeps, and the suggested ones, which an operator may take over.

use serde_json::{Value, json};

use crate::user::{
    ALL_AUTHENTICATED, ALL_SERVICE_ACCOUNTS, ALL_UNAUTHENTICATED, KUBE_CONTROLLER_MANAGER, KUBE_SCHEDULER,
    MASTERS, NODES,
};

/// `true`: the server keeps the spec as it ships it.
pub const AUTOUPDATE_SPEC: &str = "apf.kubernetes.io/autoupdate-spec";
/// Objects of these names are always kept as shipped.
pub const MANDATORY: [&str; 2] = ["exempt", "catch-all"];

const API_VERSION: &str = "flowcontrol.apiserver.k8s.io/v1";

/// Name, shares, lendable percent, queues, hand size; 50 requests per queue.
const QUEUED_LEVELS: [(&str, u32, u32, u32, u32); 6] = [
    ("system", 30, 33, 64, 6),
    ("node-high", 40, 25, 64, 6),
    ("leader-election", 10, 0, 16, 4),
    ("workload-high", 40, 50, 128, 6),
    ("workload-low", 100, 90, 128, 6),
    ("global-default", 20, 50, 128, 6),
];

fn level(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": "PriorityLevelConfiguration",
        "metadata": {"name": name, "annotations": {AUTOUPDATE_SPEC: "true"}},
        "spec": spec,
    })
}

pub fn priority_levels() -> Vec<Value> {
    let mut levels = vec![
        level(
            "exempt",
            json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}),
        ),
        level(
            "catch-all",
            json!({"type": "Limited", "limited": {
                "nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"},
            }}),
        ),
    ];
    for (name, shares, lendable, queues, hand) in QUEUED_LEVELS {
        let queuing = json!({"queues": queues, "handSize": hand, "queueLengthLimit": 50});
        levels.push(level(
            name,
            json!({"type": "Limited", "limited": {
                "nominalConcurrencyShares": shares, "lendablePercent": lendable,
                "limitResponse": {"type": "Queue", "queuing": queuing},
            }}),
        ));
    }
    levels
}

fn group(name: &str) -> Value {
    json!({"kind": "Group", "group": {"name": name}})
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "user": {"name": name}})
}

fn system_account(name: &str) -> Value {
    json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": name}})
}

fn resource_rule(verbs: &[&str], group: &str, resources: &[&str], cluster_scope: bool) -> Value {
    let mut rule = json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"]});
    if cluster_scope {
        rule["clusterScope"] = true.into();
    }
    rule
}

fn any_resource() -> Value {
    json!([resource_rule(&["*"], "*", &["*"], true)])
}

fn any_path() -> Value {
    json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}])
}

/// The place of a FlowSchema among the others.
struct Place(&'static str, &'static str, u32, Option<&'static str>);

fn schema(place: Place, subjects: Value, resources: Option<Value>, paths: Option<Value>) -> Value {
    let Place(name, level, precedence, distinguisher) = place;
    let mut rule = json!({"subjects": subjects});
    if let Some(resources) = resources {
        rule["resourceRules"] = resources;
    }
    if let Some(paths) = paths {
        rule["nonResourceRules"] = paths;
    }
    let mut spec = json!({
        "priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence, "rules": [rule],
    });
    if let Some(distinguisher) = distinguisher {
        spec["distinguisherMethod"] = json!({"type": distinguisher});
    }
    json!({
        "apiVersion": API_VERSION, "kind": "FlowSchema",
        "metadata": {"name": name, "annotations": {AUTOUPDATE_SPEC: "true"}},
        "spec": spec,
    })
}

/// A schema for everything its subjects do.
fn all_of(place: Place, subjects: Value) -> Value {
    schema(place, subjects, Some(any_resource()), Some(any_path()))
}

pub fn flow_schemas() -> Vec<Value> {
    let mut schemas: Vec<Value> = broad_schemas().into();
    schemas.extend(narrow_schemas());
    schemas
}

/// Everything that some subjects do.
fn broad_schemas() -> [Value; 8] {
    let by_user = Some("ByUser");
    let by_namespace = Some("ByNamespace");
    let everyone = json!([group(ALL_UNAUTHENTICATED), group(ALL_AUTHENTICATED)]);
    [
        all_of(Place("exempt", "exempt", 1, None), json!([group(MASTERS)])),
        all_of(Place("catch-all", "catch-all", 10_000, by_user), everyone.clone()),
        all_of(
            Place("system-nodes", "system", 500, by_user),
            json!([group(NODES)]),
        ),
        all_of(
            Place("kube-controller-manager", "workload-high", 800, by_namespace),
            json!([user(KUBE_CONTROLLER_MANAGER)]),
        ),
        all_of(
            Place("kube-scheduler", "workload-high", 800, by_namespace),
            json!([user(KUBE_SCHEDULER)]),
        ),
        all_of(
            Place("kube-system-service-accounts", "workload-high", 900, by_namespace),
            json!([system_account("*")]),
        ),
        all_of(
            Place("service-accounts", "workload-low", 9000, by_user),
            json!([group(ALL_SERVICE_ACCOUNTS)]),
        ),
        all_of(Place("global-default", "global-default", 9900, by_user), everyone),
    ]
}

/// Some of what some subjects do.
fn narrow_schemas() -> [Value; 5] {
    let by_user = Some("ByUser");
    let everyone = json!([group(ALL_UNAUTHENTICATED), group(ALL_AUTHENTICATED)]);
    let writes = ["get", "create", "update"];
    let leases = || resource_rule(&writes, "coordination.k8s.io", &["leases"], false);
    [
        schema(
            Place("system-node-high", "node-high", 400, by_user),
            json!([group(NODES)]),
            Some(json!([
                resource_rule(&["*"], "", &["nodes", "nodes/status"], true),
                resource_rule(&["*"], "coordination.k8s.io", &["leases"], false),
            ])),
            None,
        ),
        schema(
            Place("probes", "exempt", 2, None),
            everyone,
            None,
            Some(json!([{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}])),
        ),
        schema(
            Place("system-leader-election", "leader-election", 100, by_user),
            json!([
                user(KUBE_CONTROLLER_MANAGER),
                user(KUBE_SCHEDULER),
                system_account("*")
            ]),
            Some(json!([leases()])),
            None,
        ),
        schema(
            Place("workload-leader-election", "leader-election", 200, by_user),
            json!([system_account("*")]),
            Some(json!([
                resource_rule(&writes, "", &["endpoints", "configmaps"], false),
                leases()
            ])),
            None,
        ),
        schema(
            Place("endpoint-controller", "workload-high", 150, by_user),
            json!([
                user(KUBE_CONTROLLER_MANAGER),
                system_account("endpoint-controller"),
                system_account("endpointslicemirroring-controller"),
            ]),
            Some(json!([resource_rule(&writes, "", &["endpoints"], false)])),
            None,
        ),
    ]
}
