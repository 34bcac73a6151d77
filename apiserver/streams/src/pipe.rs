//! Upgrades piped through: the backend's answer goes to the client, then bytes flow both ways untouched.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use keelson_machinery::Status;

use crate::backend::empty;
use crate::limits::{COPY_BYTES, REFUSAL_BYTES_MAX, UPGRADE_TIMEOUT};
use crate::{Body, BodyError, Target};

/// Headers that are about one connection, not about the request.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The request asks for another protocol.
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    let connection = headers.get_all(header::CONNECTION).iter();
    headers.contains_key(header::UPGRADE)
        && connection
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.to_ascii_lowercase().contains("upgrade"))
}

/// Drops what must not travel on, the client's credentials among it.
pub(crate) fn without_hop_by_hop(headers: &mut HeaderMap) {
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    headers.remove(header::AUTHORIZATION);
}

/// The request as the backend gets it, without body.
pub(crate) fn forwarded<B>(request: &Request<B>, target: &Target) -> Result<Request<Body>, Status> {
    let mut onward = Request::new(empty());
    *onward.method_mut() = request.method().clone();
    let refused =
        |why: http::uri::InvalidUri| Status::bad_request(format!("invalid path at the backend: {why}"));
    *onward.uri_mut() = target.path_and_query.parse().map_err(refused)?;
    *onward.headers_mut() = request.headers().clone();
    onward.headers_mut().remove(header::HOST);
    onward.headers_mut().remove(header::CONTENT_LENGTH);
    let asked = is_upgrade(request.headers())
        .then(|| request.headers().get(header::UPGRADE).cloned())
        .flatten();
    without_hop_by_hop(onward.headers_mut());
    if let Some(protocol) = asked {
        onward
            .headers_mut()
            .insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
        onward.headers_mut().insert(header::UPGRADE, protocol);
    }
    Ok(onward)
}

/// The backend was not to be reached, or broke off.
pub(crate) fn dial_failed(why: BodyError) -> Status {
    Status::new(
        500,
        "",
        format!("error dialing backend: {why}"),
        serde_json::Value::Null,
    )
}

/// Sends an upgrade on and gives back the backend's answer.
pub(crate) async fn ask(
    target: &Target,
    onward: Request<Body>,
) -> Result<Response<hyper::body::Incoming>, Status> {
    match tokio::time::timeout(UPGRADE_TIMEOUT, target.backend.send(onward)).await {
        Ok(answer) => answer.map_err(dial_failed),
        Err(_) => Err(dial_failed("timed out waiting for the upgrade".into())),
    }
}

/// Upgrades at the backend and pipes.
pub(crate) async fn upgrade<B>(mut request: Request<B>, target: Target) -> Result<Response<Body>, Status> {
    let onward = forwarded(&request, &target)?;
    let mut answer = ask(&target, onward).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return refused(answer).await;
    }
    let backend = hyper::upgrade::on(&mut answer);
    let client = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match (client.await, backend.await) {
            (Ok(client), Ok(backend)) => copy(client, backend).await,
            (Err(why), _) | (_, Err(why)) => tracing::debug!(error = %why, "upgrade ended before it began"),
        }
    });
    let (mut head, _) = answer.into_parts();
    let mut response = Response::new(empty());
    *response.status_mut() = head.status;
    std::mem::swap(response.headers_mut(), &mut head.headers);
    Ok(response)
}

async fn copy(client: Upgraded, backend: Upgraded) {
    let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
    let copied =
        tokio::io::copy_bidirectional_with_sizes(&mut client, &mut backend, COPY_BYTES, COPY_BYTES).await;
    if let Err(why) = copied {
        tracing::debug!(error = %why, "piped stream ended");
    }
}

/// The backend's refusal, as it gave it.
pub(crate) async fn refused(answer: Response<hyper::body::Incoming>) -> Result<Response<Body>, Status> {
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, REFUSAL_BYTES_MAX).collect().await;
    let bytes = body.map_or_else(|_| Bytes::new(), http_body_util::Collected::to_bytes);
    let mut response = Response::new(crate::backend::whole(bytes));
    *response.status_mut() = head.status;
    if let Some(kind) = head.headers.get(header::CONTENT_TYPE) {
        response.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
    }
    Ok(response)
}
