//! The protobuf form, read back by hand.

use super::*;
use crate::Writer as _;
use serde_json::json;

/// What a field of a message holds, read back without the tables.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Read<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (first, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(first & 0x7F) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    value
}

/// The fields of a message in their order.
fn message(mut bytes: &[u8]) -> Vec<(u64, Read<'_>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let read = match tag & 7 {
            0 => Read::Number(varint(&mut bytes)),
            1 => {
                let (value, rest) = bytes.split_at(8);
                bytes = rest;
                Read::Number(u64::from_le_bytes(value.try_into().unwrap()))
            }
            2 => {
                let length = usize::try_from(varint(&mut bytes)).unwrap();
                let (value, rest) = bytes.split_at(length);
                bytes = rest;
                Read::Bytes(value)
            }
            other => panic!("wire type {other}"),
        };
        fields.push((tag >> 3, read));
    }
    fields
}

/// Every value at a path of field numbers.
fn all<'a>(bytes: &'a [u8], path: &[u64]) -> Vec<Read<'a>> {
    let (first, rest) = path.split_first().unwrap();
    let found = message(bytes).into_iter().filter(|(number, _)| number == first);
    found
        .flat_map(|(_, read)| match (read, rest) {
            (read, []) => vec![read],
            (Read::Bytes(inner), rest) => all(inner, rest),
            (Read::Number(_), _) => panic!("{path:?} goes on below a number"),
        })
        .collect()
}

fn texts<'a>(bytes: &'a [u8], path: &[u64]) -> Vec<&'a str> {
    let read = all(bytes, path).into_iter();
    read.map(|read| match read {
        Read::Bytes(bytes) => std::str::from_utf8(bytes).unwrap(),
        Read::Number(_) => panic!("{path:?} is a number"),
    })
    .collect()
}

/// The value of the entry with this name, of a list of names and values.
fn entry<'a>(bytes: &'a [u8], path: &[u64], name: &str) -> &'a [u8] {
    let found = all(bytes, path).into_iter().find_map(|read| match read {
        Read::Bytes(entry) if texts(entry, &[1]) == [name] => Some(entry),
        _ => None,
    });
    let [Read::Bytes(value)] = all(found.unwrap(), &[2])[..] else {
        panic!("{name} has no value");
    };
    value
}

/// An extension, of the list with this number.
fn yaml_of(bytes: &[u8], list: u64, name: &str) -> Value {
    let texts = texts(entry(bytes, &[list], name), &[2]);
    yaml::to_value(texts[0].as_bytes()).unwrap()
}

#[test]
fn every_shape_of_schema() {
    let mut out = Protobuf::v2();
    out.entry("swagger", &"2.0".into());
    out.section("definitions");
    out.entry(
        "a.Thing",
        &json!({
            "type": "object",
            "description": "thing",
            "required": ["one", "two"],
            "properties": {
                "one": {"$ref": "#/definitions/b", "default": {}},
                "two": {"type": "array", "items": {"type": "string", "format": "byte"}},
                "map": {"additionalProperties": {"type": "integer"}},
                "closed": {"additionalProperties": false},
                "mode": {"default": 420, "enum": ["a", "b"]},
            },
            "x-kubernetes-group-version-kind": [{"group": "a", "kind": "Thing", "version": "v1"}],
        }),
    );
    out.close();
    let bytes = out.finish();
    assert_eq!(texts(&bytes, &[1]), ["2.0"]);
    let thing = entry(&bytes, &[9, 1], "a.Thing");
    assert_eq!(texts(thing, &[22, 1]), ["object"]);
    assert_eq!(texts(thing, &[4]), ["thing"]);
    assert_eq!(texts(thing, &[19]), ["one", "two"]);
    assert_eq!(
        yaml_of(thing, 31, "x-kubernetes-group-version-kind"),
        json!([{"group": "a", "kind": "Thing", "version": "v1"}])
    );
    let property = |name| entry(thing, &[25, 1], name);
    assert_eq!(texts(property("one"), &[1]), ["#/definitions/b"]);
    assert_eq!(texts(property("one"), &[5, 2])[0].trim(), "{}");
    assert_eq!(texts(property("two"), &[23, 1, 22, 1]), ["string"]);
    assert_eq!(texts(property("two"), &[23, 1, 2]), ["byte"]);
    assert_eq!(texts(property("map"), &[21, 1, 22, 1]), ["integer"]);
    assert_eq!(all(property("closed"), &[21, 2]), [Read::Number(0)]);
    assert_eq!(texts(property("mode"), &[5, 2])[0].trim(), "420");
    assert_eq!(all(property("mode"), &[20]).len(), 2);
}

#[test]
fn what_old_clients_read_is_there() {
    let bytes = crate::v2_protobuf("v1.36.0");
    assert_eq!(texts(&bytes, &[2, 2]), ["v1.36.0"]);
    assert_eq!(texts(&bytes, &[12, 1, 1]), ["BearerToken"]);
    assert_eq!(texts(entry(&bytes, &[13, 1], "BearerToken"), &[2, 3]), ["header"]);
    let deployment = entry(&bytes, &[9, 1], "io.k8s.api.apps.v1.Deployment");
    assert_eq!(
        yaml_of(deployment, 31, "x-kubernetes-group-version-kind"),
        json!([{"group": "apps", "kind": "Deployment", "version": "v1"}])
    );
    // Whether a kind takes dry runs, as kubectl looks for it.
    let path = "/apis/apps/v1/namespaces/{namespace}/deployments/{name}";
    let item = entry(&bytes, &[8, 2], path);
    let [Read::Bytes(patch)] = all(item, &[8])[..] else {
        panic!("no patch of deployments");
    };
    assert_eq!(texts(patch, &[5]), ["patchAppsV1NamespacedDeployment"]);
    assert_eq!(
        yaml_of(patch, 13, "x-kubernetes-group-version-kind"),
        json!({"group": "apps", "kind": "Deployment", "version": "v1"})
    );
    assert!(texts(patch, &[8, 1, 2, 3, 4]).contains(&"dryRun"));
    assert_eq!(
        texts(patch, &[8, 1, 1, 5, 1]),
        ["#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.Patch"]
    );
    assert_eq!(texts(item, &[9, 1, 2, 4, 4]), ["name", "namespace"]);
    let ok = entry(patch, &[9, 1], "200");
    assert_eq!(
        texts(ok, &[1, 2, 1, 1]),
        ["#/definitions/io.k8s.api.apps.v1.Deployment"]
    );
}

/// The fields that a value has and its table has not.
fn lost(value: &Value, kind: &Kind, at: &str, found: &mut Vec<String>) {
    match kind {
        Kind::Text | Kind::Flag | Kind::Double | Kind::Nothing | Kind::Any => {}
        Kind::Repeated(item) => match value {
            Value::Array(values) => values.iter().for_each(|value| lost(value, item, at, found)),
            single => lost(single, item, at, found),
        },
        Kind::Named { value: kind, .. } => {
            for (key, value) in fields(value).filter(|(key, _)| !key.starts_with("x-")) {
                lost(value, kind, &format!("{at}.{key}"), found);
            }
        }
        Kind::Message(message) => {
            for (key, value) in fields(value).filter(|(key, _)| !is_extension(key)) {
                let at = format!("{at}.{key}");
                match message.field(key) {
                    Some((_, kind)) => lost(value, kind, &at, found),
                    None => found.push(at),
                }
            }
        }
        Kind::Within(_, kind) => lost(value, kind, at, found),
        Kind::Choice(choose) => lost(value, choose(value), at, found),
    }
}

#[test]
fn nothing_of_the_document_is_lost() {
    let document: Value = serde_json::from_slice(&crate::v2("v1.36.0")).unwrap();
    let mut found = Vec::new();
    lost(&document, &Kind::Message(&messages::DOCUMENT), "", &mut found);
    assert!(found.is_empty(), "{found:?}");
    let bytes = crate::v2_protobuf("v1.36.0");
    let entries = |section: &str| document[section].as_object().unwrap().len();
    assert_eq!(all(&bytes, &[8, 2]).len(), entries("paths"));
    assert_eq!(all(&bytes, &[9, 1]).len(), entries("definitions"));
}

#[test]
fn the_third_version_in_protobuf() {
    let bytes = crate::v3_protobuf("apis/apps/v1", "v1.36.0").unwrap();
    assert_eq!(texts(&bytes, &[1]), ["3.0.0"]);
    assert_eq!(texts(&bytes, &[2, 6]), ["v1.36.0"]);
    let deployment = entry(&bytes, &[5, 1, 1], "io.k8s.api.apps.v1.Deployment");
    assert_eq!(
        yaml_of(schema_of(deployment), 36, "x-kubernetes-group-version-kind"),
        json!([{"group": "apps", "kind": "Deployment", "version": "v1"}])
    );
    let spec = entry(schema_of(deployment), &[31, 1], "spec");
    assert_eq!(
        texts(spec, &[1, 26, 2, 1]),
        ["#/components/schemas/io.k8s.api.apps.v1.DeploymentSpec"]
    );
    let port = entry(&bytes, &[5, 1, 1], "io.k8s.api.core.v1.ContainerPort");
    let protocol = entry(port, &[1, 31, 1], "protocol");
    assert_eq!(texts(protocol, &[1, 33, 3]), ["TCP"]);
    let core = crate::v3_protobuf("api/v1", "v1.36.0").unwrap();
    let controller = entry(&core, &[5, 1, 1], "io.k8s.api.core.v1.ReplicationControllerSpec");
    let replicas = entry(controller, &[1, 31, 1], "replicas");
    assert_eq!(all(replicas, &[1, 33, 1]), [Read::Number(1.0_f64.to_bits())]);
    let item = entry(
        &bytes,
        &[4, 1],
        "/apis/apps/v1/namespaces/{namespace}/deployments/{name}",
    );
    assert_eq!(texts(item, &[10, 5]), ["patchAppsV1NamespacedDeployment"]);
    assert_eq!(
        texts(entry(&bytes, &[5, 7, 1], "BearerToken"), &[1, 1]),
        ["apiKey"]
    );
    assert!(crate::v3_protobuf("apis/none/v1", "v1.36.0").is_none());
}

/// The schema of a `SchemaOrReference`.
fn schema_of(either: &[u8]) -> &[u8] {
    let [Read::Bytes(schema)] = all(either, &[1])[..] else {
        panic!("a reference");
    };
    schema
}

#[test]
fn nothing_of_the_third_version_is_lost() {
    for path in crate::documents() {
        let document: Value = serde_json::from_slice(&crate::v3(&path, "v1.36.0").unwrap()).unwrap();
        let mut found = Vec::new();
        lost(&document, &Kind::Message(&messages_v3::DOCUMENT), "", &mut found);
        found.sort();
        found.dedup();
        assert!(found.is_empty(), "{path}: {found:?}");
        let bytes = crate::v3_protobuf(&path, "v1.36.0").unwrap();
        let paths = document["paths"].as_object().unwrap().len();
        assert_eq!(all(&bytes, &[4, 1]).len(), paths, "{path}");
    }
}
