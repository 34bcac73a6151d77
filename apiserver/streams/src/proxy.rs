//! The proxy subresource: any method, any body, upgrades too; links and redirects are made to point back through the API server.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use keelson_machinery::Status;

use crate::backend::{empty, whole};
use crate::limits::HTML_BYTES_MAX;
use crate::{Body, BodyError, Target, html, pipe};

/// Passes a request on.
///
/// `mount` is the path of this request up to and including `/proxy` (`/api/v1/namespaces/a/pods/b/proxy`); what follows it is
/// in `target.path_and_query`, "" for nothing.
///
/// # Errors
/// 503 where the backend cannot be reached.
pub async fn proxy<B>(request: Request<B>, mut target: Target, mount: &str) -> Result<Response<Body>, Status>
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    // Without a trailing slash, relative links of the page would miss the proxy's path.
    let bare = target.path_and_query.is_empty() || target.path_and_query.starts_with('?');
    if bare && !request.uri().path().ends_with('/') {
        return Ok(moved_to_directory(&request));
    }
    if bare {
        target.path_and_query.insert(0, '/');
    }
    if pipe::is_upgrade(request.headers()) {
        return pipe::upgrade(request, target).await;
    }
    let mut onward = pipe::forwarded(&request, &target)?;
    if let Some(length) = request.headers().get(header::CONTENT_LENGTH) {
        onward
            .headers_mut()
            .insert(header::CONTENT_LENGTH, length.clone());
    }
    note_origin(onward.headers_mut(), &request);
    // Pages are read to have their links rewritten, so they must come plain.
    onward.headers_mut().remove(header::ACCEPT_ENCODING);
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or("")
        .to_owned();
    *onward.body_mut() = request.into_body().map_err(Into::into).boxed_unsync();
    let answer = target.backend.send(onward).await.map_err(unreachable)?;
    let rewrite = html::Rewrite {
        mount,
        backend: &target.backend.authority(),
        host: &host,
    };
    answered(answer, &rewrite).await
}

fn unreachable(why: BodyError) -> Status {
    let message = format!("error trying to reach service: {why}");
    Status::new(503, "ServiceUnavailable", message, serde_json::Value::Null)
}

fn moved_to_directory<B>(request: &Request<B>) -> Response<Body> {
    let query = request
        .uri()
        .query()
        .map_or_else(String::new, |query| format!("?{query}"));
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(place) = HeaderValue::try_from(format!("{}/{query}", request.uri().path())) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}

/// Tells the backend where the request came from.
fn note_origin<B>(headers: &mut HeaderMap, request: &Request<B>) {
    let noted = [
        ("x-forwarded-uri", Some(request.uri().path().to_owned())),
        (
            "x-forwarded-host",
            request
                .headers()
                .get(header::HOST)
                .and_then(|host| host.to_str().ok())
                .map(str::to_owned),
        ),
        ("x-forwarded-proto", Some("https".to_owned())),
    ];
    for (name, value) in noted {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

async fn answered(
    answer: Response<hyper::body::Incoming>,
    rewrite: &html::Rewrite<'_>,
) -> Result<Response<Body>, Status> {
    let (mut head, body) = answer.into_parts();
    pipe::without_hop_by_hop(&mut head.headers);
    let redirects = head.status.is_redirection() || head.status == StatusCode::CREATED;
    let place = head
        .headers
        .get(header::LOCATION)
        .and_then(|place| place.to_str().ok());
    if let Some(place) = place
        .filter(|_| redirects)
        .and_then(|place| HeaderValue::try_from(rewrite.link(place)).ok())
    {
        head.headers.insert(header::LOCATION, place);
    }
    let kind = head
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or("");
    let page = kind
        .split(';')
        .next()
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/html"));
    let length = head
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    let plain = !head.headers.contains_key(header::CONTENT_ENCODING);
    if !page || !plain || length.is_none_or(|length: usize| length > HTML_BYTES_MAX) {
        return Ok(Response::from_parts(
            head,
            body.map_err(Into::into).boxed_unsync(),
        ));
    }
    let text = body
        .collect()
        .await
        .map_err(|why| unreachable(why.into()))?
        .to_bytes();
    let rewritten = html::rewrite(&text, rewrite);
    head.headers
        .insert(header::CONTENT_LENGTH, HeaderValue::from(rewritten.len()));
    Ok(Response::from_parts(head, whole(rewritten)))
}
