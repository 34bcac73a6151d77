//! A small HTTP server for health and metrics: GET only, one answer per path.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use keelson_base::Shutdown;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::limits::CONNECTIONS_MAX;

/// An answer.
pub struct Answer {
    pub status: StatusCode,
    pub content_type: &'static str,
    pub body: String,
    /// Endpoints behind a health-checked service; sent as a header.
    pub weight: Option<usize>,
}

impl Answer {
    /// Plain text with 200.
    pub fn text(body: impl Into<String>) -> Self {
        let (status, content_type) = (StatusCode::OK, "text/plain; charset=utf-8");
        Self {
            status,
            content_type,
            body: body.into(),
            weight: None,
        }
    }

    /// JSON.
    pub fn json(status: StatusCode, body: &serde_json::Value) -> Self {
        Self {
            status,
            content_type: "application/json",
            body: body.to_string(),
            weight: None,
        }
    }

    /// No such path.
    pub fn not_found() -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            ..Self::text("404 page not found\n")
        }
    }
}

/// Answers a path.
pub type Handler = Arc<dyn Fn(&str) -> Answer + Send + Sync>;

/// Listens, and serves until shutdown or until the returned task is aborted.
pub async fn serve(
    address: SocketAddr,
    handler: Handler,
    shutdown: Shutdown,
) -> Result<tokio::task::JoinHandle<()>> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    Ok(tokio::spawn(accept(listener, handler, shutdown)))
}

async fn accept(listener: TcpListener, handler: Handler, shutdown: Shutdown) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    continue;
                }
            },
            () = shutdown.wait() => return,
        };
        let handler = handler.clone();
        tokio::spawn(async move {
            let _place = place;
            let service = service_fn(|request: Request<Incoming>| {
                let answer = handler(request.uri().path());
                async move { Ok::<_, Infallible>(response(answer)) }
            });
            let served = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "connection ended");
            }
        });
    }
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let mut builder = Response::builder()
        .status(answer.status)
        .header("Content-Type", answer.content_type)
        .header("X-Content-Type-Options", "nosniff");
    if let Some(weight) = answer.weight {
        builder = builder.header("X-Load-Balancing-Endpoint-Weight", weight);
    }
    builder
        .body(Full::new(answer.body.into()))
        .expect("names and values are valid headers")
}
