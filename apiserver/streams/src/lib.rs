//! Streaming and proxy subresources: exec, attach, portforward, log, proxy.
//!
//! The API server decides who may do it and where the pod or node is; this crate moves the bytes. A SPDY upgrade is piped through
//! to the kubelet byte for byte; a WebSocket of `v5.channel.k8s.io` or `v4.channel.k8s.io` is translated to SPDY, and
//! `SPDY/3.1+portforward.k8s.io` is unwrapped; any other upgrade is piped. Everything else is a reverse proxy.
//!
//! The connection the request came in on must be served with upgrades (`hyper`'s `serve_connection_with_upgrades`).

pub mod location;

mod backend;
mod html;
mod limits;
mod log;
mod pipe;
mod proxy;
mod spdy;
mod websocket;

use http::{Request, Response};
use keelson_machinery::Status;

pub use backend::{Backend, Tls};
pub use log::log;
pub use proxy::proxy;

/// An error in the middle of an answer.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// The bytes of an answer.
pub type Body = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, BodyError>;

/// Where a request goes on to.
#[derive(Clone, Debug)]
pub struct Target {
    pub backend: Backend,
    /// Path and query at the backend, with its leading slash.
    pub path_and_query: String,
}

/// The streams an exec or attach asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// A terminal: stderr is part of stdout, and sizes may be sent.
    pub tty: bool,
}

/// Runs a command in a container, or attaches to one: SPDY piped through, WebSocket translated.
///
/// The answer is 101 and the streams live on in a task of their own until either side ends.
///
/// # Errors
/// 400 where the request is no upgrade, 500 where the backend cannot be reached.
pub async fn exec<B>(
    mut request: Request<B>,
    target: Target,
    streams: Streams,
) -> Result<Response<Body>, Status>
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    match websocket::channel_protocol(request.headers()) {
        Some(protocol) => websocket::exec(&mut request, target, streams, protocol).await,
        None => upgrade(request, target).await,
    }
}

/// Forwards ports of a pod: SPDY piped through, SPDY within WebSocket unwrapped.
///
/// # Errors
/// 400 where the request is no upgrade, 500 where the backend cannot be reached.
pub async fn port_forward<B>(mut request: Request<B>, target: Target) -> Result<Response<Body>, Status>
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    if websocket::offers(request.headers(), websocket::TUNNELED_PORT_FORWARD) {
        return websocket::tunnel(&mut request, target).await;
    }
    upgrade(request, target).await
}

async fn upgrade<B>(request: Request<B>, target: Target) -> Result<Response<Body>, Status>
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    if !pipe::is_upgrade(request.headers()) {
        return Err(Status::bad_request("Upgrade request required"));
    }
    pipe::upgrade(request, target).await
}
