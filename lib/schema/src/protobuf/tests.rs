//! Tests of the transcoder beside the fixtures.

use super::*;
use crate::json;
use serde_json::json;

#[test]
fn a_config_map_goes_both_ways() {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b",
        "labels": {"x": "", "k": "v"}, "generation": -1}, "data": {"k": "v"}, "binaryData": {"b": "AAE="}, "immutable": false});
    let framed = encode(&object).unwrap();
    assert!(is_framed(&framed));
    assert_eq!(decode(&framed).unwrap(), object);
}

#[test]
fn special_forms_go_both_ways() {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "creationTimestamp": "2026-01-02T03:04:05Z"},
        "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "500m"}},
            "livenessProbe": {"httpGet": {"port": "http", "path": "/"}, "initialDelaySeconds": 3}}],
            "volumes": [{"name": "v", "emptyDir": {}}]}, "status": {}});
    assert_eq!(decode(&encode(&pod).unwrap()).unwrap(), pod);
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {},
        "spec": {"renewTime": "1969-12-31T23:59:59.999999Z"}});
    assert_eq!(decode(&encode(&lease).unwrap()).unwrap(), lease);
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {},
        "spec": {"user": "u", "extra": {"k": ["a", "b"], "e": []}}, "status": {"allowed": false}});
    assert_eq!(decode(&encode(&review).unwrap()).unwrap(), review);
    let schema = json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string", "maximum": 1.5}},
        "b": {"additionalProperties": false}, "c": {"additionalProperties": {"default": {"x": [1]}}}},
        "dependencies": {"a": ["b"]}});
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "a.b"},
        "spec": {"group": "b", "scope": "Cluster", "names": {"plural": "a", "kind": "A"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]},
        "status": {"conditions": null, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": null}});
    assert_eq!(decode(&encode(&crd).unwrap()).unwrap(), crd);
}

#[test]
fn watch_events_are_length_prefixed() {
    let framed = encode(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}})).unwrap();
    let event = encode_watch_event("ADDED", &framed);
    let length = u32::from_be_bytes(event[..4].try_into().unwrap()) as usize;
    assert_eq!(length, event.len() - 4);
    assert_eq!(
        decode_watch_event(&event[4..]).unwrap(),
        ("ADDED", framed.as_slice())
    );
}

#[test]
fn broken_bytes_are_refused_without_panic() {
    let framed = encode(
        &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": []}}),
    )
    .unwrap();
    for end in 0..framed.len() {
        let _ = decode(&framed[..end]);
    }
    assert_eq!(decode(b"{}"), Err(Error::NotFramed));
    assert_eq!(
        decode(&frame("v1", "Podd", b"")).unwrap_err().to_string(),
        "no kind \"Podd\" is registered for version \"v1\""
    );
    assert_eq!(
        decode(&frame("v1", "Pod", &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x7f])),
        Err(Error::Truncated)
    );
    assert_eq!(decode(&frame("v1", "Pod", &[0x0b])), Err(Error::WireType(3)));
    // A schema within a schema, deeper than any client's.
    let mut schema = Vec::new();
    for _ in 0..1000 {
        let inner = std::mem::take(&mut schema);
        wire::put_bytes(&mut schema, 28, &inner);
    }
    let def =
        crate::types::by_name("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")
            .unwrap();
    assert!(decode_as(&schema, def).is_err());
}

/// Upstream's own bytes, where the specification lies beside the workspace.
#[test]
fn fixtures_go_both_ways_byte_for_byte() {
    let beside = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/spec");
    let spec = std::env::var_os("KEELSON_SPEC").map_or(beside, Into::into);
    let Ok(fixtures) = std::fs::read_dir(spec.join("fixtures")) else {
        println!("skipped: no fixtures in ../shared/spec");
        return;
    };
    let mut failures = Vec::new();
    let mut seen = 0;
    for path in fixtures
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension() == Some("json".as_ref()))
    {
        seen += 1;
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read(&path).unwrap();
        let bytes = std::fs::read(path.with_extension("pb")).unwrap();
        if let Err(why) = both_ways(&name, &text, &bytes) {
            failures.push(format!("{name}: {why}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(seen > 80);
}

fn both_ways(name: &str, text: &[u8], bytes: &[u8]) -> Result<(), String> {
    let (kind, raw) = unframe(bytes).map_err(|why| why.to_string())?;
    let bare = name == "core.v1.WatchEvent";
    let def = if bare {
        types::by_name("io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent")
    } else {
        types::of_kind(&kind)
    }
    .ok_or("no definition")?;
    let value = if bare { decode_as(raw, def) } else { decode(bytes) }.map_err(|why| why.to_string())?;
    let written = json::pretty(&json::to_vec(&value, def));
    if written != text {
        return Err(format!("JSON differs\n{}", first_difference(&written, text)));
    }
    let parsed: Value = serde_json::from_slice(text).map_err(|why| why.to_string())?;
    let mut fitted = parsed.clone();
    crate::decode::normalize(&mut fitted, def)?;
    if fitted != parsed {
        return Err("fitting changes it".to_owned());
    }
    let encoded = if bare {
        encode_as(&parsed, def).map(|raw| frame("", "", &raw))
    } else {
        encode(&parsed)
    };
    match encoded.map_err(|why| why.to_string())? {
        encoded if encoded == bytes => Ok(()),
        encoded => Err(format!("protobuf differs\n{}", first_difference(&encoded, bytes))),
    }
}

fn first_difference(ours: &[u8], theirs: &[u8]) -> String {
    let at = ours
        .iter()
        .zip(theirs)
        .position(|(a, b)| a != b)
        .unwrap_or(ours.len().min(theirs.len()));
    let near = |bytes: &[u8]| {
        let slice = &bytes[at.saturating_sub(60).min(bytes.len())..(at + 60).min(bytes.len())];
        String::from_utf8_lossy(slice).into_owned()
    };
    format!("ours: {:?}\ntheirs: {:?}", near(ours), near(theirs))
}
