//! Tests of field ownership and server-side apply.

use super::*;
use crate::types;

const NOW: &str = "2026-01-01T00:00:00Z";
const LATER: &str = "2026-01-01T00:00:09Z";

fn deployments() -> &'static TypeDef {
    types::of("apps", "v1", "Deployment").unwrap()
}

fn config_maps() -> &'static TypeDef {
    types::of("", "v1", "ConfigMap").unwrap()
}

fn config_map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data})
}

fn fitted(mut value: Value, def: &TypeDef) -> Value {
    decode::normalize(&mut value, def).unwrap();
    value
}

fn owners(object: &Value) -> Vec<(String, Value)> {
    let entries = meta::field(object, "managedFields").as_array().unwrap();
    entries
        .iter()
        .map(|entry| {
            (
                format!(
                    "{}/{}",
                    entry["manager"].as_str().unwrap(),
                    entry["operation"].as_str().unwrap()
                ),
                entry["fieldsV1"].clone(),
            )
        })
        .collect()
}

fn apply_to(live: Option<&Value>, config: &Value, manager: &str, force: bool) -> Result<Value, Status> {
    let def = types::of("apps", "v1", config["kind"].as_str().unwrap()).unwrap_or(config_maps());
    apply(live, config, def, manager, force, "", NOW)
}

#[test]
fn writes_take_the_fields_they_change() {
    let mut created = fitted(config_map(json!({"k": "v", "l": "w"})), config_maps());
    meta::set_label(&mut created, "app", "x");
    update(None, &mut created, config_maps(), "kubectl-create", "", NOW);
    assert_eq!(
        meta::field(&created, "managedFields"),
        &json!([{"manager": "kubectl-create", "operation": "Update", "apiVersion": "v1", "time": NOW, "fieldsType": "FieldsV1",
            "fieldsV1": {"f:data": {".": {}, "f:k": {}, "f:l": {}}, "f:metadata": {"f:labels": {".": {}, "f:app": {}}}}}])
    );
    let mut edited = created.clone();
    edited["data"]["k"] = "new".into();
    edited["data"].as_object_mut().unwrap().remove("l");
    update(
        Some(&created),
        &mut edited,
        config_maps(),
        "kubectl-edit",
        "",
        LATER,
    );
    assert_eq!(
        owners(&edited),
        [
            (
                "kubectl-create/Update".to_owned(),
                json!({"f:data": {}, "f:metadata": {"f:labels": {".": {}, "f:app": {}}}})
            ),
            ("kubectl-edit/Update".to_owned(), json!({"f:data": {"f:k": {}}})),
        ]
    );
    let mut same = edited.clone();
    update(
        Some(&edited),
        &mut same,
        config_maps(),
        "kubectl-edit",
        "",
        "2030-01-01T00:00:00Z",
    );
    assert_eq!(same, edited);
    let mut reset = edited.clone();
    reset["metadata"]["managedFields"] = json!([]);
    update(Some(&edited), &mut reset, config_maps(), "x", "", LATER);
    assert!(meta::field(&reset, "managedFields").is_null());
}

#[test]
fn apply_owns_its_configuration_and_removes_what_it_gives_up() {
    let first = apply_to(None, &config_map(json!({"a": "1", "b": "2"})), "one", false).unwrap();
    assert_eq!(
        owners(&first),
        [("one/Apply".to_owned(), json!({"f:data": {"f:a": {}, "f:b": {}}}))]
    );
    let shared = apply_to(
        Some(&first),
        &config_map(json!({"b": "2", "c": "3"})),
        "two",
        false,
    )
    .unwrap();
    let given_up = apply_to(Some(&shared), &config_map(json!({"a": "1"})), "one", false).unwrap();
    assert_eq!(given_up["data"], json!({"a": "1", "b": "2", "c": "3"}));
    let gone = apply_to(Some(&given_up), &config_map(json!({"c": "3"})), "two", false).unwrap();
    assert_eq!(gone["data"], json!({"a": "1", "c": "3"}));
    let again = apply(
        Some(&gone),
        &config_map(json!({"c": "3"})),
        config_maps(),
        "two",
        false,
        "",
        LATER,
    )
    .unwrap();
    assert_eq!(again, gone);
    let nothing = config_map(Value::Null);
    let last = apply_to(Some(&gone), &nothing, "one", false).unwrap();
    assert_eq!(last["data"], json!({"c": "3"}));
}

#[test]
fn conflicts_read_as_upstreams() {
    let deployment = |replicas: i64, image: &str| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": replicas,
            "template": {"spec": {"containers": [{"name": "c", "image": image, "ports": [{"containerPort": 80}]}]}}}})
    };
    let mut live = fitted(deployment(1, "i"), deployments());
    update(
        None,
        &mut live,
        deployments(),
        "kubectl-client-side-apply",
        "",
        NOW,
    );
    let status = apply_to(Some(&live), &deployment(2, "i"), "me", false).unwrap_err();
    assert_eq!(
        status.message,
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using apps/v1: .spec.replicas"
    );
    assert_eq!((status.code, status.reason), (409, "Conflict"));
    assert_eq!(status.details["causes"][0]["reason"], "FieldManagerConflict");
    let status = apply_to(Some(&live), &deployment(2, "j"), "me", false).unwrap_err();
    assert_eq!(
        status.message,
        "Apply failed with 2 conflicts: conflicts with \"kubectl-client-side-apply\" using apps/v1:\n- .spec.replicas\n\
         - .spec.template.spec.containers[name=\"c\"].image"
    );
    let forced = apply_to(Some(&live), &deployment(2, "j"), "me", true).unwrap();
    assert_eq!(forced["spec"]["replicas"], 2);
    let owned = owners(&forced);
    assert_eq!(owned[0].0, "me/Apply");
    assert!(owned[1].1.pointer("/f:spec/f:replicas").is_none());
    let ports = "/f:spec/f:template/f:spec/f:containers/k:{\"name\":\"c\"}/f:ports";
    let mine = owned[0].1.pointer(ports).unwrap();
    assert_eq!(
        mine,
        &json!({"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}})
    );
    // The last applied configuration lets kubectl take over what it wrote itself.
    let text = deployment(1, "i").to_string();
    meta::set_annotation(&mut live, LAST_APPLIED, &text);
    assert!(apply_to(Some(&live), &deployment(3, "i"), "kubectl", false).is_ok());
}

#[test]
fn lists_merge_by_key_and_in_order() {
    let pod = |containers: Value| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "finalizers": ["x/y"]},
            "spec": {"template": {"spec": {"containers": containers}}}})
    };
    let one = apply_to(None, &pod(json!([{"name": "a"}, {"name": "b"}])), "one", false).unwrap();
    let two = apply_to(
        Some(&one),
        &pod(json!([{"name": "c"}, {"name": "b", "image": "i"}])),
        "two",
        false,
    )
    .unwrap();
    let names = |object: &Value| -> Vec<String> {
        let containers = object
            .pointer("/spec/template/spec/containers")
            .unwrap()
            .as_array()
            .unwrap();
        containers
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&two), ["a", "c", "b"]);
    let three = apply_to(Some(&two), &pod(json!([{"name": "b"}])), "one", false).unwrap();
    assert_eq!(names(&three), ["c", "b"]);
    assert_eq!(meta::field(&three, "finalizers"), &json!(["x/y"]));
}

#[test]
fn configurations_that_do_not_fit_are_refused() {
    let refused = |config: Value| apply_to(None, &config, "m", false).unwrap_err();
    let unknown = refused(
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "n"}, "foo": 1}),
    );
    assert_eq!(
        unknown.message,
        "failed to create typed patch object (n/a; v1, Kind=ConfigMap): .foo: field not declared in schema"
    );
    let keyless = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"},
        "spec": {"template": {"spec": {"containers": [{"image": "x"}]}}}});
    assert!(
        refused(keyless)
            .message
            .ends_with("element 0: associative list with keys has an element that omits key field \"name\"")
    );
    let managed = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "managedFields": [{"manager": "x"}]}});
    assert_eq!(refused(managed).message, "metadata.managedFields must be nil");
    assert_eq!(refused(config_map(json!({"a": 1}))).code, 400);
}

#[test]
fn status_and_spec_are_owned_apart() {
    let live = fitted(
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": 1}}),
        deployments(),
    );
    let mut created = live.clone();
    update(None, &mut created, deployments(), "a", "", NOW);
    let mut status = created.clone();
    status["status"] = json!({"replicas": 1, "conditions": [{"type": "Available", "status": "True"}]});
    update(
        Some(&created),
        &mut status,
        deployments(),
        "kube-controller-manager",
        "status",
        LATER,
    );
    let entry = &meta::field(&status, "managedFields")[1];
    assert_eq!(entry["subresource"], "status");
    assert_eq!(
        entry["fieldsV1"],
        json!({"f:status": {"f:conditions": {".": {}, "k:{\"type\":\"Available\"}": {".": {}, "f:status": {}, "f:type": {}}}, "f:replicas": {}}})
    );
}

#[test]
fn old_update_entries_are_joined() {
    let mut object = fitted(config_map(json!({})), config_maps());
    update(None, &mut object, config_maps(), "first", "", NOW);
    meta::set_label(&mut object, "l", "0");
    update(None, &mut object, config_maps(), "first", "", NOW);
    for index in 0..15 {
        let mut next = object.clone();
        meta::set_label(&mut next, &format!("l{index}"), "x");
        update(
            Some(&object),
            &mut next,
            config_maps(),
            &format!("m{index}"),
            "",
            &format!("2026-01-01T00:01:{index:02}Z"),
        );
        object = next;
    }
    let owners = owners(&object);
    assert_eq!(owners.len(), 10);
    assert!(owners.iter().any(|(name, _)| name == "ancient-changes/Update"));
}

#[test]
fn giving_up_all_metadata_keeps_the_name() {
    let with_note = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "a", "namespace": "n", "annotations": {"note": "x"}}, "data": {"k": "v"}});
    let mut without_note = with_note.clone();
    without_note["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("annotations");
    let live = apply(None, &with_note, config_maps(), "m", false, "", NOW).unwrap();
    let next = apply(Some(&live), &without_note, config_maps(), "m", false, "", LATER).unwrap();
    assert_eq!((meta::name(&next), meta::namespace(&next)), ("a", "n"));
    assert!(meta::annotations(&next).get("note").is_none());
}
