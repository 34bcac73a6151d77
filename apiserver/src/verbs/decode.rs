//! Request bodies: bounded bytes, then objects of the kind the path names.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use keelson_machinery::{FieldErrors, GroupKind, GroupVersion, GroupVersionKind, Path, Status, Value};
use keelson_schema::decode::{self, Strictness};
use keelson_schema::types::TypeDef;
use keelson_schema::{protobuf, types};

use crate::context::Context;
use crate::limits::{REQUEST_BODY_BYTES_MAX, REQUEST_BODY_DRAIN_MAX};
use crate::wire::negotiate::{Encoding, body_encoding};

/// The whole body.
///
/// # Errors
/// 413 beyond 3 MiB, 400 where the client broke off.
pub async fn read_body(context: &mut Context) -> Result<Bytes, Status> {
    let Some(mut body) = context.body.take() else {
        return Ok(Bytes::new());
    };
    let mut gathered: Option<BytesMut> = None;
    let (mut first, mut length) = (Bytes::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Status::bad_request(format!("error reading the request body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        if length > REQUEST_BODY_BYTES_MAX {
            drain(&mut body).await;
            return Err(Status::request_entity_too_large(REQUEST_BODY_BYTES_MAX));
        }
        match &mut gathered {
            Some(bytes) => bytes.extend_from_slice(&data),
            None if first.is_empty() => first = data,
            None => {
                let mut bytes = BytesMut::from(&first[..]);
                bytes.extend_from_slice(&data);
                gathered = Some(bytes);
            }
        }
    }
    Ok(gathered.map_or(first, BytesMut::freeze))
}

/// Takes the rest off the wire without keeping it: a client that still sends often does not see the answer.
async fn drain(body: &mut Incoming) {
    let mut left = REQUEST_BODY_DRAIN_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        let Some(rest) = left.checked_sub(length) else {
            return;
        };
        left = rest;
    }
}

/// The `fieldValidation` asked for.
///
/// # Errors
/// 422 for an unknown one.
pub fn strictness(context: &Context) -> Result<Strictness, Status> {
    match context.query.get("fieldValidation") {
        None | Some("" | "Warn") => Ok(Strictness::Warn),
        Some("Ignore") => Ok(Strictness::Ignore),
        Some("Strict") => Ok(Strictness::Strict),
        Some(other) => {
            let kind = match context.info.verb.as_str() {
                "create" => "CreateOptions",
                "patch" => "PatchOptions",
                _ => "UpdateOptions",
            };
            let mut errors = FieldErrors::default();
            let supported = ["", "Ignore", "Strict", "Warn"];
            errors.not_supported(&Path::new("fieldValidation"), other, &supported);
            Err(Status::invalid(&GroupKind::new("meta.k8s.io", kind), "", &errors))
        }
    }
}

/// The body as an object of the kind.
pub async fn object(
    context: &mut Context,
    gvk: &GroupVersionKind,
    def: &'static TypeDef,
) -> Result<Value, Status> {
    let encoding = body_encoding(&context.parts.headers)?;
    let strictness = strictness(context)?;
    let body = read_body(context).await?;
    let mut value = match encoding {
        Encoding::Protobuf => {
            protobuf::decode(&body).map_err(|error| Status::bad_request(error.to_string()))?
        }
        Encoding::Json | Encoding::Yaml => {
            let decoded = match encoding {
                Encoding::Yaml => decode::yaml(&body, def, strictness)?,
                _ => decode::json(&body, def, strictness)?,
            };
            for warning in decoded.warnings {
                context.warn(warning);
            }
            decoded.value
        }
    };
    check_kind(&mut value, gvk)?;
    Ok(value)
}

/// An absent kind is the expected one; another is refused.
pub fn check_kind(value: &mut Value, expected: &GroupVersionKind) -> Result<(), Status> {
    let Some(object) = value.as_object_mut() else {
        return Err(Status::bad_request("the body is no object"));
    };
    let text = |name: &str| {
        object
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let want = expected.api_version();
    if !(kind.is_empty() || kind == expected.kind) || !(api_version.is_empty() || api_version == want) {
        let known = GroupVersion::parse(&api_version).is_some_and(|gv| {
            types::of_kind(&GroupVersionKind {
                group: gv.group,
                version: gv.version,
                kind: kind.clone().into(),
            })
            .is_some()
        });
        if !known && !kind.is_empty() {
            return Err(Status::bad_request(format!(
                "no kind {kind:?} is registered for version {:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
                if api_version.is_empty() {
                    &want
                } else {
                    &api_version
                }
            )));
        }
        if !api_version.is_empty() && api_version != want {
            return Err(Status::bad_request(format!(
                "the API version in the data ({api_version}) does not match the expected API version ({want})"
            )));
        }
        return Err(Status::bad_request(format!(
            "{kind} in version {:?} cannot be handled as a {}: converting ({}.{kind}) to ({}.{}): unknown conversion",
            expected.version,
            expected.kind,
            expected.version,
            if expected.group.is_empty() {
                "core"
            } else {
                &expected.group
            },
            expected.kind
        )));
    }
    object.insert("apiVersion".to_owned(), want.into());
    object.insert("kind".to_owned(), expected.kind.as_ref().into());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_missing_kind_is_filled_in() {
        let gvk = GroupVersionKind::new("apps", "v1", "Deployment");
        let mut value = json!({"metadata": {}});
        check_kind(&mut value, &gvk).unwrap();
        assert_eq!(value["apiVersion"], "apps/v1");
        assert_eq!(value["kind"], "Deployment");
    }

    #[test]
    fn another_kind_is_refused() {
        let gvk = GroupVersionKind::new("", "v1", "Service");
        for (value, text) in [
            (
                json!({"apiVersion": "v1", "kind": "Nope"}),
                "no kind \"Nope\" is registered for version \"v1\"",
            ),
            (
                json!({"apiVersion": "v1", "kind": "Pod"}),
                "Pod in version \"v1\" cannot be handled as a Service",
            ),
            (
                json!({"apiVersion": "apps/v1", "kind": "Deployment"}),
                "the API version in the data (apps/v1)",
            ),
            (json!([]), "no object"),
        ] {
            let error = check_kind(&mut value.clone(), &gvk).unwrap_err();
            assert!(error.message.contains(text), "{}", error.message);
        }
    }
}
