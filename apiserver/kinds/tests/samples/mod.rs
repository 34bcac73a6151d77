//! The smallest object a client may create, of every kind; tests of other crates take it from here too.

use keelson_kinds::Kind;
use keelson_machinery::Value;
use keelson_schema::resources::ResourceInfo;
use serde_json::json;

fn pod_template() -> Value {
    json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "a", "image": "b:1"}]}})
}

/// The fields beside metadata of the smallest valid object.
pub fn sample(kind: &dyn Kind) -> Value {
    let info = kind.info();
    match info.group.as_ref() {
        "" | "apps" | "batch" => workload(info),
        "admissionregistration.k8s.io" | "apiextensions.k8s.io" | "apiregistration.k8s.io" => extension(info),
        _ => other(info),
    }
}

fn workload(info: &ResourceInfo) -> Value {
    let selector = json!({"matchLabels": {"app": "a"}});
    match info.resource.as_ref() {
        "pods" => json!({"spec": pod_template()["spec"]}),
        "podtemplates" => json!({"template": pod_template()}),
        "replicationcontrollers" => json!({"spec": {"template": pod_template()}}),
        "deployments" | "replicasets" | "daemonsets" | "statefulsets" => {
            json!({"spec": {"selector": selector, "template": pod_template()}})
        }
        "jobs" => {
            let mut template = pod_template();
            template["spec"]["restartPolicy"] = "Never".into();
            json!({"spec": {"template": template}})
        }
        "cronjobs" => {
            let mut template = pod_template();
            template["spec"]["restartPolicy"] = "Never".into();
            json!({"spec": {"schedule": "@daily", "jobTemplate": {"spec": {"template": template}}}})
        }
        "services" => json!({"spec": {"ports": [{"port": 80}]}}),
        "controllerrevisions" => json!({"data": {"a": 1}, "revision": 1}),
        "persistentvolumes" => {
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
            "hostPath": {"path": "/data"}}})
        }
        "persistentvolumeclaims" => json!({"spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}}),
        "events" => json!({"involvedObject": {"namespace": "d"}}),
        _ => json!({}),
    }
}

fn other(info: &ResourceInfo) -> Value {
    match info.resource.as_ref() {
        "horizontalpodautoscalers" => json!({"spec": {"maxReplicas": 2,
            "scaleTargetRef": {"kind": "Deployment", "name": "a"}}}),
        "certificatesigningrequests" => json!({"spec": {"signerName": "kubernetes.io/kubelet-serving",
            "usages": ["client auth"],
            "request": "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUE9PQotLS0tLUVORCBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0K"}}),
        "endpointslices" => json!({"addressType": "IPv4"}),
        "events" => json!({"regarding": {"namespace": "d"}, "eventTime": "2026-01-01T00:00:00.000000Z",
            "reportingController": "a", "reportingInstance": "b", "action": "c", "reason": "d", "type": "Normal"}),
        "flowschemas" => json!({"spec": {"priorityLevelConfiguration": {"name": "a"}}}),
        "prioritylevelconfigurations" => {
            json!({"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}})
        }
        "ingresses" => {
            json!({"spec": {"defaultBackend": {"service": {"name": "a", "port": {"number": 80}}}}})
        }
        "ingressclasses" => json!({"spec": {"controller": "a.b/c"}}),
        "ipaddresses" => {
            json!({"spec": {"parentRef": {"resource": "services", "namespace": "d", "name": "a"}}})
        }
        "servicecidrs" => json!({"spec": {"cidrs": ["10.0.0.0/16"]}}),
        "runtimeclasses" => json!({"handler": "runc"}),
        "rolebindings" | "clusterrolebindings" => json!({"roleRef": {"kind": "ClusterRole", "name": "a"}}),
        "storageclasses" => json!({"provisioner": "a.b/c"}),
        "volumeattributesclasses" => json!({"driverName": "a.b", "parameters": {"a": "b"}}),
        "volumeattachments" => json!({"spec": {"attacher": "a.b", "nodeName": "n",
            "source": {"persistentVolumeName": "p"}}}),
        "csistoragecapacities" => json!({"storageClassName": "a"}),
        "resourceslices" => json!({"spec": {"driver": "a.b", "nodeName": "n",
            "pool": {"name": "n", "resourceSliceCount": 1}}}),
        _ => json!({}),
    }
}

fn extension(info: &ResourceInfo) -> Value {
    match info.resource.as_ref() {
        "validatingadmissionpolicies" => json!({"spec": {"matchConstraints": match_resources(),
            "validations": [{"expression": "true"}]}}),
        "mutatingadmissionpolicies" => json!({"spec": {"matchConstraints": match_resources(),
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}]}}),
        "validatingadmissionpolicybindings" => {
            json!({"spec": {"policyName": "a", "validationActions": ["Deny"]}})
        }
        "mutatingadmissionpolicybindings" => json!({"spec": {"policyName": "a"}}),
        "customresourcedefinitions" => json!({"spec": {"group": "b.c", "scope": "Cluster",
            "names": {"plural": "as", "kind": "A"}, "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}}]}}),
        "apiservices" => json!({"spec": {"group": "b.c", "version": "v1", "groupPriorityMinimum": 1,
            "versionPriority": 1}}),
        _ => json!({}),
    }
}

fn match_resources() -> Value {
    json!({"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"],
        "operations": ["CREATE"]}]})
}

/// A name the kind takes.
pub fn name(kind: &dyn Kind) -> &'static str {
    match kind.info().resource.as_ref() {
        "ipaddresses" => "10.0.0.1",
        "customresourcedefinitions" => "as.b.c",
        "apiservices" => "v1.b.c",
        _ => "a",
    }
}
