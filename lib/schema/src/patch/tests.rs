//! Tests of the patches.

use super::*;
use crate::types;
use serde_json::json;

fn smp(original: Value, patch: Value) -> Value {
    strategic_merge(&original, &patch, types::of("", "v1", "Pod").unwrap()).unwrap()
}

#[test]
fn strategic_merges() {
    let table = [
        // Lists with a merge key merge item by item; new items come first, as upstream orders them.
        (
            json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}}),
            json!({"spec": {"containers": [{"name": "b", "image": "2"}]}}),
            json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]}}),
        ),
        (
            json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}),
            json!({"spec": {"containers": [{"name": "c", "image": null}]}}),
            json!({"spec": {"containers": [{"name": "c"}, {"name": "a"}, {"name": "b"}]}}),
        ),
        // The order kubectl asks for.
        (
            json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}),
            json!({"spec": {"$setElementOrder/containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}],
                "containers": [{"name": "c", "image": "3"}]}}),
            json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}, {"name": "c", "image": "3"}]}}),
        ),
        (
            json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}),
            json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}),
            json!({"spec": {"containers": [{"name": "b"}, {"name": "a"}]}}),
        ),
        // Deletion and replacement by directive.
        (
            json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}),
            json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}),
            json!({"spec": {"containers": [{"name": "b"}]}}),
        ),
        (
            json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}),
            json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "c"}]}}),
            json!({"spec": {"containers": [{"name": "c"}]}}),
        ),
        (
            json!({"metadata": {"labels": {"a": "1"}}}),
            json!({"metadata": {"labels": {"$patch": "replace", "b": "2"}}}),
            json!({"metadata": {"labels": {"b": "2"}}}),
        ),
        // Lists of scalars.
        (
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"finalizers": ["c", "a"]}}),
            json!({"metadata": {"finalizers": ["c", "a", "b"]}}),
        ),
        (
            json!({"metadata": {"finalizers": ["a", "b", "c"]}}),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"]}}),
            json!({"metadata": {"finalizers": ["a", "c"]}}),
        ),
        // Atomic lists are replaced.
        (
            json!({"spec": {"tolerations": [{"key": "a"}]}}),
            json!({"spec": {"tolerations": [{"key": "b"}]}}),
            json!({"spec": {"tolerations": [{"key": "b"}]}}),
        ),
        // Unions keep only the named keys.
        (
            json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
            json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/p"}}]}}),
            json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/p"}}]}}),
        ),
        // Null deletes, and is not stored.
        (
            json!({"spec": {"nodeName": "n", "hostname": "h"}}),
            json!({"spec": {"nodeName": null, "subdomain": null, "securityContext": {"runAsUser": null, "runAsGroup": 1}}}),
            json!({"spec": {"hostname": "h", "securityContext": {"runAsGroup": 1}}}),
        ),
    ];
    for (original, patch, merged) in table {
        assert_eq!(smp(original, patch.clone()), merged, "{patch}");
    }
}

#[test]
fn strategic_refusals() {
    let pod = types::of("", "v1", "Pod").unwrap();
    let original = json!({"spec": {"containers": [{"name": "a"}], "volumes": [{"name": "v"}]}});
    let refused = |patch: Value| strategic_merge(&original, &patch, pod).unwrap_err();
    assert_eq!(refused(json!([])).code, 400);
    let status = refused(json!({"spec": {"containers": [{"image": "x"}]}}));
    assert_eq!(
        status.message,
        "map: {\"image\":\"x\"} does not contain declared merge key: name"
    );
    assert_eq!(
        refused(json!({"spec": {"$retainKeys": ["a"], "hostname": "h"}})).code,
        400
    );
    assert_eq!(
        refused(json!({"spec": {"$setElementOrder/containers": 1}})).code,
        400
    );
    assert_eq!(refused(json!({"spec": {"containers": ["a"]}})).code, 422);
    assert_eq!(refused(json!({"$patch": "x"})).code, 500);
}

#[test]
fn json_and_merge_patches() {
    let original = json!({"a": {"b": [1, 2]}, "c": "d"});
    let patch = json!([{"op": "test", "path": "/c", "value": "d"}, {"op": "add", "path": "/a/b/-", "value": 3},
        {"op": "remove", "path": "/c"}]);
    assert_eq!(
        json_patch(&original, &patch).unwrap(),
        json!({"a": {"b": [1, 2, 3]}})
    );
    assert_eq!(
        json_patch(&original, &json!([{"op": "remove", "path": "/x"}]))
            .unwrap_err()
            .code,
        422
    );
    assert_eq!(json_patch(&original, &json!({})).unwrap_err().code, 400);
    assert_eq!(
        json_patch(
            &original,
            &json!(vec![json!({"op": "add", "path": "/a", "value": 1}); 10_001])
        )
        .unwrap_err()
        .code,
        413
    );
    let doubling = json!(vec![json!({"op": "copy", "from": "", "path": "/a/b/-"}); 60]);
    assert!(json_patch(&original, &doubling).is_err());
    assert_eq!(
        merge_patch(&original, &json!({"a": {"b": null, "x": {"y": null}}, "c": [1]})).unwrap(),
        json!({"a": {"x": {}}, "c": [1]})
    );
    assert_eq!(merge_patch(&original, &json!([])).unwrap_err().code, 400);
}
