//! `/healthz`, `/livez`, `/readyz`, `/metrics` and `/version`, answered as upstream's components answer.
//!
//! `respond` is pure over its checks; `serve` is the small server for components that have no other one.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::Shutdown;
use crate::metrics::{CONTENT_TYPE, Registry};

/// Connections a health server keeps open at once; more wait in the listen queue.
pub const CONNECTIONS_MAX: usize = 64;

/// `Ok`, or why not.
pub type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The named checks of a component.
#[derive(Clone, Default)]
pub struct Checks {
    live: Vec<(String, Check)>,
    ready: Vec<(String, Check)>,
}

impl Checks {
    /// A check of liveness; it counts for readiness too.
    pub fn live(
        mut self,
        name: &str,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.live.push((name.to_owned(), Arc::new(check)));
        self
    }

    /// A check of readiness alone.
    pub fn ready(
        mut self,
        name: &str,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.ready.push((name.to_owned(), Arc::new(check)));
        self
    }
}

/// The answer to a health, metrics or version path; `None` for any other path.
pub fn respond(
    path: &str,
    query: Option<&str>,
    checks: &Checks,
    metrics: &Registry,
) -> Option<Response<Full<Bytes>>> {
    match path {
        "/metrics" => Some(text(StatusCode::OK, CONTENT_TYPE, metrics.render())),
        "/version" => Some(text(StatusCode::OK, "application/json", version())),
        _ => {
            let (endpoint, one) = match path.trim_start_matches('/').split_once('/') {
                Some((endpoint, one)) => (endpoint, Some(one)),
                None => (path.trim_start_matches('/'), None),
            };
            let with_ready = match endpoint {
                "livez" => false,
                "healthz" | "readyz" => true,
                _ => return None,
            };
            Some(checked(endpoint, one, query.unwrap_or(""), checks, with_ready))
        }
    }
}

fn checked(
    endpoint: &str,
    one: Option<&str>,
    query: &str,
    checks: &Checks,
    with_ready: bool,
) -> Response<Full<Bytes>> {
    let excluded: Vec<&str> = query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("exclude="))
        .collect();
    let verbose = query
        .split('&')
        .any(|pair| pair == "verbose" || pair.starts_with("verbose="));
    let ping: (String, Check) = ("ping".to_owned(), Arc::new(|| Ok(())));
    let ready = checks.ready.iter().filter(|_| with_ready);
    let mut lines = String::new();
    let (mut failed, mut matched) = (Vec::new(), false);
    for (name, check) in std::iter::once(&ping).chain(&checks.live).chain(ready) {
        if one.is_some_and(|one| one != name) {
            continue;
        }
        matched = true;
        if excluded.contains(&name.as_str()) {
            lines.push_str(&format!("[+]{name} excluded: ok\n"));
            continue;
        }
        match check() {
            Ok(()) => lines.push_str(&format!("[+]{name} ok\n")),
            Err(why) => {
                // Upstream withholds reasons from the body; the log has them.
                tracing::debug!(endpoint, check = name, why, "health check failed");
                lines.push_str(&format!("[-]{name} failed: reason withheld\n"));
                failed.push(name.clone());
            }
        }
    }
    if !matched {
        return text(
            StatusCode::NOT_FOUND,
            "text/plain; charset=utf-8",
            "404 page not found\n".to_owned(),
        );
    }
    if !failed.is_empty() {
        lines.push_str(&format!("{endpoint} check failed\n"));
        return text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "text/plain; charset=utf-8",
            lines,
        );
    }
    let body = if verbose {
        format!("{lines}{endpoint} check passed\n")
    } else {
        "ok".to_owned()
    };
    text(StatusCode::OK, "text/plain; charset=utf-8", body)
}

fn version() -> String {
    let full = crate::version::FULL;
    format!("{{\"major\":\"1\",\"minor\":\"36\",\"gitVersion\":\"{full}\",\"platform\":\"linux/amd64\"}}\n")
}

fn text(status: StatusCode, content_type: &str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    if let Ok(value) = content_type.parse() {
        response.headers_mut().insert(http::header::CONTENT_TYPE, value);
    }
    response
}

/// Serves the paths above until shutdown; with `tls` over TLS.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    checks: Checks,
    metrics: Registry,
    shutdown: Shutdown,
) {
    let acceptor = tls.map(TlsAcceptor::from);
    let state = Arc::new((checks, metrics));
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
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
        let (acceptor, state) = (acceptor.clone(), state.clone());
        tokio::spawn(async move {
            let _place = place;
            match acceptor {
                None => connection(TokioIo::new(stream), state).await,
                Some(acceptor) => match acceptor.accept(stream).await {
                    Ok(stream) => connection(TokioIo::new(stream), state).await,
                    Err(error) => tracing::debug!(%error, "TLS handshake failed"),
                },
            }
        });
    }
}

async fn connection<S>(stream: S, state: Arc<(Checks, Registry)>)
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let state = state.clone();
        async move {
            let uri = request.uri();
            let answer = respond(uri.path(), uri.query(), &state.0, &state.1).unwrap_or_else(|| {
                text(
                    StatusCode::NOT_FOUND,
                    "text/plain; charset=utf-8",
                    "404 page not found\n".to_owned(),
                )
            });
            Ok::<_, Infallible>(answer)
        }
    });
    let served = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
        .serve_connection(stream, service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "health connection ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(path: &str, query: Option<&str>) -> u16 {
        let checks = Checks::default()
            .live("loop", || Ok(()))
            .ready("synced", || Err("informers have not synced".to_owned()));
        respond(path, query, &checks, &Registry::default()).map_or(0, |answer| answer.status().as_u16())
    }

    #[test]
    fn readiness_fails_while_liveness_holds() {
        assert_eq!(status("/livez", None), 200);
        assert_eq!(status("/readyz", None), 500);
        assert_eq!(status("/readyz", Some("exclude=synced")), 200);
        assert_eq!(status("/readyz/loop", None), 200);
        assert_eq!(status("/readyz/nosuch", None), 404);
        assert_eq!(status("/other", None), 0);
    }
}
