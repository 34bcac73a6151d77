//! Client connections: one port takes gRPC, the JSON gateway, health and metrics, over HTTP/1.1 and HTTP/2.

pub mod gateway;
pub mod http;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use ::http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use keelson_base::Shutdown;
use keelson_base::metrics::Registry;
use keelson_proto::etcd::etcdserverpb as pb;
use keelson_proto::etcd::v3electionpb::election_server::ElectionServer;
use keelson_proto::etcd::v3lockpb::lock_server::LockServer;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tonic::body::Body;
use tower::Service;

use crate::api::Api;
use crate::limits::{CONNECTIONS_MAX, REQUEST_OVERHEAD_BYTES, STREAMS_PER_CONNECTION_MAX};
use crate::service::{Connection, auth, cluster, election, kv, lease, lock, maintenance, watch};

/// HTTP/2 windows: a list of objects should not wait for window updates.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// etcd's defaults.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(7200);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Everything that answers on the client port.
#[derive(Clone)]
pub struct Services {
    pub api: Arc<Api>,
    pub registry: Registry,
    kv: pb::kv_server::KvServer<kv::KvService>,
    watch: pb::watch_server::WatchServer<watch::WatchService>,
    lease: pb::lease_server::LeaseServer<lease::LeaseService>,
    cluster: pb::cluster_server::ClusterServer<cluster::ClusterService>,
    maintenance: pb::maintenance_server::MaintenanceServer<maintenance::MaintenanceService>,
    auth: pb::auth_server::AuthServer<auth::AuthService>,
    lock: LockServer<lock::LockService>,
    election: ElectionServer<election::ElectionService>,
    /// Only health and metrics (`--listen-metrics-urls`).
    metrics_only: bool,
}

impl Services {
    /// All services around one `Api`.
    pub fn new(api: Arc<Api>, registry: Registry, scratch: std::path::PathBuf, bcrypt_cost: u32) -> Self {
        let most = api.options.request_bytes_max + REQUEST_OVERHEAD_BYTES;
        macro_rules! limited {
            ($server:expr) => {
                $server
                    .max_decoding_message_size(most)
                    .max_encoding_message_size(usize::MAX)
            };
        }
        let maintenance = maintenance::MaintenanceService {
            api: api.clone(),
            scratch,
        };
        let auth = auth::AuthService {
            api: api.clone(),
            cost: bcrypt_cost,
        };
        Self {
            kv: limited!(pb::kv_server::KvServer::new(kv::KvService(api.clone()))),
            watch: limited!(pb::watch_server::WatchServer::new(watch::WatchService(
                api.clone()
            ))),
            lease: limited!(pb::lease_server::LeaseServer::new(lease::LeaseService(
                api.clone()
            ))),
            cluster: limited!(pb::cluster_server::ClusterServer::new(cluster::ClusterService(
                api.clone()
            ))),
            maintenance: limited!(pb::maintenance_server::MaintenanceServer::new(maintenance)),
            auth: limited!(pb::auth_server::AuthServer::new(auth)),
            lock: limited!(LockServer::new(lock::LockService(api.clone()))),
            election: limited!(ElectionServer::new(election::ElectionService(api.clone()))),
            api,
            registry,
            metrics_only: false,
        }
    }

    /// The same for a port that only serves health and metrics.
    #[must_use]
    pub fn metrics_only(mut self) -> Self {
        self.metrics_only = true;
        self
    }

    async fn answer(mut self, mut request: Request<Incoming>, connection: Arc<Connection>) -> Response<Body> {
        let is_grpc = request
            .headers()
            .get(::http::header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        if !is_grpc || self.metrics_only {
            return http::answer(&mut self, request, &connection).await;
        }
        request.extensions_mut().insert(Connection::clone(&connection));
        let service = request
            .uri()
            .path()
            .trim_start_matches('/')
            .split('/')
            .next()
            .unwrap_or("");
        let answered = match service {
            "etcdserverpb.KV" => self.kv.call(request).await,
            "etcdserverpb.Watch" => self.watch.call(request).await,
            "etcdserverpb.Lease" => self.lease.call(request).await,
            "etcdserverpb.Cluster" => self.cluster.call(request).await,
            "etcdserverpb.Maintenance" => self.maintenance.call(request).await,
            "etcdserverpb.Auth" => self.auth.call(request).await,
            "v3lockpb.Lock" => self.lock.call(request).await,
            "v3electionpb.Election" => self.election.call(request).await,
            "grpc.health.v1.Health" => Ok(http::grpc_health(&self)),
            _ => {
                let text = format!("unknown service {service}");
                Ok(tonic::Status::unimplemented(text).into_http())
            }
        };
        match answered {
            Ok(response) => response,
            Err(infallible) => match infallible {},
        }
    }
}

/// Serves a listener until shutdown.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    services: Services,
    shutdown: Shutdown,
) {
    let acceptor = tls.map(TlsAcceptor::from);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.wait() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a client");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Small answers must not wait for more.
        let _ = stream.set_nodelay(true);
        let (acceptor, services, shutdown) = (acceptor.clone(), services.clone(), shutdown.clone());
        tokio::spawn(async move {
            let _place = place;
            let connections = services.api.shared.metrics.connections.clone();
            connections.inc();
            let mut connection = Connection {
                common_name: None,
                peer: Some(peer),
            };
            match acceptor {
                None => drive(stream, services, connection, shutdown).await,
                Some(acceptor) => match acceptor.accept(stream).await {
                    Ok(stream) => {
                        connection.common_name = common_name(stream.get_ref().1.peer_certificates());
                        drive(stream, services, connection, shutdown).await;
                    }
                    Err(error) => tracing::debug!(%peer, %error, "a client's TLS handshake failed"),
                },
            }
            connections.dec();
        });
    }
}

async fn drive<S>(stream: S, services: Services, connection: Connection, shutdown: Shutdown)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = Arc::new(connection);
    let service = service_fn(move |request| {
        let (services, connection) = (services.clone(), connection.clone());
        async move { Ok::<_, Infallible>(services.answer(request, connection).await) }
    });
    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    builder.http1().timer(TokioTimer::new());
    let served = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    let outcome = tokio::select! {
        outcome = served.as_mut() => outcome,
        () = shutdown.wait() => {
            served.as_mut().graceful_shutdown();
            // Watches do not end by themselves.
            tokio::time::timeout(Duration::from_millis(500), served).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a client connection ended");
    }
}

/// The common name of a client's certificate.
fn common_name(certificates: Option<&[rustls::pki_types::CertificateDer<'_>]>) -> Option<String> {
    let first = certificates?.first()?;
    let (_, parsed) = x509_parser::parse_x509_certificate(first).ok()?;
    let name = parsed.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}
