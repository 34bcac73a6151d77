//! Upstream's refusals to kubelets, as a table.

use super::*;
use crate::testing::{Case, Done};
use keelson_auth::UserInfo;
use serde_json::json;

fn objects() -> Vec<Value> {
    let pod = |name: &str, node: &str| {
        json!({
            "kind": "pods", "metadata": {"namespace": "dev", "name": name, "uid": format!("{name}-uid")},
            "spec": {"nodeName": node, "volumes": [
                {"projected": {"sources": [{"serviceAccountToken": {}}, {"serviceAccountToken": {"audience": "vault"}}]}},
            ]},
        })
    };
    let node = json!({"kind": "nodes", "metadata": {"name": "n1", "uid": "n1-uid"}});
    vec![pod("own", "n1"), pod("other", "n2"), node]
}

fn case(operation: Operation, resource: (&'static str, &'static str, &'static str), object: Value) -> Case {
    let mut case = Case::new(operation, resource, object);
    case.user = UserInfo::new("system:node:n1", &[keelson_auth::user::NODES]);
    case
}

fn run(case: Case) -> Done {
    case.run(&NodeRestriction, &objects())
}

#[test]
fn mirror_pods_only_and_without_references() {
    let mirror = |change: fn(&mut Value)| {
        let mut pod = json!({
            "metadata": {
                "name": "static", "annotations": {"kubernetes.io/config.mirror": "x"},
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "n1-uid", "controller": true},
                ],
            },
            "spec": {"nodeName": "n1"},
        });
        change(&mut pod);
        run(case(Operation::Create, ("", "Pod", "pods"), pod))
    };
    assert_eq!(mirror(|_| ()).message(), "");
    type Change = fn(&mut Value);
    let refusals: [(Change, &str); 6] = [
        (
            |pod| pod["metadata"]["annotations"] = json!({}),
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"n1\" can only create mirror pods",
        ),
        (
            |pod| pod["spec"]["nodeName"] = "n2".into(),
            "node \"n1\" can only create pods with spec.nodeName set to itself",
        ),
        (
            |pod| pod["metadata"]["ownerReferences"][0]["uid"] = "x".into(),
            "node n1 UID mismatch: expected x got n1-uid",
        ),
        (
            |pod| pod["metadata"]["ownerReferences"][0]["name"] = "n2".into(),
            "node \"n1\" can only create pods with an owner reference set to itself",
        ),
        (
            |pod| pod["spec"]["serviceAccountName"] = "default".into(),
            "node \"n1\" can not create pods that reference a service account",
        ),
        (
            |pod| pod["spec"]["volumes"] = json!([{"secret": {"secretName": "x"}}]),
            "node \"n1\" can not create pods that reference secrets",
        ),
    ];
    for (change, why) in refusals {
        assert_eq!(
            mirror(change).message(),
            format!("pods \"static\" is forbidden: {why}")
        );
    }
}

#[test]
fn pods_of_other_nodes_are_out_of_reach() {
    let write = |operation, subresource, name, object: Value| {
        let mut case = case(operation, ("", "Pod", "pods"), object);
        case.subresource = subresource;
        case.name = name;
        case.old = objects().into_iter().find(|pod| meta::name(pod) == name);
        run(case)
    };
    let labelled = json!({"metadata": {"name": "own", "labels": {"a": "b"}}});
    for (done, message) in [
        (write(Operation::Delete, "", "own", Value::Null), ""),
        (
            write(Operation::Delete, "", "other", Value::Null),
            "pods \"other\" is forbidden: node \"n1\" can only delete pods with spec.nodeName set to itself",
        ),
        (
            write(Operation::Delete, "", "none", Value::Null),
            "pods \"none\" not found",
        ),
        (
            write(
                Operation::Update,
                "status",
                "own",
                json!({"metadata": {"name": "own"}}),
            ),
            "",
        ),
        (
            write(Operation::Update, "status", "own", labelled),
            "pods \"own\" is forbidden: node \"n1\" cannot update labels through pod status",
        ),
        (
            write(Operation::Create, "eviction", "other", json!({})),
            "pods \"other\" is forbidden: node n1 can only evict pods with spec.nodeName set to itself",
        ),
        (
            write(Operation::Update, "", "own", json!({})),
            "pods \"own\" is forbidden: unexpected operation \"UPDATE\", node \"n1\" can only create and delete mirror pods",
        ),
    ] {
        assert_eq!(done.message(), message);
    }
}

#[test]
fn its_own_node_without_taints_or_foreign_labels() {
    let write = |operation, name: &'static str, new: Value, old: Value| {
        let mut case = case(operation, ("", "Node", "nodes"), new);
        case.namespace = "";
        case.name = name;
        case.old = (operation == Operation::Update).then_some(old);
        run(case)
    };
    let plain = json!({"metadata": {"name": "n1"}});
    let tainted =
        json!({"metadata": {"name": "n1"}, "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}});
    let role = json!({"metadata": {"name": "n1", "labels": {"node-role.kubernetes.io/worker": ""}}});
    for (done, why) in [
        (write(Operation::Create, "", plain.clone(), Value::Null), ""),
        (write(Operation::Create, "", tainted.clone(), Value::Null), ""),
        (
            write(Operation::Create, "", role.clone(), Value::Null),
            "node \"n1\" is not allowed to set the following labels: node-role.kubernetes.io/worker",
        ),
        (
            write(Operation::Update, "n1", tainted, plain.clone()),
            "node \"n1\" is not allowed to modify taints",
        ),
        (
            write(Operation::Update, "n1", role, plain),
            "is not allowed to modify labels: node-role.kubernetes.io/worker",
        ),
    ] {
        let message = match why {
            "" => String::new(),
            why => format!("nodes \"n1\" is forbidden: {why}"),
        };
        assert_eq!(done.message(), message);
    }
}

#[test]
fn tokens_are_for_pods_of_the_node() {
    let ask = |name: &str, uid: &str, audiences: Value| {
        let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid});
        let request = json!({"spec": {"boundObjectRef": bound, "audiences": audiences}});
        let mut case = case(
            Operation::Create,
            ("", "ServiceAccount", "serviceaccounts"),
            request,
        );
        case.subresource = "token";
        case.name = "default";
        run(case)
    };
    for (done, why) in [
        (ask("own", "own-uid", json!([])), ""),
        (ask("own", "own-uid", json!(["vault"])), ""),
        (
            ask("own", "own-uid", json!(["other"])),
            "audience \"other\" not found in pod spec volume",
        ),
        (
            ask("other", "other-uid", json!([])),
            "node requested token bound to a pod scheduled on a different node",
        ),
        (
            ask("own", "", json!([])),
            "node requested token with a pod binding without a uid",
        ),
        (ask("", "", json!([])), "node requested token not bound to a pod"),
    ] {
        let message = match why {
            "" => String::new(),
            why => format!("serviceaccounts \"default\" is forbidden: {why}"),
        };
        assert_eq!(done.message(), message);
    }
}

#[test]
fn certificates_are_for_its_own_name() {
    use base64::Engine;
    for (name, allowed) in [("system:node:n1", true), ("system:node:n2", false)] {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let pem = params
            .serialize_request(&rcgen::KeyPair::generate().unwrap())
            .unwrap()
            .pem()
            .unwrap();
        let request = json!({
            "metadata": {"name": "r"},
            "spec": {
                "signerName": "kubernetes.io/kubelet-serving",
                "request": base64::engine::general_purpose::STANDARD.encode(pem),
            },
        });
        let resource = (
            "certificates.k8s.io",
            "CertificateSigningRequest",
            "certificatesigningrequests",
        );
        let refused = "certificatesigningrequests.certificates.k8s.io \"r\" is forbidden: can only create a node CSR with \
                       CN=system:node:n1";
        let done = run(case(Operation::Create, resource, request));
        assert_eq!(done.message(), if allowed { "" } else { refused });
    }
}
