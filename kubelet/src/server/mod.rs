//! The kubelet's server: HTTPS on 10250 for the API server and monitoring, health on the loopback interface.
//!
//! Every request is authenticated (client certificate, bearer token by TokenReview, or anonymous where allowed) and
//! authorized (SubjectAccessReview) before its route runs. HTTP/1.1 only, because streams are upgrades.

mod access;
pub mod certificate;
mod figures;
mod logs;
mod metrics;
mod resources;
mod routes;
mod streams;

use crate::config::{Config, ServerConfig};
use crate::host::Host;
use crate::limits;
use crate::pods::Pods;
use access::Access;
use anyhow::Context;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use keelson_base::Shutdown;
use keelson_base::tls::{ClientAuth, ServerTls};
use rustls_pki_types::CertificateDer;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

pub(crate) type Body = BoxBody<Bytes, std::io::Error>;
pub(crate) type Answer = Response<Body>;

/// What routes need.
pub(crate) struct Server {
    pub host: Arc<Host>,
    pub pods: Arc<Pods>,
    pub config: Config,
    access: Access,
}

/// Binds and serves until shutdown.
pub async fn start(
    config: &Config,
    host: Arc<Host>,
    pods: Arc<Pods>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let settings = &config.server;
    let (cert, key) = match &settings.cert {
        Some(pair) => pair.clone(),
        None => certificate::self_signed(&config.cert_dir, &config.node_name, &config.node_ips)
            .context("cannot make the server's certificate")?,
    };
    let client_ca = settings.client_ca.clone().map(|ca| (ca, ClientAuth::Optional));
    let tls = ServerTls { cert, key, client_ca }
        .config(&["http/1.1"])
        .context("cannot serve TLS")?;
    let listener = bind(&settings.address, settings.port).await?;
    let access = Access::new(host.client.clone(), settings, config.node_name.clone());
    let server = Arc::new(Server {
        host,
        pods,
        config: config.clone(),
        access,
    });
    serve_healthz(settings, &server, shutdown.clone()).await?;
    tracing::info!(address = %settings.address, port = settings.port, "serving");
    tokio::spawn(accept(listener, TlsAcceptor::from(tls), server, shutdown));
    Ok(())
}

async fn bind(address: &str, port: u16) -> anyhow::Result<TcpListener> {
    let address = crate::handlers::join(address, port);
    TcpListener::bind(&address)
        .await
        .with_context(|| format!("cannot listen on {address}"))
}

/// `/healthz` and the metrics without TLS, for the node's own supervisor.
async fn serve_healthz(
    settings: &ServerConfig,
    server: &Arc<Server>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    if settings.healthz_port == 0 {
        return Ok(());
    }
    let listener = bind(&settings.healthz_address, settings.healthz_port).await?;
    let checks = keelson_base::health::Checks::default();
    tokio::spawn(keelson_base::health::serve(
        listener,
        None,
        checks,
        server.host.metrics.registry(),
        shutdown,
    ));
    Ok(())
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, server: Arc<Server>, shutdown: Shutdown) {
    let places = Arc::new(Semaphore::new(limits::SERVER_CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.wait() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let (tls, server) = (tls.clone(), server.clone());
        tokio::spawn(async move {
            let _place = place;
            let _ = stream.set_nodelay(true);
            match tls.accept(stream).await {
                Ok(stream) => {
                    let certs = stream
                        .get_ref()
                        .1
                        .peer_certificates()
                        .map(<[_]>::to_vec)
                        .unwrap_or_default();
                    connection(TokioIo::new(stream), server, certs).await;
                }
                Err(error) => tracing::debug!(%error, "TLS handshake failed"),
            }
        });
    }
}

async fn connection<S>(stream: S, server: Arc<Server>, certs: Vec<CertificateDer<'static>>)
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let certs = Arc::new(certs);
    let service = service_fn(move |request: Request<Incoming>| {
        let (server, certs) = (server.clone(), certs.clone());
        async move { Ok::<_, Infallible>(answer(server, &certs, request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .serve_connection(stream, service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "connection ended");
    }
}

async fn answer(
    server: Arc<Server>,
    certs: &[CertificateDer<'static>],
    request: Request<Incoming>,
) -> Answer {
    match server.access.check(certs, &request).await {
        Ok(()) => routes::route(server, request).await,
        Err((status, why)) => text(status, why),
    }
}

/// A plain answer.
pub(crate) fn text(status: StatusCode, body: impl Into<String>) -> Answer {
    with_type(status, "text/plain; charset=utf-8", body.into())
}

pub(crate) fn json(value: &impl serde::Serialize) -> Answer {
    match serde_json::to_string(value) {
        Ok(body) => with_type(StatusCode::OK, "application/json", body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

pub(crate) fn with_type(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let body = Full::new(Bytes::from(body))
        .map_err(|never| match never {})
        .boxed();
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static(content_type),
    );
    answer
}
