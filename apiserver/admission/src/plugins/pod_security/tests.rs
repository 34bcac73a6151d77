//! Upstream's texts, as a table.

use super::*;
use crate::testing::Case;
use serde_json::json;

fn namespace(labels: Value) -> Value {
    json!({"kind": "namespaces", "metadata": {"name": "dev", "labels": labels}})
}

fn refused(level: &str, spec: Value) -> String {
    let namespace = namespace(json!({"pod-security.kubernetes.io/enforce": level}));
    let pod = json!({"metadata": {"name": "web"}, "spec": spec});
    let done = Case::pod(Operation::Create, pod).run(&PodSecurity, &[namespace]);
    let head = format!("pods \"web\" is forbidden: violates PodSecurity \"{level}:latest\": ");
    done.message()
        .strip_prefix(&head)
        .unwrap_or(done.message())
        .to_owned()
}

#[test]
fn baseline_texts() {
    let one = |context: Value| json!({"containers": [{"name": "c", "securityContext": context}]});
    for (spec, text) in [
        (json!({"containers": [{"name": "c"}]}), ""),
        (
            json!({"hostNetwork": true, "hostPID": true, "containers": []}),
            "host namespaces (hostNetwork=true, hostPID=true)",
        ),
        (
            one(json!({"privileged": true})),
            "privileged (container \"c\" must not set securityContext.privileged=true)",
        ),
        (
            one(json!({"capabilities": {"add": ["SYS_ADMIN", "CHOWN"]}})),
            "non-default capabilities (container \"c\" must not include \"SYS_ADMIN\" in \
             securityContext.capabilities.add)",
        ),
        (
            json!({"volumes": [{"name": "a", "hostPath": {}}, {"name": "b", "hostPath": {}}]}),
            "hostPath volumes (volumes \"a\", \"b\")",
        ),
        (
            json!({"containers": [{"name": "c", "ports": [{"hostPort": 80}, {"hostPort": 443}, {"hostPort": 0}]}]}),
            "hostPort (container \"c\" uses hostPorts 80, 443)",
        ),
        (
            json!({"securityContext": {"sysctls": [{"name": "kernel.x"}]}}),
            "forbidden sysctls (kernel.x)",
        ),
        (
            one(json!({"seLinuxOptions": {"type": "x", "role": "r"}})),
            "seLinuxOptions (container \"c\" set forbidden securityContext.seLinuxOptions: type \"x\"; role may not be set)",
        ),
        (
            json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}),
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
    ] {
        assert_eq!(refused("baseline", spec), text);
    }
}

#[test]
fn restricted_texts() {
    assert_eq!(
        refused("restricted", json!({"containers": [{"name": "nginx"}]})),
        "allowPrivilegeEscalation != false (container \"nginx\" must set \
         securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"nginx\" must set \
         securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"nginx\" must set \
         securityContext.runAsNonRoot=true), seccompProfile (pod or container \"nginx\" must set \
         securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
    let good = json!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{
            "name": "c",
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        }],
    });
    assert_eq!(refused("restricted", good.clone()), "");
    let mut volume = good.clone();
    volume["volumes"] = json!([{"name": "v", "nfs": {}}, {"name": "w", "emptyDir": {}}]);
    assert_eq!(
        refused("restricted", volume),
        "restricted volume types (volume \"v\" uses restricted volume type \"nfs\")"
    );
    let mut root = good;
    root["securityContext"]["runAsUser"] = 0.into();
    assert_eq!(
        refused("restricted", root),
        "runAsUser=0 (pod must not set runAsUser=0)"
    );
}

#[test]
fn a_label_that_cannot_be_read_does_not_open_the_namespace() {
    let namespace = namespace(json!({"pod-security.kubernetes.io/enforce": "strict"}));
    let pod = json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "c"}]}});
    let done = Case::pod(Operation::Create, pod).run(&PodSecurity, &[namespace]);
    assert!(
        done.message()
            .contains("violates PodSecurity \"restricted:latest\"")
    );
}

#[test]
fn updates_count_only_when_they_matter() {
    let namespace = namespace(json!({"pod-security.kubernetes.io/enforce": "baseline"}));
    let old = json!({
        "metadata": {"name": "web"},
        "spec": {"hostNetwork": true, "containers": [{"name": "c", "image": "a"}]},
    });
    let mut labelled = old.clone();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    let mut image = old.clone();
    image["spec"]["containers"][0]["image"] = "b".into();
    for (new, refused) in [(labelled, false), (image, true)] {
        let mut case = Case::pod(Operation::Update, new);
        case.old = Some(old.clone());
        let done = case.run(&PodSecurity, std::slice::from_ref(&namespace));
        assert_eq!(done.message().is_empty(), !refused);
    }
}
