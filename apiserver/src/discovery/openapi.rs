//! `/openapi/v2` and `/openapi/v3`: documents made when asked for and not kept, since clients keep them by their hash.
//!
//! Both in JSON and protobuf: what takes neither gets 406.

use http::{HeaderMap, HeaderValue, StatusCode, header};
use keelson_base::version::FULL;
use keelson_machinery::Status;

use crate::context::Context;
use crate::wire::body::{self, Body, Response};
use crate::wire::negotiate;

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// What clients up to now ask for: no media type by RFC 7231, so the answer names the other.
const PROTOBUF_DEPRECATED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

const PROTOBUF_V3: &str = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";
const PROTOBUF_V3_DEPRECATED: &str = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf";

/// The answer, where the path is one of these.
pub fn serve(context: &Context, path: &str) -> Option<Result<Response, Status>> {
    match path {
        "/openapi/v2" => Some(swagger(context)),
        "/openapi/v3" => Some(Ok(answer(JSON, keelson_openapi::v3_index(FULL)))),
        _ => {
            let name = path.strip_prefix("/openapi/v3/")?;
            let known = keelson_openapi::documents().contains(name);
            known.then(|| versioned(context, name))
        }
    }
}

/// The whole API in one document.
fn swagger(context: &Context) -> Result<Response, Status> {
    let media_type = accepted(&context.parts.headers, &[JSON, PROTOBUF_DEPRECATED, PROTOBUF])?;
    let mut response = if media_type == JSON {
        document(context, "v2", JSON, || keelson_openapi::v2(FULL))
    } else {
        let make = || keelson_openapi::v2_protobuf(FULL);
        document(context, "v2.protobuf", PROTOBUF, make)
    };
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    Ok(response)
}

/// What of ours the client takes.
fn accepted<'a>(headers: &HeaderMap, ours: &[&'a str]) -> Result<&'a str, Status> {
    negotiate::media_type(headers, ours).ok_or_else(|| Status::not_acceptable(&ours.join(", ")))
}

/// A document of v3; one asked for by a hash that is no longer its own is sent to where it is.
fn versioned(context: &Context, name: &str) -> Result<Response, Status> {
    let ours = [JSON, PROTOBUF_V3_DEPRECATED, PROTOBUF_V3];
    let media_type = accepted(&context.parts.headers, &ours)?;
    let hash = keelson_openapi::hash(name, FULL);
    let asked = context.query.get("hash");
    if asked.is_some_and(|asked| asked != hash) {
        let mut moved = body::text(StatusCode::MOVED_PERMANENTLY, "");
        if let Ok(place) = HeaderValue::try_from(format!("/openapi/v3/{name}?hash={hash}")) {
            moved.headers_mut().insert(header::LOCATION, place);
        }
        return Ok(moved);
    }
    let mut response = if media_type == JSON {
        document(context, name, JSON, || {
            keelson_openapi::v3(name, FULL).unwrap_or_default()
        })
    } else {
        let make = || keelson_openapi::v3_protobuf(name, FULL).unwrap_or_default();
        document(context, name, PROTOBUF_V3, make)
    };
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    if asked.is_some() {
        let forever = HeaderValue::from_static("public, immutable");
        response.headers_mut().insert(header::CACHE_CONTROL, forever);
    }
    Ok(response)
}

/// A document under its hash as ETag, or 304 where the client has it.
fn document(
    context: &Context,
    name: &str,
    media_type: &'static str,
    make: impl FnOnce() -> Vec<u8>,
) -> Response {
    let etag = format!("\"{}\"", keelson_openapi::hash(name, FULL));
    let held = context.parts.headers.get(header::IF_NONE_MATCH);
    let mut response = if held.is_some_and(|value| value.as_bytes() == etag.as_bytes()) {
        let mut unchanged = answer(media_type, Vec::new());
        *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
        unchanged
    } else {
        answer(media_type, make())
    };
    if let Ok(value) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response
}

fn answer(media_type: &'static str, bytes: Vec<u8>) -> Response {
    let body = if bytes.is_empty() {
        Body::Empty
    } else {
        Body::whole(bytes)
    };
    body::response(StatusCode::OK, media_type, body)
}
