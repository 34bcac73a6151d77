//! Runs what lifecycle hooks and probes run: commands, HTTP requests, TCP connections, gRPC health checks.
//!
//! Each gives success or a text; deadlines are the caller's.

use crate::cri::{self, Cri};
use crate::limits;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, LifecycleHandler};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rustls_pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

const HOOK_HTTP_TIMEOUT: Duration = Duration::from_secs(30);

/// The answer to an HTTP request: status and the head of the body.
pub struct HttpAnswer {
    pub status: u16,
    pub body: String,
}

/// Runs a lifecycle hook; the error is what its event and log say.
pub async fn run_hook(
    cri: &Cri,
    id: &str,
    container: &Container,
    hook: &LifecycleHandler,
    ip: &str,
) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        let command = exec.command.clone().unwrap_or_default();
        let answer = cri
            .exec_sync(id, command.clone(), 0)
            .await
            .map_err(|s| cri::describe(&s))?;
        if answer.exit_code != 0 {
            let output = String::from_utf8_lossy(&answer.stderr).into_owned();
            return Err(format!(
                "command '{}' exited with {}: {output}",
                command.join(" "),
                answer.exit_code
            ));
        }
        return Ok(());
    }
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(sleep.seconds.max(0).unsigned_abs())).await;
        return Ok(());
    }
    if let Some(get) = &hook.http_get {
        let answer = tokio::time::timeout(
            HOOK_HTTP_TIMEOUT,
            http_get(container, get, ip, "kube-lifecycle/1.36"),
        )
        .await;
        let answer = answer.map_err(|_| "context deadline exceeded".to_owned())??;
        return if answer.status < 400 {
            Ok(())
        } else {
            Err(format!("unexpected status {}", answer.status))
        };
    }
    Ok(())
}

/// The number of a port that may be a name.
pub fn port(container: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(n) => Some(*n),
        IntOrString::String(name) => match container
            .ports
            .iter()
            .flatten()
            .find(|p| p.name.as_deref() == Some(name))
        {
            Some(p) => Some(p.container_port),
            None => name.parse().ok(),
        },
    };
    number
        .and_then(|n| u16::try_from(n).ok())
        .filter(|n| *n > 0)
        .ok_or_else(|| "couldn't find port: intstr in container".to_owned())
}

pub fn join(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Connects and closes.
pub async fn tcp(host: &str, port: u16) -> Result<(), String> {
    let address = join(host, port);
    TcpStream::connect(&address)
        .await
        .map(drop)
        .map_err(|e| format!("dial tcp {address}: {}", os_text(&e)))
}

/// Requests a URL of the container; no redirect is followed.
pub async fn http_get(
    container: &Container,
    get: &HTTPGetAction,
    ip: &str,
    agent: &str,
) -> Result<HttpAnswer, String> {
    let host = get.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(ip);
    let port = port(container, &get.port)?;
    let https = get.scheme.as_deref() == Some("HTTPS");
    let path = get.path.as_deref().filter(|p| !p.is_empty()).unwrap_or("/");
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    let url = format!(
        "{}://{}{path}",
        if https { "https" } else { "http" },
        join(host, port)
    );
    let address = join(host, port);
    let fail = |why: String| format!("Get \"{url}\": {why}");
    let stream = TcpStream::connect(&address)
        .await
        .map_err(|e| fail(format!("dial tcp {address}: {}", os_text(&e))))?;
    let mut request = http::Request::get(&path);
    let mut host_header = address.clone();
    for header in get.http_headers.iter().flatten() {
        if header.name.eq_ignore_ascii_case("host") {
            host_header.clone_from(&header.value);
        } else {
            request = request.header(&header.name, &header.value);
        }
    }
    let named = |name: &str| {
        get.http_headers
            .iter()
            .flatten()
            .any(|h| h.name.eq_ignore_ascii_case(name))
    };
    request = request.header("Host", host_header);
    if !named("user-agent") {
        request = request.header("User-Agent", agent);
    }
    if !named("accept") {
        request = request.header("Accept", "*/*");
    }
    let request = request
        .header("Connection", "close")
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|e| fail(e.to_string()))?;
    if https {
        let name = ServerName::try_from(host.to_owned()).map_err(|e| fail(e.to_string()))?;
        let tls = tokio_rustls::TlsConnector::from(unverified());
        let stream = tls.connect(name, stream).await.map_err(|e| fail(e.to_string()))?;
        exchange(stream, request).await.map_err(fail)
    } else {
        exchange(stream, request).await.map_err(fail)
    }
}

async fn exchange<S>(stream: S, request: http::Request<Empty<bytes::Bytes>>) -> Result<HttpAnswer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    let driver = tokio::spawn(connection);
    let answer = sender.send_request(request).await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            driver.abort();
            return Err(if error.is_incomplete_message() {
                "EOF".into()
            } else {
                error.to_string()
            });
        }
    };
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), limits::PROBE_BODY_BYTES_MAX)
        .collect()
        .await;
    driver.abort();
    let body = body
        .map(|b| String::from_utf8_lossy(&b.to_bytes()).into_owned())
        .unwrap_or_default();
    Ok(HttpAnswer { status, body })
}

/// An OS error in the words of Go's net package.
fn os_text(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".into(),
        std::io::ErrorKind::HostUnreachable => "connect: no route to host".into(),
        std::io::ErrorKind::TimedOut => "i/o timeout".into(),
        _ => error.to_string(),
    }
}

/// Probes check that something answers, not who: upstream does not verify their certificates either.
fn unverified() -> Arc<rustls::ClientConfig> {
    static CONFIG: std::sync::LazyLock<Arc<rustls::ClientConfig>> = std::sync::LazyLock::new(|| {
        let provider = keelson_base::tls::provider();
        let verifier = Arc::new(AnyServer(provider.clone()));
        Arc::new(
            rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .expect("the provider supports the default protocol versions")
                .dangerous()
                .with_custom_certificate_verifier(verifier)
                .with_no_client_auth(),
        )
    });
    CONFIG.clone()
}

#[derive(Debug)]
struct AnyServer(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &rustls_pki_types::CertificateDer<'_>,
        _intermediates: &[rustls_pki_types::CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls_pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls_pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// `grpc.health.v1.Health/Check`.
pub async fn grpc(host: &str, port: u16, service: &str) -> Result<(), String> {
    #[derive(Clone, PartialEq, prost::Message)]
    struct HealthCheckRequest {
        #[prost(string, tag = "1")]
        service: String,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    struct HealthCheckResponse {
        #[prost(int32, tag = "1")]
        status: i32,
    }
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", join(host, port)))
        .map_err(|e| e.to_string())?;
    let unreachable = |e: &dyn std::error::Error| {
        format!("timeout: failed to connect service \"{}\": {e}", join(host, port))
    };
    let channel = endpoint.connect().await.map_err(|e| unreachable(&e))?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|e| unreachable(&e))?;
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let request = tonic::Request::new(HealthCheckRequest {
        service: service.to_owned(),
    });
    let answer = client
        .unary(request, path, codec)
        .await
        .map_err(|s| match s.code() {
            tonic::Code::Unimplemented => {
                "this server does not implement the grpc health protocol (grpc.health.v1.Health): ".to_owned()
                    + s.message()
            }
            code => format!("service unhealthy (responded with {code:?}): {}", s.message()),
        })?;
    match answer.into_inner().status {
        1 => Ok(()),
        status => Err(format!(
            "service unhealthy (responded with \"{}\")",
            match status {
                2 => "NOT_SERVING",
                3 => "SERVICE_UNKNOWN",
                _ => "UNKNOWN",
            }
        )),
    }
}
