//! HTTP/2 connections to the API server of a kubeconfig, with windows as wide as client-go's.
//!
//! Left out: credentials other than a client certificate.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::ConfigExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// Go's windows: 4 MiB of each stream, 1 GiB of a connection.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 1 << 30;

/// JSON, as most clients ask for it.
pub const JSON: &str = "application/json";

/// Where the cluster is; the TLS configuration says who we are.
pub struct Cluster {
    address: String,
    name: ServerName<'static>,
    tls: TlsConnector,
}

impl Cluster {
    pub async fn load(kubeconfig: &Path) -> anyhow::Result<Self> {
        let config = keelson_client::load_config(Some(kubeconfig)).await?;
        let url = &config.cluster_url;
        let host = url.host().context("the kubeconfig's server has no host")?;
        let port = url.port_u16().unwrap_or(443);
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = config.tls_server_name.clone().unwrap_or(bare);
        let mut tls = config
            .rustls_client_config()
            .context("use the kubeconfig's certificates")?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            address: format!("{host}:{port}"),
            name: ServerName::try_from(name).context("the server's name")?,
            tls: TlsConnector::from(Arc::new(tls)),
        })
    }

    /// A connection of its own.
    pub async fn connect(&self) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(&self.address)
            .await
            .with_context(|| format!("connect to {}", self.address))?;
        stream.set_nodelay(true)?;
        let stream = self
            .tls
            .connect(self.name.clone(), stream)
            .await
            .with_context(|| format!("TLS with {}", self.address))?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(stream))
            .await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("a connection ended: {error}");
            }
        });
        Ok(Connection {
            sender,
            base: format!("https://{}", self.address).into(),
        })
    }

    pub async fn connect_many(&self, count: usize) -> anyhow::Result<Vec<Connection>> {
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count.max(1) {
            connections.push(self.connect().await?);
        }
        Ok(connections)
    }
}

/// A connection; clones share it.
#[derive(Clone)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    base: Arc<str>,
}

impl Connection {
    /// Sends a request and returns the head of its answer.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> anyhow::Result<Response<Incoming>> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::USER_AGENT, "keelson-bench/1");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut sender = self.sender.clone();
        sender.ready().await.context("the connection is closed")?;
        let response = sender.send_request(request.body(Full::new(body))?).await?;
        Ok(response)
    }

    /// Opens a GET whose answer must be 200.
    pub async fn open(&self, path: &str, accept: &str) -> anyhow::Result<Incoming> {
        let response = self
            .send(Method::GET, path, &[("accept", accept)], Bytes::new())
            .await?;
        if response.status() != StatusCode::OK {
            bail!("GET {path}: {}", refusal(response).await);
        }
        Ok(response.into_body())
    }

    /// Sends a request, throws the answer's body away and returns its length.
    pub async fn run(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> anyhow::Result<usize> {
        let response = self.send(method.clone(), path, headers, body).await?;
        if !response.status().is_success() {
            bail!("{method} {path}: {}", refusal(response).await);
        }
        length(response.into_body()).await
    }

    /// Creates an object; one that exists already is as good.
    pub async fn ensure(&self, path: &str, body: Bytes) -> anyhow::Result<()> {
        let headers = [("content-type", JSON)];
        let response = self.send(Method::POST, path, &headers, body).await?;
        if response.status().is_success() || response.status() == StatusCode::CONFLICT {
            length(response.into_body()).await?;
            return Ok(());
        }
        bail!("POST {path}: {}", refusal(response).await)
    }
}

/// Counts a body's bytes.
pub async fn length(mut body: Incoming) -> anyhow::Result<usize> {
    let mut total = 0;
    while let Some(frame) = body.frame().await {
        total += frame?.data_ref().map_or(0, Bytes::len);
    }
    Ok(total)
}

/// The status and the start of what the server says about it.
async fn refusal(response: Response<Incoming>) -> String {
    let status = response.status();
    let text = response.into_body().collect().await;
    let text = text.map(|whole| whole.to_bytes()).unwrap_or_default();
    let shown = &text[..text.len().min(300)];
    format!("{status}: {}", String::from_utf8_lossy(shown))
}
