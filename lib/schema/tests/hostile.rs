//! Whatever bytes arrive, every decoder answers: with a value that goes on through the whole path, or with a refusal.

use keelson_machinery::{Quantity, fields, labels, time};
use keelson_schema::decode::{self, Strictness};
use keelson_schema::{json, managed, patch, protobuf, types, yaml};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

/// Objects that between them use every shape of field.
fn samples() -> Vec<Value> {
    let container = json!({"name": "c", "image": "i", "resources": {"limits": {"cpu": "100m", "memory": "1Gi"}},
        "ports": [{"containerPort": 80, "protocol": "TCP"}], "env": [{"name": "E", "value": "v"}],
        "livenessProbe": {"httpGet": {"port": "http"}}});
    let spec = json!({"containers": [container], "volumes": [{"name": "v", "emptyDir": {}}], "nodeSelector": {"a": "b"}});
    let meta = json!({"name": "a", "namespace": "n", "labels": {"k": "v"}, "creationTimestamp": "2026-01-01T00:00:00Z",
        "finalizers": ["x/y"], "managedFields": [{"manager": "m", "operation": "Update", "apiVersion": "v1",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"k:{\"a\":1}": {".": {}}}}}]});
    let schema = json!({"type": "object", "properties": {"a": {"items": {"type": "string"}, "default": [1, {"x": null}]}}});
    vec![
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta,
            "spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": meta, "spec": spec}}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": {"a": "AAECAw=="}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 80, "targetPort": "x"}]}}),
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta,
            "spec": {"renewTime": "2026-01-01T00:00:00.000001Z", "leaseDurationSeconds": 15}}),
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": meta,
            "spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]}}),
    ]
}

fn definition(object: &Value) -> &'static types::TypeDef {
    let api_version = object["apiVersion"].as_str().unwrap_or("");
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    types::of(group, version, object["kind"].as_str().unwrap_or("")).unwrap_or_else(types::object_meta)
}

/// What comes out of a decoder must survive everything that follows.
fn goes_on(value: &Value) {
    let def = definition(value);
    let text = json::to_vec(value, def);
    let pretty = json::pretty(&text);
    assert_eq!(decode::untyped(&text).ok(), decode::untyped(&pretty).ok());
    let _ = protobuf::encode(value);
    let _ = yaml::to_string(value);
    let mut owned = value.clone();
    managed::update(None, &mut owned, def, "m", "", "2026-01-01T00:00:00Z");
    let _ = managed::apply(Some(&owned), value, def, "n", true, "", "2026-01-01T00:00:00Z");
}

fn bytes_changed(mut bytes: Vec<u8>, changes: &[(Index, u8, u8)]) -> Vec<u8> {
    for (place, byte, kind) in changes {
        if bytes.is_empty() {
            break;
        }
        let at = place.index(bytes.len());
        match kind % 4 {
            0 => bytes[at] = *byte,
            1 => bytes.insert(at, *byte),
            2 => drop(bytes.remove(at)),
            _ => bytes.truncate(at),
        }
    }
    bytes
}

fn changes() -> impl Strategy<Value = Vec<(Index, u8, u8)>> {
    prop::collection::vec((any::<Index>(), any::<u8>(), any::<u8>()), 1..6)
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z$/:.\\-0-9]{0,8}".prop_map(Value::from),
    ];
    let keys = prop::sample::select(vec![
        "metadata",
        "name",
        "labels",
        "spec",
        "containers",
        "ports",
        "containerPort",
        "finalizers",
        "$patch",
        "volumes",
        "$retainKeys",
        "$setElementOrder/containers",
        "$deleteFromPrimitiveList/finalizers",
        "managedFields",
        "fieldsV1",
        "template",
        "env",
        "tolerations",
        "resources",
        "limits",
        "cpu",
        "creationTimestamp",
        "x",
    ]);
    leaf.prop_recursive(6, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(keys.clone().prop_map(str::to_owned), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn broken_json(sample in any::<Index>(), changes in changes()) {
        let samples = samples();
        let sample = &samples[sample.index(samples.len())];
        let bytes = bytes_changed(sample.to_string().into_bytes(), &changes);
        for strictness in [Strictness::Ignore, Strictness::Warn, Strictness::Strict] {
            if let Ok(decoded) = decode::json(&bytes, definition(sample), strictness) {
                goes_on(&decoded.value);
            }
        }
    }

    #[test]
    fn broken_yaml(sample in any::<Index>(), changes in changes()) {
        let samples = samples();
        let sample = &samples[sample.index(samples.len())];
        let bytes = bytes_changed(yaml::to_string(sample).into_bytes(), &changes);
        if let Ok(decoded) = decode::yaml(&bytes, definition(sample), Strictness::Warn) {
            goes_on(&decoded.value);
        }
    }

    #[test]
    fn broken_protobuf(sample in any::<Index>(), changes in changes()) {
        let samples = samples();
        let framed = protobuf::encode(&samples[sample.index(samples.len())]).unwrap();
        if let Ok(value) = protobuf::decode(&bytes_changed(framed, &changes)) {
            goes_on(&value);
        }
    }

    #[test]
    fn noise(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = protobuf::decode(&bytes);
        let _ = protobuf::decode(&protobuf::frame("v1", "Pod", &bytes));
        let _ = protobuf::decode_watch_event(&bytes);
        let _ = decode::untyped(&bytes);
        let _ = yaml::to_values(&bytes);
    }

    #[test]
    fn any_value_fits_or_is_refused(mut value in values()) {
        let pod = types::of("", "v1", "Pod").unwrap();
        if decode::normalize(&mut value, pod).is_ok() {
            let once = value.clone();
            decode::normalize(&mut value, pod).unwrap();
            prop_assert_eq!(&once, &value, "fitting twice is fitting once");
            if let Ok(raw) = protobuf::encode_as(&value, pod) {
                let mut back = protobuf::decode_as(&raw, pod).unwrap();
                for lost in ["kind", "apiVersion"] {
                    if let Some(kept) = value.get(lost) {
                        back[lost] = kept.clone();
                    }
                }
                decode::normalize(&mut back, pod).unwrap();
                // Protobuf cannot tell an empty list, map or byte string from none.
                prop_assert_eq!(without_empty(&back), without_empty(&value));
            }
            goes_on(&value);
        }
    }

    #[test]
    fn any_patch_merges_or_is_refused(original in values(), change in values()) {
        let pod = types::of("", "v1", "Pod").unwrap();
        let _ = patch::strategic_merge(&original, &change, pod);
        let _ = patch::merge_patch(&original, &change);
        let _ = patch::json_patch(&original, &change);
        let _ = managed::apply(Some(&original), &change, pod, "m", false, "", "2026-01-01T00:00:00Z");
        let mut new = change.clone();
        managed::update(Some(&original), &mut new, pod, "m", "status", "2026-01-01T00:00:00Z");
    }

    #[test]
    fn any_text(text in "\\PC{0,40}") {
        let _ = labels::Selector::parse(&text);
        let _ = fields::Selector::parse(&text);
        let _ = time::parse(&text);
        if let Ok(nanos) = time::parse_duration(&text) {
            prop_assert_eq!(time::parse_duration(&time::format_duration(nanos)).unwrap(), nanos);
        }
        if let Ok(quantity) = Quantity::parse(&text) {
            let _ = quantity.to_string();
        }
    }

    #[test]
    fn quantities_read_back(number in "-?[0-9]{1,12}(\\.[0-9]{1,9})?", suffix in "(|n|u|m|k|M|G|T|Ki|Mi|Gi|Ti|e[0-9])") {
        // A binary form that was rounded up may print without suffix, and reads back as a decimal one.
        let printed = Quantity::parse(&format!("{number}{suffix}")).unwrap().to_string();
        let again = Quantity::parse(&printed).unwrap();
        prop_assert_eq!(Quantity::parse(&again.to_string()).unwrap(), again);
        prop_assert_eq!(Quantity::parse(&again.to_string()).unwrap().to_string(), again.to_string());
    }
}

fn without_empty(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().map(|(key, value)| (key.clone(), without_empty(value)));
            let empty = |value: &Value| match value {
                Value::Null => true,
                Value::Array(items) => items.is_empty(),
                Value::Object(map) => map.is_empty(),
                _ => false,
            };
            Value::Object(kept.filter(|(_, value)| !empty(value)).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_empty).collect()),
        other => other.clone(),
    }
}
