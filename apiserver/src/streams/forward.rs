//! Passes one request on over a connection of its own, and its answer back; after an upgrade, bytes both ways.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use keelson_machinery::Status;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::context::Context;
use crate::wire::{Body, Response};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where to.
#[derive(Clone)]
pub struct Upstream {
    pub host: String,
    pub port: u16,
    /// `None`: plain HTTP.
    pub tls: Option<Arc<ClientConfig>>,
}

trait Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Io for T {}

async fn connect(upstream: &Upstream) -> std::io::Result<Box<dyn Io>> {
    let stream = TcpStream::connect((upstream.host.as_str(), upstream.port)).await?;
    stream.set_nodelay(true)?;
    let Some(config) = &upstream.tls else {
        return Ok(Box::new(stream));
    };
    let name = ServerName::try_from(upstream.host.clone()).map_err(std::io::Error::other)?;
    let stream = TlsConnector::from(config.clone()).connect(name, stream).await?;
    Ok(Box::new(stream))
}

/// The answer of `path` at the upstream to this request.
///
/// # Errors
/// 502 and 503 where it cannot be reached, with where and why.
pub async fn forward(context: &mut Context, upstream: &Upstream, path: &str) -> Result<Response, Status> {
    let place = format!("{}:{}", upstream.host, upstream.port);
    let unreachable = |why: String| {
        let mut status = Status::internal(format!("error dialing backend: {why}"));
        status.message = format!("error dialing backend: dial tcp {place}: {why}");
        status
    };
    let io = tokio::time::timeout(CONNECT_TIMEOUT, connect(upstream))
        .await
        .map_err(|_| unreachable("i/o timeout".to_owned()))?
        .map_err(|error| unreachable(error.to_string()))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(io))
        .await
        .map_err(|error| unreachable(error.to_string()))?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to a backend ended");
        }
    });
    let upgrade = is_upgrade(&context.parts.headers);
    let client = upgrade.then(|| client_side(context)).flatten();
    let request = request(context, &place, path, upgrade)?;
    let mut answer = sender
        .send_request(request)
        .await
        .map_err(|error| unreachable(error.to_string()))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (mut parts, body) = answer.into_parts();
        drop_hop_by_hop(&mut parts.headers);
        return Ok(Response::from_parts(parts, Body::wrap(body)));
    }
    let backend = hyper::upgrade::on(&mut answer);
    let (parts, _) = answer.into_parts();
    if let Some(client) = client {
        tokio::spawn(async move {
            if let (Ok(client), Ok(backend)) = tokio::join!(client, backend) {
                let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
                // An end is an end, however it comes.
                let _ = tokio::io::copy_bidirectional(&mut client, &mut backend).await;
            }
        });
    }
    Ok(Response::from_parts(parts, Body::Empty))
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
        && headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.to_ascii_lowercase().contains("upgrade"))
}

/// The client's half of an upgrade to come.
fn client_side(context: &mut Context) -> Option<hyper::upgrade::OnUpgrade> {
    context.parts.extensions.remove::<hyper::upgrade::OnUpgrade>()
}

fn request(context: &mut Context, place: &str, path: &str, upgrade: bool) -> Result<Request<Body>, Status> {
    let mut headers = context.parts.headers.clone();
    let kept: Vec<(HeaderName, HeaderValue)> = [header::UPGRADE, header::CONNECTION]
        .into_iter()
        .filter_map(|name| headers.get(&name).cloned().map(|value| (name, value)))
        .collect();
    drop_hop_by_hop(&mut headers);
    headers.remove(header::HOST);
    if upgrade {
        headers.extend(kept);
    }
    let body = context.body.take().map_or(Body::Empty, Body::wrap);
    let mut request = Request::new(if upgrade { Body::Empty } else { body });
    *request.method_mut() = context.parts.method.clone();
    *request.uri_mut() = path
        .parse()
        .map_err(|_| Status::bad_request(format!("{path:?} cannot be passed on")))?;
    *request.headers_mut() = headers;
    if let Ok(host) = HeaderValue::from_str(place) {
        request.headers_mut().insert(header::HOST, host);
    }
    Ok(request)
}

/// Headers that concern one connection alone.
fn drop_hop_by_hop(headers: &mut HeaderMap) {
    for name in [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ] {
        headers.remove(name);
    }
}
