//! `/openapi/v2` and `/openapi/v3`: documents made when asked for and not kept, since clients keep them by their hash.

use http::{HeaderValue, StatusCode, header};
use keelson_base::version::FULL;
use keelson_machinery::Status;

use crate::context::Context;
use crate::wire::body::{self, Body, Response};

/// The answer, where the path is one of these.
pub fn serve(context: &Context, path: &str) -> Option<Result<Response, Status>> {
    match path {
        "/openapi/v2" => Some(Ok(document(context, "v2", || Some(keelson_openapi::v2(FULL)))?)),
        "/openapi/v3" => Some(Ok(json(keelson_openapi::v3_index(FULL)))),
        _ => {
            let name = path.strip_prefix("/openapi/v3/")?;
            let known = keelson_openapi::documents().contains(name);
            known.then(|| Ok(versioned(context, name)))
        }
    }
}

/// A document of v3; one asked for by a hash that is no longer its own is sent to where it is.
fn versioned(context: &Context, name: &str) -> Response {
    let hash = keelson_openapi::hash(name, FULL);
    match context.query.get("hash") {
        Some(asked) if asked != hash => {
            let mut moved = body::text(StatusCode::MOVED_PERMANENTLY, "");
            if let Ok(place) = HeaderValue::try_from(format!("/openapi/v3/{name}?hash={hash}")) {
                moved.headers_mut().insert(header::LOCATION, place);
            }
            moved
        }
        asked => {
            let make = || keelson_openapi::v3(name, FULL);
            let mut response = document(context, name, make).unwrap_or_else(|| json(Vec::new()));
            if asked.is_some() {
                let forever = HeaderValue::from_static("public, immutable");
                response.headers_mut().insert(header::CACHE_CONTROL, forever);
            }
            response
        }
    }
}

/// A document under its hash as ETag, or 304 where the client has it.
fn document(context: &Context, name: &str, make: impl FnOnce() -> Option<Vec<u8>>) -> Option<Response> {
    let etag = format!("\"{}\"", keelson_openapi::hash(name, FULL));
    let held = context.parts.headers.get(header::IF_NONE_MATCH);
    let mut response = if held.is_some_and(|value| value.as_bytes() == etag.as_bytes()) {
        let mut unchanged = json(Vec::new());
        *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
        unchanged
    } else {
        json(make()?)
    };
    if let Ok(value) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(header::ETAG, value);
    }
    Some(response)
}

fn json(bytes: Vec<u8>) -> Response {
    let body = if bytes.is_empty() {
        Body::Empty
    } else {
        Body::whole(bytes)
    };
    body::response(StatusCode::OK, "application/json", body)
}
