//!  what is refused, warned of, pruned.

use super::*;
use crate::types;
use serde_json::json;

fn pod() -> &'static TypeDef {
    types::of("", "v1", "Pod").unwrap()
}

fn deployment() -> &'static TypeDef {
    types::of("apps", "v1", "Deployment").unwrap()
}

fn refusal(def: &TypeDef, body: &str) -> String {
    json(body.as_bytes(), def, Strictness::Strict)
        .unwrap_err()
        .message
}

#[test]
fn unknown_and_duplicate_fields_are_told() {
    let body = r#"{"kind":"Deployment","apiVersion":"apps/v1","spec":{"foo":1,"replicas":1,"replicas":2,
        "template":{"spec":{"containers":[{"name":"a"},{"name":"b","bar":{}}]}}}}"#;
    assert_eq!(
        refusal(deployment(), body),
        "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: duplicate field \
         \"spec.replicas\", unknown field \"spec.foo\", unknown field \"spec.template.spec.containers[1].bar\""
    );
    let warned = json(body.as_bytes(), deployment(), Strictness::Warn).unwrap();
    assert_eq!(warned.warnings.len(), 3);
    assert_eq!(warned.value["spec"]["replicas"], 2);
    assert!(warned.value["spec"].get("foo").is_none());
    assert!(
        json(body.as_bytes(), deployment(), Strictness::Ignore)
            .unwrap()
            .warnings
            .is_empty()
    );
}

#[test]
fn wrong_types_read_as_gos() {
    let head = "Deployment in version \"v1\" cannot be handled as a Deployment: ";
    for (spec, why) in [
        (
            r#"{"replicas":"2"}"#,
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            r#"{"replicas":1.5}"#,
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            r#"{"template":{"spec":{"containers":{}}}}"#,
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        ),
        (
            r#"{"template":[]}"#,
            "json: cannot unmarshal array into Go struct field DeploymentSpec.spec.template of type v1.PodTemplateSpec",
        ),
    ] {
        let body = format!(r#"{{"kind":"Deployment","apiVersion":"apps/v1","spec":{spec}}}"#);
        assert_eq!(refusal(deployment(), &body), format!("{head}{why}"));
    }
    assert_eq!(
        refusal(
            pod(),
            r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"x"}}}]}}"#
        ),
        "Pod in version \"v1\" cannot be handled as a Pod: quantities must match the regular expression \
         '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    );
}

#[test]
fn values_become_what_go_would_write() {
    let body = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","labels":{},"creationTimestamp":null},
        "spec":{"containers":[{"name":"c","image":"","resources":{"limits":{"cpu":"0.5","memory":1024}},
        "env":[{"name":"E","valueFrom":{"resourceFieldRef":{"resource":"r"}}}]}],"hostNetwork":false,"nodeName":null}}"#;
    let decoded = json(body.as_bytes(), pod(), Strictness::Strict).unwrap();
    assert_eq!(
        decoded.value,
        json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"}, "status": {}, "spec": {"containers": [{
            "name": "c", "resources": {"limits": {"cpu": "500m", "memory": "1024"}},
            "env": [{"name": "E", "valueFrom": {"resourceFieldRef": {"resource": "r", "divisor": "0"}}}],
        }]}})
    );
    let bare = json(b"{\"kind\":\"Deployment\"}", deployment(), Strictness::Strict)
        .unwrap()
        .value;
    let pod = json!({"metadata": {}, "spec": {"containers": null}});
    assert_eq!(
        bare,
        json!({"kind": "Deployment", "metadata": {}, "spec": {"selector": null, "strategy": {}, "template": pod}, "status": {}})
    );
}

#[test]
fn broken_bodies_are_clear_and_bounded() {
    let deep = format!("{}{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    for body in ["", "{", "[]", "{}x", &deep, "{\"a\":\u{1}}", "nul"] {
        let status = json(body.as_bytes(), pod(), Strictness::Warn).unwrap_err();
        assert_eq!(status.code, 400, "{body:.20}");
        assert!(status.message.len() < 400);
    }
    assert!(refusal(pod(), "").ends_with("(<empty>)"));
    assert!(json(b"{\"metadata\":{\"name\":\"\xff\"}}", pod(), Strictness::Warn).is_ok());
}

#[test]
fn yaml_reads_as_json() {
    let body = b"kind: Pod\nspec:\n  containers:\n  - name: a\n    tty: yes\n  activeDeadlineSeconds: 010\n  bogus: 1\n";
    let decoded = yaml(body, pod(), Strictness::Warn).unwrap();
    assert_eq!(decoded.value["spec"]["containers"][0]["tty"], true);
    assert_eq!(decoded.value["spec"]["activeDeadlineSeconds"], 8);
    assert_eq!(decoded.warnings, ["unknown field \"spec.bogus\""]);
}
