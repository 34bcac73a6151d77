//! The store's endpoints: one lazily connected HTTP/2 channel each, and which of them is used now.
//!
//! Invariant: a call that found an endpoint unreachable moves everybody to the next one, once, whoever else saw the
//! same failure.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use keelson_base::tls::{self, TlsError};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

/// `--etcd-servers` and the three TLS files.
#[derive(Clone, Debug, Default)]
pub struct EndpointOptions {
    pub servers: Vec<String>,
    pub ca: Option<PathBuf>,
    pub cert_key: Option<(PathBuf, PathBuf)>,
}

/// Why the store cannot even be addressed.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error("--etcd-servers names no server")]
    None,
    #[error("--etcd-servers: {0:?} is no URL of the form https://host:port")]
    Url(String),
    #[error("--etcd-servers: {0:?} needs --etcd-cafile")]
    NoCa(String),
    #[error("TLS to the store")]
    Tls(#[from] TlsError),
}

/// Channels to every endpoint.
#[derive(Debug)]
pub struct Endpoints {
    channels: Vec<Channel>,
    current: AtomicUsize,
}

impl Endpoints {
    /// Connects to nothing yet.
    pub fn new(options: &EndpointOptions) -> Result<Self, EndpointError> {
        let tls = match &options.ca {
            None => None,
            Some(ca) => {
                let own = options
                    .cert_key
                    .as_ref()
                    .map(|(cert, key)| (cert.as_path(), key.as_path()));
                let mut config = tls::client_config(ca, own)?;
                config.alpn_protocols = vec![b"h2".to_vec()];
                Some(TlsConnector::from(Arc::new(config)))
            }
        };
        let channels: Vec<Channel> = options
            .servers
            .iter()
            .map(|server| channel(server, tls.as_ref()))
            .collect::<Result<_, _>>()?;
        if channels.is_empty() {
            return Err(EndpointError::None);
        }
        Ok(Self {
            channels,
            current: AtomicUsize::new(0),
        })
    }

    /// The channel in use, and its number for `failed`.
    pub fn current(&self) -> (usize, Channel) {
        let number = self.current.load(Ordering::Relaxed) % self.channels.len();
        (number, self.channels[number].clone())
    }

    /// Moves on from an endpoint that did not answer.
    pub fn failed(&self, number: usize) {
        let next = (number + 1) % self.channels.len();
        // A failure means another caller moved on already.
        let _ = self
            .current
            .compare_exchange(number, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    pub fn len(&self) -> usize {
        self.channels.len()
    }

    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// Every endpoint's channel, for questions that concern each.
    pub fn all(&self) -> &[Channel] {
        &self.channels
    }
}

fn channel(server: &str, tls: Option<&TlsConnector>) -> Result<Channel, EndpointError> {
    let refuse = || EndpointError::Url(server.to_owned());
    let uri: Uri = server.parse().map_err(|_| refuse())?;
    let (host, port) = (uri.host().ok_or_else(refuse)?, uri.port_u16().unwrap_or(2379));
    let host = host.trim_matches(['[', ']']).to_owned();
    let secure = match uri.scheme_str() {
        Some("http") => None,
        Some("https") => Some(tls.ok_or_else(|| EndpointError::NoCa(server.to_owned()))?.clone()),
        _ => return Err(refuse()),
    };
    // TLS is the connector's; to tonic the connection is plain.
    let endpoint = Endpoint::from_shared(format!("http://{}:{port}", uri.host().unwrap_or_default()))
        .map_err(|_| refuse())?
        .connect_timeout(Duration::from_secs(5))
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .tcp_nodelay(true);
    let connector = tower::service_fn(move |_: Uri| {
        let (host, secure) = (host.clone(), secure.clone());
        async move { connect(&host, port, secure).await }
    });
    Ok(endpoint.connect_with_connector_lazy(connector))
}

/// A connection, encrypted or not.
trait Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Io for T {}

async fn connect(
    host: &str,
    port: u16,
    secure: Option<TlsConnector>,
) -> std::io::Result<TokioIo<Box<dyn Io>>> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let Some(connector) = secure else {
        return Ok(TokioIo::new(Box::new(stream)));
    };
    let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
    Ok(TokioIo::new(Box::new(connector.connect(name, stream).await?)))
}
