//! Objects that are refused, each with upstream's exact texts: one table over many kinds.

#![expect(clippy::unwrap_used, reason = "the whole file is a test")]

use keelson_kinds::find;
use keelson_machinery::Value;
use serde_json::json;

fn create(group: &str, resource: &str, mut obj: Value) -> Vec<String> {
    let kind = find(group, resource).unwrap();
    if obj["metadata"].is_null() {
        obj["metadata"] = json!({"name": "a", "uid": "u"});
        if kind.info().namespaced {
            obj["metadata"]["namespace"] = "d".into();
        }
    }
    kind.set_defaults(&mut obj);
    kind.prepare_create(&mut obj);
    let errors = kind.validate(&obj, None);
    errors.0.iter().map(ToString::to_string).collect()
}

fn check(table: Vec<(&str, &str, Value, Vec<&str>)>) {
    for (group, resource, obj, expected) in table {
        assert_eq!(create(group, resource, obj.clone()), expected, "{resource} {obj}");
    }
}

fn template(labels: Value) -> Value {
    json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "b:1"}]}})
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn workloads() {
    let app = json!({"app": "a"});
    let selector = json!({"matchLabels": {"app": "a"}});
    let mut once = template(app.clone());
    once["spec"]["restartPolicy"] = "Never".into();
    check(vec![
        (
            "apps",
            "replicasets",
            json!({"spec": {"template": template(app.clone())}}),
            vec!["spec.selector: Required value"],
        ),
        (
            "apps",
            "replicasets",
            json!({"spec": {"replicas": -1, "selector": selector, "template": once.clone()}}),
            vec![
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            ],
        ),
        (
            "",
            "replicationcontrollers",
            json!({"spec": {"selector": {"app": "b"}, "template": template(app.clone())}}),
            vec![
                "spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template \
                 `labels`",
            ],
        ),
        (
            "apps",
            "daemonsets",
            json!({"spec": {"selector": selector, "template": template(app.clone()),
                "updateStrategy": {"rollingUpdate": {"maxUnavailable": 1, "maxSurge": 1}}}}),
            vec![
                "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is \
                 non-zero",
            ],
        ),
        (
            "apps",
            "deployments",
            json!({"spec": {"selector": selector, "template": template(app.clone()), "progressDeadlineSeconds": 5,
                "minReadySeconds": 5, "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": "0%"}}}}),
            vec![
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
                "spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds",
            ],
        ),
        (
            "apps",
            "deployments",
            json!({"spec": {"selector": selector, "template": template(app.clone()),
                "strategy": {"type": "Recreate", "rollingUpdate": {}}}}),
            vec![
                "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
            ],
        ),
        (
            "apps",
            "statefulsets",
            json!({"spec": {"selector": selector, "template": template(app), "podManagementPolicy": "Any"}}),
            vec!["spec.podManagementPolicy: Invalid value: \"Any\": must be 'OrderedReady' or 'Parallel'"],
        ),
        (
            "batch",
            "jobs",
            json!({"spec": {"template": once, "completionMode": "Indexed", "parallelism": 1}}),
            vec!["spec.completions: Required value: when completion mode is Indexed"],
        ),
    ]);
}

#[test]
fn volumes_and_limits() {
    check(vec![
        (
            "",
            "persistentvolumes",
            json!({"spec": {"accessModes": ["Often"], "capacity": {"storage": "1Gi"}}}),
            vec![
                "spec.accessModes: Unsupported value: \"Often\": supported values: \"ReadOnlyMany\", \
                 \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
                "spec: Required value: must specify a volume type",
            ],
        ),
        (
            "",
            "persistentvolumeclaims",
            json!({"spec": {}}),
            vec![
                "spec.accessModes: Required value: at least 1 access mode is required",
                "spec.resources[storage]: Required value",
            ],
        ),
        (
            "storage.k8s.io",
            "storageclasses",
            json!({"provisioner": "a.b/c", "reclaimPolicy": "Recycle"}),
            vec!["reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\""],
        ),
        (
            "storage.k8s.io",
            "volumeattachments",
            json!({"spec": {"attacher": "a.b", "nodeName": "n", "source": {}}}),
            vec![
                "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
            ],
        ),
        (
            "",
            "resourcequotas",
            json!({"spec": {"hard": {"pods": "-1", "cups": "1"}, "scopes": ["BestEffort", "NotBestEffort"]}}),
            vec![
                "spec.hard[cups]: Invalid value: \"cups\": must be a standard resource type or fully qualified",
                "spec.hard[cups]: Invalid value: \"cups\": must be a standard resource for quota",
                "spec.hard[pods]: Invalid value: \"-1\": must be greater than or equal to 0",
                "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes",
            ],
        ),
        (
            "",
            "limitranges",
            json!({"spec": {"limits": [{"type": "Pod", "min": {"cpu": "2"}, "max": {"cpu": "1"},
                "default": {"cpu": "1"}}]}}),
            vec![
                "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
                "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
            ],
        ),
        (
            "policy",
            "poddisruptionbudgets",
            json!({"spec": {"minAvailable": "a%"}}),
            vec![
                "spec.minAvailable: Invalid value: \"a%\": a valid percent string must be a numeric string followed \
                 by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
            ],
        ),
    ]);
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn cluster() {
    check(vec![
        (
            "scheduling.k8s.io",
            "priorityclasses",
            json!({"value": 2_000_000_000}),
            vec!["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
        ),
        (
            "coordination.k8s.io",
            "leases",
            json!({"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}}),
            vec![
                "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
                "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
            ],
        ),
        (
            "node.k8s.io",
            "runtimeclasses",
            json!({"handler": "a/b"}),
            vec![
                "handler: Invalid value: \"a/b\": a lowercase RFC 1123 label must consist of lower case alphanumeric \
                 characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or \
                 '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            ],
        ),
        (
            "networking.k8s.io",
            "ipaddresses",
            json!({"metadata": {"name": "10.0.0.01"}, "spec": {}}),
            vec![
                "metadata.name: Invalid value: \"10.0.0.01\": must be a valid IP address, (e.g. 10.9.8.7 or \
                 2001:db8::ffff)",
                "spec.parentRef: Required value",
            ],
        ),
        (
            "networking.k8s.io",
            "servicecidrs",
            json!({"spec": {"cidrs": ["10.0.0.0"]}}),
            vec![
                "spec.cidrs[0]: Invalid value: \"10.0.0.0\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or \
                 2001:db8::/64)",
            ],
        ),
        (
            "networking.k8s.io",
            "ingressclasses",
            json!({"spec": {"controller": "nobody"}}),
            vec![
                "spec.controller: Invalid value: \"nobody\": must be a domain-prefixed path (such as \"acme.io/foo\")",
            ],
        ),
        (
            "flowcontrol.apiserver.k8s.io",
            "flowschemas",
            json!({"spec": {"matchingPrecedence": 20000, "priorityLevelConfiguration": {}}}),
            vec![
                "spec.matchingPrecedence: Invalid value: 20000: must not be greater than 10000",
                "spec.priorityLevelConfiguration.name: Required value",
            ],
        ),
        (
            "apiregistration.k8s.io",
            "apiservices",
            json!({"metadata": {"name": "x"}, "spec": {"group": "b.c", "version": "v1", "versionPriority": 1}}),
            vec![
                "metadata.name: Invalid value: \"x\": must be `spec.version+\".\"+spec.group`",
                "spec.groupPriorityMinimum: Invalid value: 0: must be positive and less than 20000",
            ],
        ),
        (
            "",
            "serviceaccounts",
            json!({"metadata": {"name": "A", "namespace": "d"}}),
            vec![
                "metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case \
                 alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
                 'example.com', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            ],
        ),
    ]);
}
