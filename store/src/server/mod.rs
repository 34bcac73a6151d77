//! Client connections: one port takes gRPC, the JSON gateway, health and metrics, over HTTP/1.1 and HTTP/2.

mod connection;
pub mod gateway;
pub mod http;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use ::http::{Request, Response};
use hyper::body::Incoming;
use keelson_base::Shutdown;
use keelson_base::metrics::Registry;
use keelson_proto::etcd::etcdserverpb as pb;
use keelson_proto::etcd::v3electionpb::election_server::ElectionServer;
use keelson_proto::etcd::v3lockpb::lock_server::LockServer;
use keelson_store_mvcc::ApiError;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tonic::body::Body;
use tonic::server::Grpc;
use tower::Service;

use crate::api::Api;
use crate::limits::{CONNECTIONS_MAX, FILES_RESERVED, REQUEST_OVERHEAD_BYTES};
use crate::service::watch_codec::WatchCodec;
use crate::service::{
    Connection, auth, check_learner, cluster, election, kv, lease, lock, maintenance, range, status, unary,
    watch,
};

/// Everything that answers on the client port.
#[derive(Clone)]
pub struct Services {
    pub api: Arc<Api>,
    pub registry: Registry,
    kv: kv::KvService,
    watch: watch::WatchService,
    /// Longest request.
    request_bytes_max: usize,
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
            kv: kv::KvService(api.clone()),
            watch: watch::WatchService(api.clone()),
            request_bytes_max: most,
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

    async fn answer(&self, mut request: Request<Incoming>, connection: &Connection) -> Response<Body> {
        let is_grpc = request
            .headers()
            .get(::http::header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        if !is_grpc || self.metrics_only {
            // Boxed: the future of every request has room for this one.
            return Box::pin(http::answer(self, request)).await;
        }
        if connection.common_name.is_some() {
            request.extensions_mut().insert(connection.clone());
        }
        self.grpc(request).await
    }

    /// Calls the service a gRPC request names.
    async fn grpc<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body + Send + 'static,
        B::Error: Into<tonic::codegen::StdError> + Send + 'static,
    {
        let path = request.uri().path().trim_start_matches('/');
        let (service, method) = path.split_once('/').unwrap_or((path, ""));
        if let Err(refused) = self.check(service, method, request.headers()) {
            return refused.into_http();
        }
        let answered = match service {
            "etcdserverpb.KV" => Ok(self.kv(request).await),
            "etcdserverpb.Watch" if method == "Watch" => {
                let (decoded, encoded) = (Some(self.request_bytes_max), Some(usize::MAX));
                let mut grpc = Grpc::new(WatchCodec).apply_max_message_size_config(decoded, encoded);
                Ok(grpc.streaming(self.watch.clone(), request).await)
            }
            "etcdserverpb.Lease" => self.lease.clone().call(request).await,
            "etcdserverpb.Cluster" => self.cluster.clone().call(request).await,
            "etcdserverpb.Maintenance" => apart(self.maintenance.clone().call(request)).await,
            "etcdserverpb.Auth" => apart(self.auth.clone().call(request)).await,
            "v3lockpb.Lock" => self.lock.clone().call(request).await,
            "v3electionpb.Election" => self.election.clone().call(request).await,
            "grpc.health.v1.Health" => Ok(http::grpc_health(self)),
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

    /// What etcd checks of every call. KV's calls check themselves: a learner serves some ranges.
    fn check(&self, service: &str, method: &str, headers: &::http::HeaderMap) -> Result<(), tonic::Status> {
        if matches!(service, "etcdserverpb.KV" | "grpc.health.v1.Health") {
            return Ok(());
        }
        if !matches!(
            (service, method),
            ("etcdserverpb.Maintenance", "Status" | "Snapshot")
        ) {
            check_learner(&self.api)?;
        }
        let wants_leader = headers.get("hasleader").is_some_and(|value| value == "true");
        if wants_leader && *self.api.shared.leader.borrow() == 0 {
            return Err(status(ApiError::NoLeader));
        }
        Ok(())
    }

    /// The calls of KV, which are most of what a store is asked.
    async fn kv<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body + Send + 'static,
        B::Error: Into<tonic::codegen::StdError> + Send + 'static,
    {
        use pb::kv_server::Kv;
        let (kv, most) = (&self.kv, self.request_bytes_max);
        match request.uri().path() {
            "/etcdserverpb.KV/Range" => range::call(&self.api, request, most).await,
            "/etcdserverpb.KV/Put" => unary::call(request, most, |request| kv.put(request)).await,
            "/etcdserverpb.KV/Txn" => unary::call(request, most, |request| kv.txn(request)).await,
            "/etcdserverpb.KV/DeleteRange" => {
                unary::call(request, most, |request| kv.delete_range(request)).await
            }
            "/etcdserverpb.KV/Compact" => unary::call(request, most, |request| kv.compact(request)).await,
            path => tonic::Status::unimplemented(format!("unknown method {path}")).into_http(),
        }
    }
}

/// Answers a call in a task of its own: it may take long, and streams share their connection's.
async fn apart<F>(call: F) -> F::Output
where
    F: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
{
    match tokio::spawn(call).await {
        Ok(answered) => answered,
        Err(error) => Ok(tonic::Status::internal(error.to_string()).into_http()),
    }
}

/// `CONNECTIONS_MAX`, or what the process may open beside its own files.
fn connections_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    let own = soft.unwrap_or(usize::MAX).saturating_sub(FILES_RESERVED);
    own.clamp(1, CONNECTIONS_MAX)
}

/// Serves a listener until shutdown.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    services: Services,
    shutdown: Shutdown,
) {
    let services = Arc::new(services);
    let acceptor = tls.map(TlsAcceptor::from);
    let most = connections_max();
    services
        .api
        .shared
        .metrics
        .connections_max
        .set(i64::try_from(most).unwrap_or(i64::MAX));
    let places = Arc::new(Semaphore::new(most));
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
            let mut client = Connection {
                common_name: None,
                peer: Some(peer),
            };
            match acceptor {
                None => connection::serve(stream, services, client, shutdown).await,
                Some(acceptor) => match acceptor.accept(stream).await {
                    Ok(stream) => {
                        client.common_name = common_name(stream.get_ref().1.peer_certificates());
                        connection::serve(stream, services, client, shutdown).await;
                    }
                    Err(error) => tracing::debug!(%peer, %error, "a client's TLS handshake failed"),
                },
            }
            connections.dec();
        });
    }
}

/// The common name of a client's certificate.
fn common_name(certificates: Option<&[rustls::pki_types::CertificateDer<'_>]>) -> Option<String> {
    let first = certificates?.first()?;
    let (_, parsed) = x509_parser::parse_x509_certificate(first).ok()?;
    let name = parsed.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}
