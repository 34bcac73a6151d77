//! Connections to kubelets, pods and services.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, header};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::limits::DIAL_TIMEOUT;
use crate::{Body, BodyError};

/// Who to connect to.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Address or name.
    pub host: String,
    pub port: u16,
    /// `None` for plain HTTP.
    pub tls: Option<Tls>,
}

/// How to speak TLS to a backend; whether its certificate is checked is the configuration's matter.
#[derive(Clone)]
pub struct Tls {
    pub config: Arc<ClientConfig>,
    /// The name its certificate must carry, where not the host.
    pub server_name: Option<String>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

/// A connection of any kind.
pub(crate) trait Connection: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Connection for T {}

impl Backend {
    /// `host:port`, brackets around IPv6.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    async fn connect(&self) -> io::Result<Pin<Box<dyn Connection>>> {
        let refused =
            |why: io::Error| io::Error::new(why.kind(), format!("dial tcp {}: {why}", self.authority()));
        let connect = async {
            let stream = TcpStream::connect((self.host.as_str(), self.port))
                .await
                .map_err(refused)?;
            stream.set_nodelay(true)?;
            let Some(tls) = &self.tls else {
                return Ok(Box::pin(stream) as Pin<Box<dyn Connection>>);
            };
            let name = tls.server_name.as_ref().unwrap_or(&self.host).clone();
            let name = ServerName::try_from(name).map_err(|why| io::Error::other(format!("tls: {why}")))?;
            let stream = TlsConnector::from(tls.config.clone())
                .connect(name, stream)
                .await?;
            Ok(Box::pin(stream) as Pin<Box<dyn Connection>>)
        };
        match tokio::time::timeout(DIAL_TIMEOUT, connect).await {
            Ok(connected) => connected,
            Err(_) => Err(refused(io::Error::new(io::ErrorKind::TimedOut, "i/o timeout"))),
        }
    }

    /// Sends one request on a connection of its own; the connection lives as long as the answer is read.
    pub(crate) async fn send(&self, mut request: Request<Body>) -> Result<Response<Incoming>, BodyError> {
        let stream = self.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // Its end is seen by whoever reads the answer.
            if let Err(why) = connection.with_upgrades().await {
                tracing::debug!(error = %why, "connection to backend ended");
            }
        });
        let host = self.authority().parse()?;
        request.headers_mut().entry(header::HOST).or_insert(host);
        Ok(sender.send_request(request).await?)
    }
}

/// A body without bytes.
pub(crate) fn empty() -> Body {
    whole(Bytes::new())
}

/// A body that is there.
pub(crate) fn whole(bytes: impl Into<Bytes>) -> Body {
    use http_body_util::BodyExt as _;
    http_body_util::Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}
