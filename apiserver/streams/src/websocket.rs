//! WebSocket clients: exec and attach translated to SPDY, port-forward unwrapped.

mod exec;
mod tunnel;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use keelson_machinery::Status;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::backend::empty;
use crate::limits::WEBSOCKET_MESSAGE_BYTES_MAX;
use crate::{Body, Streams, Target};

/// Port-forward's SPDY frames within binary messages.
pub(crate) const TUNNELED_PORT_FORWARD: &str = "SPDY/3.1+portforward.k8s.io";

/// The translated protocols, best first.
const CHANNEL_PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// What the client offers in `Sec-WebSocket-Protocol`.
pub(crate) fn offers(headers: &HeaderMap, protocol: &str) -> bool {
    let websocket = headers
        .get(header::UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let offered = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok());
    websocket
        && offered
            .flat_map(|value| value.split(','))
            .any(|one| one.trim() == protocol)
}

/// The protocol to translate, where the client offers one.
pub(crate) fn channel_protocol(headers: &HeaderMap) -> Option<&'static str> {
    CHANNEL_PROTOCOLS
        .into_iter()
        .find(|protocol| offers(headers, protocol))
}

/// Translates an exec or attach to SPDY at the backend.
pub(crate) async fn exec<B>(
    request: &mut Request<B>,
    target: Target,
    streams: Streams,
    protocol: &'static str,
) -> Result<Response<Body>, Status> {
    let response = switching(request, protocol)?;
    let session = exec::open(&target, streams).await?;
    let session = match session {
        Ok(session) => session,
        Err(refusal) => return Ok(refusal),
    };
    let client = hyper::upgrade::on(request);
    tokio::spawn(async move {
        match client.await {
            Ok(client) => session.run(accept(client).await).await,
            Err(why) => tracing::debug!(error = %why, "websocket ended before it began"),
        }
    });
    Ok(response)
}

/// Unwraps port-forward's SPDY.
pub(crate) async fn tunnel<B>(request: &mut Request<B>, target: Target) -> Result<Response<Body>, Status> {
    let response = switching(request, TUNNELED_PORT_FORWARD)?;
    let backend = match tunnel::open(&target).await? {
        Ok(backend) => backend,
        Err(refusal) => return Ok(refusal),
    };
    let client = hyper::upgrade::on(request);
    tokio::spawn(async move {
        match client.await {
            Ok(client) => tunnel::run(accept(client).await, backend).await,
            Err(why) => tracing::debug!(error = %why, "websocket ended before it began"),
        }
    });
    Ok(response)
}

async fn accept(client: Upgraded) -> WebSocketStream<TokioIo<Upgraded>> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(WEBSOCKET_MESSAGE_BYTES_MAX))
        .max_frame_size(Some(WEBSOCKET_MESSAGE_BYTES_MAX));
    WebSocketStream::from_raw_socket(TokioIo::new(client), Role::Server, Some(config)).await
}

/// The 101 that accepts a WebSocket (RFC 6455, 4.2.2).
fn switching<B>(request: &Request<B>, protocol: &'static str) -> Result<Response<Body>, Status> {
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY);
    let key = key.ok_or_else(|| Status::bad_request("websocket handshake without Sec-WebSocket-Key"))?;
    let accepted =
        HeaderValue::try_from(derive_accept_key(key.as_bytes())).expect("base64 is a header value");
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accepted);
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    Ok(response)
}
