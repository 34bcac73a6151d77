//! A store and an API server of a test's own, and a client that speaks plain HTTP to it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use keelson_base::{Shutdown, tls};
use keelson_proto::etcd::etcdserverpb as pb;
use kube_apiserver::options::Options;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

/// Between two looks at whether something is up.
const POLL: Duration = Duration::from_millis(20);
/// How long that may take on a busy machine.
const START: Duration = Duration::from_secs(120);

/// How long a watcher waits for its next event.
const EVENT: Duration = Duration::from_secs(20);

/// Debian's store.
const ETCD: &str = "/usr/bin/etcd";

/// A real etcd in a directory of its own.
pub struct Store {
    process: Child,
    pub url: String,
    _dir: tempfile::TempDir,
}

impl Store {
    /// `None`, with a message, where no etcd is installed.
    pub async fn start() -> Option<Self> {
        if !Path::new(ETCD).exists() {
            println!("skipped: {ETCD} is not installed");
            return None;
        }
        // In memory where that can be: these tests are not about the disk.
        let place = Path::new("/dev/shm");
        let dir = match place.exists() {
            true => tempfile::tempdir_in(place).unwrap(),
            false => tempfile::tempdir().unwrap(),
        };
        let (client, peer) = (free_port(), free_port());
        let url = format!("http://127.0.0.1:{client}");
        let peer = format!("http://127.0.0.1:{peer}");
        let process = Command::new(ETCD)
            .args(["--data-dir", dir.path().to_str().unwrap()])
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &format!("default={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let store = Self {
            process,
            url,
            _dir: dir,
        };
        let deadline = Instant::now() + START;
        while store.put("ready", Bytes::new()).await.is_err() {
            assert!(Instant::now() < deadline, "etcd does not come up");
            tokio::time::sleep(POLL).await;
        }
        Some(store)
    }

    /// The value at a key.
    pub async fn get(&self, key: &str) -> Option<Bytes> {
        let channel = tonic::transport::Endpoint::from_shared(self.url.clone()).unwrap();
        let request = pb::RangeRequest {
            key: key.to_owned().into(),
            ..Default::default()
        };
        let mut client = pb::kv_client::KvClient::new(channel.connect().await.unwrap());
        let answer = client.range(request).await.unwrap().into_inner();
        answer.kvs.into_iter().next().map(|kv| kv.value)
    }

    pub async fn put(&self, key: &str, value: Bytes) -> Result<(), Box<dyn std::error::Error>> {
        let channel = tonic::transport::Endpoint::from_shared(self.url.clone())?
            .connect()
            .await?;
        let request = pb::PutRequest {
            key: key.to_owned().into(),
            value,
            ..Default::default()
        };
        pb::kv_client::KvClient::new(channel).put(request).await?;
        Ok(())
    }

    /// Forgets all history up to now.
    pub async fn compact(&self) -> Result<(), Box<dyn std::error::Error>> {
        let channel = tonic::transport::Endpoint::from_shared(self.url.clone())?
            .connect()
            .await?;
        let mut client = pb::kv_client::KvClient::new(channel);
        let request = pb::RangeRequest {
            key: "ready".into(),
            ..Default::default()
        };
        let now = client.range(request).await?.into_inner().header;
        let request = pb::CompactionRequest {
            revision: now.map_or(0, |header| header.revision),
            physical: true,
        };
        client.compact(request).await?;
        Ok(())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// An API server in this process.
pub struct Server {
    pub address: SocketAddr,
    shutdown: Shutdown,
    running: Option<tokio::task::JoinHandle<()>>,
    dir: tempfile::TempDir,
}

impl Server {
    pub async fn start(store: &Store) -> Self {
        Self::start_as(store, "127.0.0.1").await
    }

    /// A server that tells others to reach it at this address.
    pub async fn start_as(store: &Store, advertised: &str) -> Self {
        tls::install_provider();
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let key = rcgen::KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let cert = parameters.self_signed(&key).unwrap();
        std::fs::write(file("tls.crt"), cert.pem()).unwrap();
        std::fs::write(file("tls.key"), key.serialize_pem()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let options = Options::try_parse_from([
            "kube-apiserver",
            &format!("--etcd-servers={}", store.url),
            &format!("--tls-cert-file={}", file("tls.crt")),
            &format!("--tls-private-key-file={}", file("tls.key")),
            &format!("--secure-port={}", address.port()),
            &format!("--advertise-address={advertised}"),
            "--service-cluster-ip-range=10.96.0.0/16",
            "--disable-admission-plugins=ServiceAccount",
        ])
        .unwrap();
        let shutdown = Shutdown::default();
        let latch = shutdown.clone();
        let running = tokio::spawn(async move {
            kube_apiserver::run::serve(options, listener, latch)
                .await
                .unwrap();
        });
        let server = Self {
            address,
            shutdown,
            running: Some(running),
            dir,
        };
        let deadline = Instant::now() + START;
        let client = server.client().await;
        loop {
            if client.get("/readyz").await.0 == StatusCode::OK {
                return server;
            }
            assert!(Instant::now() < deadline, "the server does not become ready");
            tokio::time::sleep(POLL).await;
        }
    }

    /// A connection of its own.
    pub async fn client(&self) -> Client {
        let mut config = tls::client_config(&self.dir.path().join("tls.crt"), None).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let name = "localhost".to_owned().try_into().unwrap();
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .unwrap();
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        Client { sender }
    }

    pub async fn stop(mut self) {
        self.shutdown.set();
        if let Some(running) = self.running.take() {
            running.await.unwrap();
        }
    }
}

/// Plain HTTP/2 requests.
#[derive(Clone)]
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
}

/// A watch's lines.
pub struct Lines {
    body: hyper::body::Incoming,
    rest: Vec<u8>,
}

/// The next piece of a stream; panics where none comes in time.
pub async fn next_frame(body: &mut hyper::body::Incoming) -> Bytes {
    let frame = tokio::time::timeout(EVENT, body.frame()).await;
    let frame = frame
        .expect("an event in time")
        .expect("the watch ended")
        .unwrap();
    frame.into_data().unwrap_or_default()
}

impl Lines {
    /// The next event; panics where none comes in time.
    pub async fn next(&mut self) -> Value {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return serde_json::from_slice(&line).unwrap();
            }
            let bytes = next_frame(&mut self.body).await;
            self.rest.extend_from_slice(&bytes);
        }
    }
}

impl Client {
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> http::Response<hyper::body::Incoming> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("https://localhost{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut sender = self.sender.clone();
        sender.ready().await.unwrap();
        sender
            .send_request(request.body(Full::new(body.into())).unwrap())
            .await
            .unwrap()
    }

    async fn json(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: &Value,
    ) -> (StatusCode, Value) {
        let bytes = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let response = self
            .send(method, path, &[("content-type", content_type)], bytes)
            .await;
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.json(Method::GET, path, "application/json", &Value::Null)
            .await
    }

    pub async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.json(Method::POST, path, "application/json", body).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.json(Method::PUT, path, "application/json", body).await
    }

    pub async fn delete(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.json(Method::DELETE, path, "application/json", body).await
    }

    /// `kind`: `merge-patch`, `json-patch`, `strategic-merge-patch`.
    pub async fn patch(&self, path: &str, kind: &str, body: &Value) -> (StatusCode, Value) {
        self.json(Method::PATCH, path, &format!("application/{kind}+json"), body)
            .await
    }

    pub async fn watch(&self, path: &str) -> Lines {
        let response = self.send(Method::GET, path, &[], "").await;
        assert_eq!(response.status(), StatusCode::OK);
        Lines {
            body: response.into_body(),
            rest: Vec::new(),
        }
    }
}
