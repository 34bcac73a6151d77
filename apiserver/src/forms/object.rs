//! One object in the form asked for.

use bytes::Bytes;
use http::StatusCode;
use keelson_machinery::{Status, Value};
use keelson_schema::{json, types, yaml};

use super::protobuf::{Frame, Raw};
use super::{View, metadata, protobuf, table};
use crate::cache::Entry;
use crate::registry::Served;
use crate::wire::body::{self, Body, Response};
use crate::wire::negotiate::{Encoding, Form, Shape};
use crate::wire::pretty::pretty;

/// The object's JSON in the version of the request.
pub fn versioned(served: &Served, cached: &Bytes) -> Bytes {
    match &served.conversion {
        None => cached.clone(),
        Some(conversion) => {
            let mut value = serde_json::from_slice(cached).unwrap_or(Value::Null);
            (conversion.from_hub)(&mut value);
            json::to_vec(&value, served.def).into()
        }
    }
}

/// The object, encoded; `cached` is JSON of the cached version.
pub fn encode(served: &Served, cached: &Bytes, form: Form, view: View) -> Result<Bytes, Status> {
    let json = match form.shape {
        Shape::Whole => versioned(served, cached),
        Shape::Metadata => metadata::partial(cached),
        Shape::Table => table::of_one(served, cached, view),
    };
    encoded(json, form)
}

/// JSON in another encoding.
pub fn encoded(json: Bytes, form: Form) -> Result<Bytes, Status> {
    match form.encoding {
        Encoding::Json if form.pretty => Ok(pretty(&json).into()),
        Encoding::Json => Ok(json),
        Encoding::Yaml => {
            let value: Value =
                serde_json::from_slice(&json).map_err(|error| Status::internal(error.to_string()))?;
            Ok(yaml::to_string(&value).into())
        }
        Encoding::Protobuf => protobuf::framed(&json),
    }
}

/// The answer that carries a cached object: what is kept of it beside its JSON need not be made again.
pub fn respond_cached(served: &Served, entry: &Entry, form: Form, view: View) -> Result<Response, Status> {
    let bytes = match (form.encoding, form.shape) {
        (Encoding::Protobuf, Shape::Whole | Shape::Metadata) => {
            let raw = Raw::of(served, entry, form.shape)?;
            Frame::of(served, form.shape).object(&raw)
        }
        _ => return respond(StatusCode::OK, served, &entry.json, form, view),
    };
    let body = Body::whole(bytes);
    Ok(body::response(StatusCode::OK, form.encoding.content_type(), body))
}

/// The answer that carries one object.
pub fn respond(
    code: StatusCode,
    served: &Served,
    cached: &Bytes,
    form: Form,
    view: View,
) -> Result<Response, Status> {
    let mut bytes = encode(served, cached, form, view)?;
    if form.encoding == Encoding::Json {
        bytes = [&bytes[..], b"\n"].concat().into();
    }
    Ok(body::response(
        code,
        form.encoding.content_type(),
        Body::whole(bytes),
    ))
}

/// The answer that carries an object of no stored resource: reviews, discovery, `Status`.
pub fn respond_value(code: StatusCode, value: &Value, form: Form) -> Result<Response, Status> {
    let form = Form {
        shape: Shape::Whole,
        ..form
    };
    let mut bytes = encoded(plain_json(value), form)?;
    if form.encoding == Encoding::Json {
        bytes = [&bytes[..], b"\n"].concat().into();
    }
    Ok(body::response(
        code,
        form.encoding.content_type(),
        Body::whole(bytes),
    ))
}

/// A refusal. Protobuf where the client asked for it, as client-go expects.
pub fn respond_status(status: &Status, form: Form) -> Response {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let value = status.to_value();
    let mut response = respond_value(code, &value, form).unwrap_or_else(|_| {
        let text = plain_json(&value);
        body::response(code, "application/json", Body::whole(text))
    });
    if let Some(seconds) = status.details["retryAfterSeconds"]
        .as_u64()
        .filter(|seconds| *seconds > 0)
    {
        response
            .headers_mut()
            .insert(http::header::RETRY_AFTER, http::HeaderValue::from(seconds));
    }
    response
}

/// JSON in the field order of the value's type, where it is a known one.
pub fn plain_json(value: &Value) -> Bytes {
    let gvk = keelson_machinery::GroupVersion::parse(value["apiVersion"].as_str().unwrap_or_default());
    let def = gvk.and_then(|gv| {
        types::of_kind(&keelson_machinery::GroupVersionKind {
            group: gv.group,
            version: gv.version,
            kind: value["kind"].as_str().unwrap_or_default().to_owned().into(),
        })
    });
    match def {
        Some(def) => json::to_vec(value, def).into(),
        None => value.to_string().into(),
    }
}
