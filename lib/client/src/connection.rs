//! `kube::Client` over HTTP/2, from a kubeconfig or from inside a pod.
//!
//! kube's own stack speaks HTTP/1.1, so that each watch costs a TLS connection on both sides. This one
//! multiplexes. When the client certificate or its key changes on disk, requests from then on use a new
//! connection with the new certificate; streams that are open end on the old one.
//!
//! Left out: protocol upgrades (exec, attach, port-forward need HTTP/1.1: use `kube::Client::try_from`), proxies.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client as HyperClient, Error as HyperError, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use parking_lot::Mutex;
use tower::{Service, ServiceBuilder};

use crate::limits;

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig cannot be read or is not one.
    #[error("cannot load kubeconfig {path}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What kube says.
        #[source]
        source: Box<kube::config::KubeconfigError>,
    },
    /// No kubeconfig was named and this is not a pod.
    #[error("no kubeconfig given and the in-cluster configuration cannot be loaded")]
    InCluster(#[source] Box<kube::config::InClusterError>),
    /// Certificates, keys or tokens named by the configuration cannot be used.
    #[error("cannot use the credentials of the client configuration")]
    Credentials(#[source] Box<kube::Error>),
    /// The server name to check certificates against is not one.
    #[error("tls-server-name {0:?} is not a DNS name or an IP address")]
    ServerName(String),
    /// The user agent holds bytes a header may not.
    #[error("user agent {0:?} cannot be a header value")]
    UserAgent(String),
}

/// A client for the kubeconfig at `kubeconfig` (`None`: the pod's service account), named by `user_agent`
/// in the server's logs and managedFields.
pub async fn connect(kubeconfig: Option<&Path>, user_agent: &str) -> Result<kube::Client, ConnectError> {
    connect_config(load_config(kubeconfig).await?, user_agent)
}

/// The configuration `connect` uses; may be changed and given to `connect_config`.
pub async fn load_config(kubeconfig: Option<&Path>) -> Result<kube::Config, ConnectError> {
    let Some(path) = kubeconfig else {
        return kube::Config::incluster().map_err(|e| ConnectError::InCluster(Box::new(e)));
    };
    let failed = |source| ConnectError::Kubeconfig {
        path: path.to_owned(),
        source: Box::new(source),
    };
    let file = Kubeconfig::read_from(path).map_err(failed)?;
    kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .map_err(failed)
}

/// A client for a configuration at hand. Each call makes a connection of its own.
pub fn connect_config(config: kube::Config, user_agent: &str) -> Result<kube::Client, ConnectError> {
    Connection::new(config, user_agent)?.client(None)
}

/// The value of an Authorization header that changes while clients use it.
pub type Token = Arc<Mutex<HeaderValue>>;

/// A connection that several clients share, each with a token of its own.
#[derive(Clone)]
pub struct Connection {
    transport: Transport,
    agent: HeaderValue,
}

impl Connection {
    /// Does not connect yet; for use with tokens `config` should name no client certificate, which would win.
    pub fn new(config: kube::Config, user_agent: &str) -> Result<Self, ConnectError> {
        keelson_base::tls::install_provider();
        let agent =
            HeaderValue::from_str(user_agent).map_err(|_| ConnectError::UserAgent(user_agent.to_owned()))?;
        Ok(Self {
            transport: Transport::new(config)?,
            agent,
        })
    }

    /// A client that sends `token` as its Authorization, or what the configuration says.
    pub fn client(&self, token: Option<Token>) -> Result<kube::Client, ConnectError> {
        let mut config = self.transport.shared.config.clone();
        config
            .headers
            .push((http::header::USER_AGENT, self.agent.clone()));
        let credentials = |e| ConnectError::Credentials(Box::new(e));
        let auth = match token {
            None => config.auth_layer().map_err(credentials)?,
            Some(_) => None,
        };
        let service = ServiceBuilder::new()
            .layer(config.base_uri_layer())
            .option_layer(auth)
            .layer(config.extra_headers_layer().map_err(credentials)?)
            .map_request(move |mut request: Request<Body>| {
                if let Some(token) = &token {
                    let value = token.lock().clone();
                    request.headers_mut().insert(http::header::AUTHORIZATION, value);
                }
                request
            })
            .map_err(tower::BoxError::from)
            .service(self.transport.clone());
        Ok(ClientBuilder::new(service, config.default_namespace).build())
    }
}

type Pool = HyperClient<HttpsConnector<HttpConnector>, Body>;

/// The connection pool, replaced when its certificate files change.
#[derive(Clone)]
struct Transport {
    shared: Arc<Shared>,
}

struct Shared {
    config: kube::Config,
    files: Vec<PathBuf>,
    /// Guards the choice of the pool; held for a clone, or while the files are read again.
    current: Mutex<Current>,
}

struct Current {
    pool: Pool,
    modified: Vec<Option<SystemTime>>,
    checked: Instant,
}

impl Transport {
    fn new(config: kube::Config) -> Result<Self, ConnectError> {
        let files: Vec<PathBuf> = [&config.auth_info.client_certificate, &config.auth_info.client_key]
            .into_iter()
            .filter_map(|path| path.as_ref().map(PathBuf::from))
            .collect();
        let current = Current {
            pool: pool(&config)?,
            modified: modified(&files),
            checked: Instant::now(),
        };
        Ok(Self {
            shared: Arc::new(Shared {
                config,
                files,
                current: Mutex::new(current),
            }),
        })
    }

    fn pool(&self) -> Pool {
        let shared = &self.shared;
        let mut current = shared.current.lock();
        if !shared.files.is_empty() && current.checked.elapsed() >= limits::CERTIFICATE_CHECK_PERIOD {
            current.checked = Instant::now();
            let modified = modified(&shared.files);
            if modified != current.modified {
                match pool(&shared.config) {
                    Ok(pool) => {
                        tracing::info!("client certificate changed; connecting with the new one");
                        current.pool = pool;
                        current.modified = modified;
                    }
                    Err(error) => tracing::warn!(
                        error = keelson_base::error::chain(&error),
                        "client certificate changed but cannot be used yet; keeping the old one"
                    ),
                }
            }
        }
        current.pool.clone()
    }
}

impl Service<Request<Body>> for Transport {
    type Response = Response<Incoming>;
    type Error = HyperError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), HyperError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> ResponseFuture {
        self.pool().call(request)
    }
}

fn modified(files: &[PathBuf]) -> Vec<Option<SystemTime>> {
    files
        .iter()
        .map(|path| std::fs::metadata(path).and_then(|m| m.modified()).ok())
        .collect()
}

fn pool(config: &kube::Config) -> Result<Pool, ConnectError> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_keepalive(Some(Duration::from_secs(30)));
    http.set_connect_timeout(Some(limits::CONNECT_TIMEOUT));
    let tls = config
        .rustls_client_config()
        .map_err(|e| ConnectError::Credentials(Box::new(e)))?;
    let mut builder = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http();
    if let Some(name) = &config.tls_server_name {
        let parsed = name
            .clone()
            .try_into()
            .map_err(|_| ConnectError::ServerName(name.clone()))?;
        builder = builder.with_server_name_resolver(hyper_rustls::FixedServerNameResolver::new(parsed));
    }
    let connector = builder.enable_all_versions().wrap_connector(http);
    let mut client = HyperClient::builder(TokioExecutor::new());
    client
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(90));
    if is_https(&config.cluster_url) {
        client
            .http2_keep_alive_interval(limits::PING_AFTER_IDLE)
            .http2_keep_alive_timeout(limits::PING_TIMEOUT)
            .http2_max_send_buf_size(64 * 1024);
    }
    Ok(client.build(connector))
}

fn is_https(url: &Uri) -> bool {
    url.scheme() == Some(&http::uri::Scheme::HTTPS)
}
