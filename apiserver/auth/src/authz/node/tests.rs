//! Upstream's answers to kubelets, as a table.

use super::*;
use crate::authz::SelectorRequirement;
use crate::user::{NODES, UserInfo};
use keelson_testkit::Objects;
use serde_json::json;

fn cluster() -> Arc<Objects> {
    let pod = json!({
        "metadata": {"namespace": "dev", "name": "web"},
        "spec": {
            "nodeName": "n1", "serviceAccountName": "ci",
            "containers": [{"envFrom": [{"secretRef": {"name": "env"}}]}],
            "volumes": [{"persistentVolumeClaim": {"claimName": "data"}}, {"configMap": {"name": "conf"}}],
        },
    });
    let mirror = json!({
        "metadata": {
            "namespace": "dev", "name": "static", "annotations": {"kubernetes.io/config.mirror": "x"},
        },
        "spec": {"nodeName": "n1", "volumes": [{"secret": {"secretName": "stolen"}}]},
    });
    let volume = json!({
        "metadata": {"name": "pv-1"},
        "spec": {
            "claimRef": {"namespace": "dev", "name": "data"},
            "csi": {"nodeStageSecretRef": {"namespace": "storage", "name": "stage"}},
        },
    });
    Arc::new(Objects::new([
        ("", "pods", pod),
        ("", "pods", mirror),
        ("", "persistentvolumes", volume),
    ]))
}

/// `verb namespace/group/resource/subresource/name`.
fn request(node: &str, text: &str) -> Attributes {
    let (verb, rest) = text.split_once(' ').unwrap();
    let parts: Vec<String> = rest.split('/').map(str::to_owned).collect();
    let [namespace, group, resource, subresource, name] = <[String; 5]>::try_from(parts).unwrap();
    Attributes {
        user: Arc::new(UserInfo::new(format!("system:node:{node}"), &[NODES])),
        verb: verb.to_owned().into(),
        namespace,
        group: group.into(),
        resource: resource.into(),
        subresource: subresource.into(),
        name,
        is_resource: true,
        ..Attributes::default()
    }
}

#[test]
fn a_node_reads_what_its_pods_need() {
    let node = Node::new(cluster());
    for allowed in [
        "get dev//secrets//env",
        "watch dev//configmaps//conf",
        "get dev//persistentvolumeclaims//data",
        "patch dev//persistentvolumeclaims/status/data",
        "get //persistentvolumes//pv-1",
        "get storage//secrets//stage",
        "create dev//serviceaccounts/token/ci",
        "get dev//pods//web",
        "create dev//pods/eviction/web",
        "update kube-node-lease/coordination.k8s.io/leases//n1",
        "create //nodes//",
        "get //nodes//n1",
        "patch //nodes/status/n1",
        "get /storage.k8s.io/csinodes//n1",
        "list //services//",
        "create default//events//",
    ] {
        assert_eq!(
            node.authorize(&request("n1", allowed)),
            (Decision::Allow, String::new()),
            "{allowed}"
        );
    }
}

#[test]
fn refusals_say_why_as_upstream() {
    let node = Node::new(cluster());
    let stranger = "no relationship found between node 'n2' and this object";
    for (name, text, reason) in [
        ("n2", "get dev//secrets//env", stranger),
        ("n2", "get //persistentvolumes//pv-1", stranger),
        ("n2", "get dev//pods//web", stranger),
        (
            "n1",
            "get dev//secrets//stolen",
            "no relationship found between node 'n1' and this object",
        ),
        (
            "n1",
            "delete dev//secrets//env",
            "can only read resources of this type",
        ),
        (
            "n1",
            "list //secrets//",
            "can only read namespaced object of this type",
        ),
        ("n1", "list dev//secrets//", "No Object name found"),
        (
            "n1",
            "create dev//serviceaccounts//ci",
            "can only create tokens for individual service accounts",
        ),
        (
            "n1",
            "get default/coordination.k8s.io/leases//n1",
            "can only access leases in the \"kube-node-lease\" system namespace",
        ),
        (
            "n1",
            "get kube-node-lease/coordination.k8s.io/leases//n2",
            "can only access node lease with the same name as the requesting node",
        ),
        (
            "n1",
            "list //nodes//",
            "node 'n1' cannot read all nodes, only its own Node object",
        ),
        (
            "n1",
            "get //nodes//n2",
            "node 'n1' cannot read 'n2', only its own Node object",
        ),
        (
            "n1",
            "list dev//pods//",
            "can only list/watch pods with spec.nodeName field selector",
        ),
        ("n1", "delete //nodes//n1", ""),
        ("n1", "create dev/apps/deployments//x", ""),
    ] {
        let answer = node.authorize(&request(name, text));
        assert_eq!(answer, (Decision::NoOpinion, reason.to_owned()), "{name}: {text}");
    }
}

#[test]
fn a_field_selector_on_the_node_opens_lists() {
    let node = Node::new(cluster());
    let mut list = request("n1", "list //pods//");
    list.field_selector = vec![SelectorRequirement {
        key: "spec.nodeName".to_owned(),
        operator: "In",
        values: vec!["n1".to_owned()],
    }];
    assert_eq!(node.authorize(&list).0, Decision::Allow);
    list.field_selector[0].values = vec!["n2".to_owned()];
    assert_eq!(node.authorize(&list).0, Decision::NoOpinion);
}

#[test]
fn others_are_not_its_business() {
    let node = Node::new(cluster());
    let mut get = request("n1", "get dev//secrets//env");
    get.user = Arc::new(UserInfo::new("bob", &[]));
    assert_eq!(node.authorize(&get), (Decision::NoOpinion, String::new()));
    get.user = Arc::new(UserInfo::new("system:node:", &[NODES]));
    let unknown = "unknown node for user \"system:node:\"".to_owned();
    assert_eq!(node.authorize(&get), (Decision::NoOpinion, unknown));
}
