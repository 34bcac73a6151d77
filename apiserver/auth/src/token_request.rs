//! TokenRequest: the `token` subresource of service accounts.

use jiff::{SignedDuration, Timestamp};
use keelson_machinery::gvk::GroupKind;
use keelson_machinery::{FieldErrors, GroupResource, ObjectReader, Path, Status, time};
use serde_json::{Value, json};

use crate::token::{Binding, Claims, Issuer, Reference};

/// What a token lives where the request names nothing.
pub const DEFAULT_EXPIRATION_S: i64 = 3600;
/// The shortest that may be asked for.
pub const MIN_EXPIRATION_S: i64 = 600;
/// Pods ask for exactly this; their tokens live longer and only warn, for clients that do not read them again.
pub const WARN_ONLY_EXPIRATION_S: i64 = 3607;
/// How long those live.
pub const EXTENDED_EXPIRATION_S: i64 = 365 * 24 * 3600;

/// The server's side of a token.
pub struct TokenConfig<'a> {
    pub issuer: &'a Issuer,
    /// `--api-audiences`: what a token is for where the request names nothing.
    pub audiences: &'a [String],
    /// `--service-account-max-token-expiration` in seconds; 0 for none.
    pub max_expiration_s: i64,
    /// `--service-account-extend-token-expiration`.
    pub extend_expiration: bool,
}

/// A TokenRequest with its token, and texts for `Warning` headers.
#[derive(Debug, PartialEq)]
pub struct Issued {
    pub response: Value,
    pub warnings: Vec<String>,
}

/// Issues a token for the service account. `id` is a fresh uuid.
///
/// # Errors
/// The request is not valid, or names an object that does not exist or does not belong to the account.
pub fn create(
    request: &Value,
    account: &Value,
    config: &TokenConfig<'_>,
    reader: &dyn ObjectReader,
    now: Timestamp,
    id: &str,
) -> Result<Issued, Status> {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let (name, namespace) = (
        text(&account["metadata"]["name"]),
        text(&account["metadata"]["namespace"]),
    );
    check_metadata(&request["metadata"], &name, &namespace)?;
    let mut response = request.clone();
    let spec = &mut response["spec"];
    if spec["audiences"].as_array().is_none_or(Vec::is_empty) {
        spec["audiences"] = config.audiences.into();
    }
    let mut expiration_s = spec["expirationSeconds"].as_i64().unwrap_or(DEFAULT_EXPIRATION_S);
    validate(expiration_s)?;
    let binding = binding(&request["spec"]["boundObjectRef"], &name, &namespace, reader)?;
    let mut warnings = Vec::new();
    if config.max_expiration_s > 0 && expiration_s > config.max_expiration_s {
        let max = config.max_expiration_s;
        warnings.push(format!(
            "requested expiration of {expiration_s} seconds shortened to {max} seconds"
        ));
        expiration_s = max;
    }
    spec["expirationSeconds"] = expiration_s.into();
    let audiences: Vec<String> = spec["audiences"]
        .as_array()
        .into_iter()
        .flatten()
        .map(text)
        .collect();
    let for_server = audiences
        .iter()
        .all(|audience| config.audiences.contains(audience));
    let extend = config.extend_expiration
        && binding.pod.is_some()
        && expiration_s == WARN_ONLY_EXPIRATION_S
        && for_server;
    let now_s = now.as_second();
    let claims = Claims {
        issuer: String::new(),
        audiences,
        issued_at_s: now_s,
        not_before_s: now_s,
        expires_at_s: now_s
            + if extend {
                EXTENDED_EXPIRATION_S
            } else {
                expiration_s
            },
        id: id.to_owned(),
        namespace: namespace.clone(),
        service_account: Reference {
            name: name.clone(),
            uid: text(&account["metadata"]["uid"]),
        },
        binding,
        warn_after_s: if extend { now_s + expiration_s } else { 0 },
    };
    let token = config.issuer.issue(claims);
    let token = token.map_err(|error| Status::internal(format!("failed to generate token: {error}")))?;
    let expires = now
        .checked_add(SignedDuration::from_secs(expiration_s))
        .map_err(|error| Status::internal(error.to_string()))?;
    response["metadata"]["name"] = name.into();
    response["metadata"]["namespace"] = namespace.into();
    response["metadata"]["creationTimestamp"] = time::format_rfc3339(now).into();
    response["status"] = json!({"token": token, "expirationTimestamp": time::format_rfc3339(expires)});
    Ok(Issued { response, warnings })
}

fn check_metadata(metadata: &Value, name: &str, namespace: &str) -> Result<(), Status> {
    for (field, given, own) in [
        ("name", &metadata["name"], name),
        ("namespace", &metadata["namespace"], namespace),
    ] {
        let given = given.as_str().unwrap_or("");
        if !given.is_empty() && given != own {
            let what = match field {
                "name" => "the service account name",
                _ => "the service account namespace",
            };
            return Err(Status::bad_request(format!(
                "must match {what} if specified: metadata.{field} is {given:?}"
            )));
        }
    }
    Ok(())
}

fn validate(expiration_s: i64) -> Result<(), Status> {
    let mut errors = FieldErrors::default();
    let path = Path::new("spec").child("expirationSeconds");
    if expiration_s < MIN_EXPIRATION_S {
        errors.invalid(
            &path,
            expiration_s,
            "may not specify a duration less than 10 minutes",
        );
    }
    if expiration_s > 1 << 32 {
        errors.invalid(
            &path,
            expiration_s,
            "may not specify a duration larger than 2^32 seconds",
        );
    }
    if errors.is_empty() {
        return Ok(());
    }
    let kind = GroupKind::new("authentication.k8s.io", "TokenRequest");
    Err(Status::invalid(&kind, "", &errors))
}

/// The object the token is bound to, looked up: it must exist and have the uid the request names, if any.
fn binding(
    reference: &Value,
    account: &str,
    namespace: &str,
    reader: &dyn ObjectReader,
) -> Result<Binding, Status> {
    if !reference.is_object() {
        return Ok(Binding::default());
    }
    let text = |key: &str| reference[key].as_str().unwrap_or("").to_owned();
    let (api_version, kind, name) = (text("apiVersion"), text("kind"), text("name"));
    let (resource, scope) = match (api_version.as_str(), kind.as_str()) {
        ("v1", "Pod") => (GroupResource::new("", "pods"), Some(namespace)),
        ("v1", "Secret") => (GroupResource::new("", "secrets"), Some(namespace)),
        ("v1", "Node") => (GroupResource::new("", "nodes"), None),
        _ => {
            let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
            return Err(Status::bad_request(format!(
                "cannot bind token to object of type {group}/{version}, Kind={kind}"
            )));
        }
    };
    let object = reader.get(&resource, scope, &name);
    let object = object.ok_or_else(|| Status::not_found(&resource, &name))?;
    let uid = object["metadata"]["uid"].as_str().unwrap_or("").to_owned();
    let mut binding = Binding::default();
    if kind == "Pod" {
        if object["spec"]["serviceAccountName"] != account {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
            )));
        }
        binding.node = node_of(&object, reader);
    }
    let wanted = text("uid");
    if !wanted.is_empty() && wanted != uid {
        let resource = GroupResource {
            group: "".into(),
            resource: kind.into(),
        };
        let why = format!(
            "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might have \
             been deleted and then recreated"
        );
        return Err(Status::conflict(&resource, &name, &why));
    }
    let found = Some(Reference { name, uid });
    match kind.as_str() {
        "Pod" => binding.pod = found,
        "Secret" => binding.secret = found,
        _ => binding.node = found,
    }
    Ok(binding)
}

/// The node of a scheduled pod; without uid where it does not exist (any more).
fn node_of(pod: &Value, reader: &dyn ObjectReader) -> Option<Reference> {
    let name = pod["spec"]["nodeName"].as_str().filter(|name| !name.is_empty())?;
    let node = reader.get(&GroupResource::new("", "nodes"), None, name);
    let uid = node.and_then(|node| node["metadata"]["uid"].as_str().map(str::to_owned));
    Some(Reference {
        name: name.to_owned(),
        uid: uid.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use keelson_testkit::Objects;

    fn ask(spec: Value) -> Result<Value, Status> {
        let pem = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let issuer = Issuer::new("https://i", pem.as_bytes()).unwrap();
        let config = TokenConfig {
            issuer: &issuer,
            audiences: &["api".to_owned()],
            max_expiration_s: 0,
            extend_expiration: true,
        };
        let pod = |name: &str, account: &str| {
            json!({
                "metadata": {"namespace": "dev", "name": name, "uid": format!("{name}-uid")},
                "spec": {"serviceAccountName": account, "nodeName": "n1"},
            })
        };
        let objects = Objects::new([
            ("", "pods", pod("web", "ci")),
            ("", "pods", pod("db", "other")),
            ("", "nodes", json!({"metadata": {"name": "n1", "uid": "n1-uid"}})),
        ]);
        let account = json!({"metadata": {"namespace": "dev", "name": "ci", "uid": "sa-uid"}});
        let now = Timestamp::from_second(1_000_000).unwrap();
        let issued = create(&json!({"spec": spec}), &account, &config, &objects, now, "id")?;
        let token = issued.response["status"]["token"].as_str().unwrap().to_owned();
        let payload = token.split('.').nth(1).unwrap();
        use base64::Engine;
        let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(payload)
            .unwrap();
        let mut response = issued.response;
        response["claims"] = serde_json::from_slice(&payload).unwrap();
        Ok(response)
    }

    #[test]
    fn defaults_are_an_hour_and_the_server() {
        let response = ask(json!({})).unwrap();
        assert_eq!(
            response["spec"],
            json!({"audiences": ["api"], "expirationSeconds": 3600})
        );
        assert_eq!(response["status"]["expirationTimestamp"], "1970-01-12T14:46:40Z");
        assert_eq!(response["claims"]["exp"], 1_003_600);
    }

    #[test]
    fn a_pods_token_is_extended_and_names_its_node() {
        let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "web-uid"});
        let response = ask(json!({"expirationSeconds": 3607, "boundObjectRef": bound})).unwrap();
        assert_eq!(response["status"]["expirationTimestamp"], "1970-01-12T14:46:47Z");
        assert_eq!(response["claims"]["exp"], 1_000_000 + EXTENDED_EXPIRATION_S);
        let private = json!({
            "namespace": "dev", "node": {"name": "n1", "uid": "n1-uid"}, "pod": {"name": "web", "uid": "web-uid"},
            "serviceaccount": {"name": "ci", "uid": "sa-uid"}, "warnafter": 1_003_607,
        });
        assert_eq!(response["claims"]["kubernetes.io"], private);
    }

    #[test]
    fn refusals_are_upstreams() {
        let bound = |kind: &str, name: &str, uid: &str| json!({"boundObjectRef": {"apiVersion": "v1", "kind": kind, "name": name, "uid": uid}});
        for (spec, code, message) in [
            (
                json!({"expirationSeconds": 599}),
                422,
                "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 599: may not \
                 specify a duration less than 10 minutes",
            ),
            (bound("Pod", "gone", ""), 404, "pods \"gone\" not found"),
            (
                bound("Pod", "db", ""),
                400,
                "cannot bind token for serviceaccount \"ci\" to pod running with different serviceaccount name.",
            ),
            (
                bound("ConfigMap", "x", ""),
                400,
                "cannot bind token to object of type /v1, Kind=ConfigMap",
            ),
            (
                bound("Pod", "web", "old"),
                409,
                "Operation cannot be fulfilled on Pod \"web\": the UID in the bound object reference (old) does not match \
                 the UID in record. The object might have been deleted and then recreated",
            ),
        ] {
            let status = ask(spec).unwrap_err();
            assert_eq!((status.code, status.message.as_str()), (code, message));
        }
    }
}
