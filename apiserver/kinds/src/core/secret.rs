//! Secret: like a ConfigMap, with a type that says which keys must be there.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, meta, names};
use serde_json::Map;

use super::config_map::{DATA_BYTES_MAX, check_key, decoded_len, unchanged_if_immutable};
use crate::kind::{Column, Kind, Name, resource};
use crate::{cells, check, set, strategy};

const SERVICE_ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text("Type", "Used to facilitate programmatic handling of secret data."),
    cells::text("Data", "Data contains the secret data."),
    cells::AGE,
];

const FIELDS: &[Name] = &[Name::Borrowed("type")];

/// The keys a type needs.
const KEYS: &[(&str, &[&str])] = &[
    ("kubernetes.io/dockercfg", &[".dockercfg"]),
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"]),
    ("kubernetes.io/tls", &["tls.crt", "tls.key"]),
];

pub struct Secret;

impl Kind for Secret {
    resource!("", "v1", "secrets");

    /// `stringData` is write-only text: it overwrites `data` and is not kept.
    fn set_defaults(&self, secret: &mut Value) {
        set::zero(secret, "type", "Opaque");
        if let Some(Value::Object(texts)) = set::remove(secret, "stringData") {
            if texts.is_empty() {
                return;
            }
            let data = set::object(secret, "data");
            for (key, text) in texts {
                let encoded = STANDARD.encode(text.as_str().unwrap_or(""));
                set::put(data, &key, encoded);
            }
        }
    }

    /// An empty type means "as it was": clients of old versions drop the field.
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        let kind = old["type"].clone();
        set::zero(new, "type", kind);
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let secret = Cursor::root(new);
        if let Some(old) = old {
            check::immutable(&mut e, &secret.child("type"), &Cursor::root(old).child("type"));
            unchanged_if_immutable(&mut e, new, old, &["data"]);
        }
        let data = secret.child("data");
        let mut total = 0;
        for (key, entry) in data.entries() {
            check_key(&mut e, &entry, key);
            total += decoded_len(entry.str());
        }
        if total > DATA_BYTES_MAX {
            e.too_long(data.path(), DATA_BYTES_MAX);
        }
        type_rules(&mut e, &secret);
        e
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        if new["type"] == "kubernetes.io/tls" && !tls_pair_is_present(new) {
            return vec!["tls: failed to find any PEM data in certificate input".to_owned()];
        }
        Vec::new()
    }

    fn selectable_field_names(&self) -> &[Name] {
        FIELDS
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(Name, String)> {
        let mut fields = strategy::metadata_fields(obj, true);
        fields.push((FIELDS[0].clone(), obj["type"].as_str().unwrap_or("").to_owned()));
        fields
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            cells::name(obj),
            obj["type"].clone(),
            obj["data"].as_object().map_or(0, Map::len).into(),
            cells::age(obj, now),
        ]
    }
}

fn tls_pair_is_present(secret: &Value) -> bool {
    let pem = |key: &str| {
        let bytes = STANDARD
            .decode(secret["data"][key].as_str().unwrap_or(""))
            .unwrap_or_default();
        String::from_utf8_lossy(&bytes).contains("-----BEGIN ")
    };
    pem("tls.crt") && pem("tls.key")
}

fn type_rules(e: &mut FieldErrors, secret: &Cursor) {
    let kind = secret.child("type").str();
    let data = secret.child("data");
    if let Some((_, keys)) = KEYS.iter().find(|(known, _)| *known == kind) {
        for key in *keys {
            let entry = data.path().key(key);
            match data.value().get(key) {
                None => e.required(&entry, ""),
                Some(value) if key.starts_with(".docker") => docker_config(e, &Cursor::at(value, entry)),
                Some(_) => {}
            }
        }
    }
    if kind == "kubernetes.io/basic-auth" {
        let has = |key: &str| data.value().get(key).is_some();
        if !has("username") && !has("password") {
            for key in ["username", "password"] {
                e.required(&data.path().key(key), "");
            }
        }
    }
    if kind == "kubernetes.io/service-account-token"
        && meta::annotation(secret.value(), SERVICE_ACCOUNT_NAME).is_none_or(str::is_empty)
    {
        let at = secret.child("metadata").child("annotations");
        e.required(&at.path().key(SERVICE_ACCOUNT_NAME), "");
    }
}

/// The value never appears in the text.
fn docker_config(e: &mut FieldErrors, entry: &Cursor) {
    let bytes = STANDARD.decode(entry.str()).unwrap_or_default();
    if let Err(error) = json_object(&bytes) {
        e.invalid(entry.path(), "<secret contents redacted>", error);
    }
}

fn json_object(bytes: &[u8]) -> Result<(), String> {
    match serde_json::from_slice::<Map<String, Value>>(bytes) {
        Ok(_) => Ok(()),
        Err(_) if bytes.is_empty() => Err("unexpected end of JSON input".to_owned()),
        Err(error) if error.is_eof() => Err("unexpected end of JSON input".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::create;
    use serde_json::json;

    #[test]
    fn string_data_becomes_data() {
        let mut secret = json!({"stringData": {"a": "hello"}});
        Secret.set_defaults(&mut secret);
        assert_eq!(secret, json!({"type": "Opaque", "data": {"a": "aGVsbG8="}}));
    }

    #[test]
    fn types_need_their_keys() {
        let secret = |kind: &str, data: Value| json!({"metadata": {"name": "a", "namespace": "b"}, "type": kind, "data": data});
        let table = [
            (
                secret("kubernetes.io/tls", json!({})),
                vec!["data[tls.crt]: Required value", "data[tls.key]: Required value"],
            ),
            (
                secret(
                    "kubernetes.io/dockerconfigjson",
                    json!({".dockerconfigjson": "e30="}),
                ),
                vec![],
            ),
            (
                secret("kubernetes.io/dockerconfigjson", json!({".dockerconfigjson": ""})),
                vec![
                    "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": unexpected end of JSON input",
                ],
            ),
            (
                secret("kubernetes.io/service-account-token", json!({})),
                vec!["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
            ),
        ];
        for (secret, expected) in table {
            assert_eq!(create(&Secret, secret.clone()), expected, "{secret}");
        }
    }
}
