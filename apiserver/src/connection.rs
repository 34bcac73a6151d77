//! TCP to requests: accept, TLS, HTTP/1.1 or HTTP/2, upgrades passed through.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use keelson_base::Shutdown;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;

use crate::context::Peer;
use crate::handler::handle;
use crate::limits::{CONNECTIONS_MAX, HANDSHAKE_TIMEOUT, HEADER_BYTES_MAX};
use crate::server::Server;

/// How long running requests may take to end at shutdown.
const DRAIN: std::time::Duration = std::time::Duration::from_secs(5);

/// Serves until shutdown, then lets running requests end.
pub async fn serve(
    server: Arc<Server>,
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    http2_streams_max: u32,
    shutdown: Shutdown,
) {
    let acceptor = TlsAcceptor::from(tls);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = Arc::new(GracefulShutdown::new());
    let builder = Arc::new(builder(http2_streams_max));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            break;
        };
        let accepted = tokio::select! {
            () = shutdown.wait() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let (server, acceptor) = (server.clone(), acceptor.clone());
                let (builder, watcher) = (builder.clone(), graceful.watcher());
                tokio::spawn(async move {
                    connection(server, acceptor, &builder, watcher, stream, address, place).await;
                });
            }
            Err(error) => {
                // Out of descriptors, mostly: wait for connections to end.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    for hub in server.registry.hubs() {
        hub.cache.end_watches();
    }
    let Some(graceful) = Arc::into_inner(graceful) else {
        return;
    };
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::info!("some connections were still open at the end of the drain");
    }
}

fn builder(http2_streams_max: u32) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(std::time::Duration::from_secs(90))
        .max_buf_size(HEADER_BYTES_MAX as usize * 2);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(http2_streams_max)
        .max_header_list_size(HEADER_BYTES_MAX)
        .keep_alive_interval(Some(std::time::Duration::from_secs(30)))
        .keep_alive_timeout(std::time::Duration::from_secs(15));
    builder
}

async fn connection(
    server: Arc<Server>,
    acceptor: TlsAcceptor,
    builder: &auto::Builder<TokioExecutor>,
    watcher: hyper_util::server::graceful::Watcher,
    stream: TcpStream,
    address: SocketAddr,
    place: OwnedSemaphorePermit,
) {
    let _place = place;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "set_nodelay");
    }
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, peer = %address, "TLS handshake failed");
            return;
        }
        Err(_) => return,
    };
    let certificates = stream.get_ref().1.peer_certificates();
    let certificates = certificates.map(<[_]>::to_vec).unwrap_or_default();
    let peer = Peer {
        address,
        certificates: certificates.into(),
    };
    let service = service_fn(move |request| handle(server.clone(), peer.clone(), request));
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(serving).await {
        tracing::debug!(%error, peer = %address, "connection ended");
    }
}
