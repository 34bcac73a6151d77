//! How a joining machine comes to trust the cluster: the token signs `cluster-info`, the pin names its CA.
//!
//! First `cluster-info` is read without verifying the server (nothing secret is sent), its detached JWS is checked
//! with the token and its CA with the pins; then it is read again, the server verified by that CA, and must be the
//! same. Upstream's protocol (`kubeadm join`, token-based discovery).

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http_body_util::{BodyExt, Empty, Limited};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use serde_json::Value;

use crate::pki::spki_hash;
use crate::token::Token;

/// Bytes of `cluster-info` read at most.
const BODY_MAX: usize = 1 << 20;
/// How long an answer may lack the token's signature, or not come.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(200);
const PATH: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";

/// What a machine knows after discovery.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub server: String,
    pub ca_pem: String,
}

/// Finds the cluster at `endpoint` (`host:port`). `pins` are `sha256:` and hex; empty only if the operator said so.
pub async fn discover(endpoint: &str, token: &Token, pins: &[String]) -> anyhow::Result<Cluster> {
    let unverified = fetch_signed(endpoint, token).await?;
    let cluster = checked(&unverified, token, pins)?;
    let mut roots = RootCertStore::empty();
    roots
        .add(ca_der(&cluster.ca_pem)?)
        .context("use the cluster's CA")?;
    let config = ClientConfig::builder_with_provider(keelson_base::tls::provider())
        .with_safe_default_protocol_versions()
        .context("TLS versions")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let verified = fetch(endpoint, config)
        .await
        .context("the API server's certificate is not signed by the CA that cluster-info names")?;
    if verified["data"]["kubeconfig"] != unverified["data"]["kubeconfig"] {
        bail!(
            "the second kubeconfig from the cluster-info ConfigMap (secure connection) is different from the first"
        );
    }
    Ok(cluster)
}

/// `cluster-info` as anyone gets it, with a moment's patience for a server that is starting or a token that was made
/// just now.
async fn fetch_signed(endpoint: &str, token: &Token) -> anyhow::Result<Value> {
    let began = Instant::now();
    loop {
        let fetched = fetch(endpoint, insecure_config()?).await;
        let complete = fetched
            .as_ref()
            .is_ok_and(|info| info["data"][signature_key(token)].is_string());
        if complete || began.elapsed() > PATIENCE {
            return fetched;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn signature_key(token: &Token) -> String {
    format!("jws-kubeconfig-{}", token.id)
}

/// Checks signature and pins of a `cluster-info` ConfigMap.
pub fn checked(config_map: &Value, token: &Token, pins: &[String]) -> anyhow::Result<Cluster> {
    let Some(text) = config_map["data"]["kubeconfig"].as_str() else {
        bail!("there is no \"kubeconfig\" key in the cluster-info ConfigMap");
    };
    let Some(signature) = config_map["data"][signature_key(token)].as_str() else {
        bail!(
            "could not find a JWS signature in the cluster-info ConfigMap for token ID {:?}: \
             the token is wrong, expired or deleted; make a new one with 'kubeadm token create'",
            token.id
        );
    };
    verify_jws(signature, text, token)?;
    let config: Value = serde_yaml::from_str(text).context("parse the kubeconfig in cluster-info")?;
    let entry = &config["clusters"][0]["cluster"];
    let encoded = entry["certificate-authority-data"]
        .as_str()
        .context("cluster-info names no CA")?;
    let ca_pem =
        String::from_utf8(STANDARD.decode(encoded).context("decode the CA")?).context("the CA is not PEM")?;
    let server = entry["server"]
        .as_str()
        .context("cluster-info names no server")?
        .to_owned();
    let hash = spki_hash(&ca_der(&ca_pem)?)?;
    if !pins.is_empty() && !pins.iter().any(|pin| pin.eq_ignore_ascii_case(&hash)) {
        bail!(
            "cluster CA found in cluster-info ConfigMap is invalid: none of the public keys {hash:?} are pinned"
        );
    }
    Ok(Cluster { server, ca_pem })
}

/// A detached JWS (RFC 7515 appendix F), HS256 with the token's secret, key id the token's id.
fn verify_jws(signature: &str, payload: &str, token: &Token) -> anyhow::Result<()> {
    let mut parts = signature.split('.');
    let (Some(header), Some(""), Some(mac), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        bail!("the JWS signature in cluster-info is malformed");
    };
    let key = jsonwebtoken::DecodingKey::from_secret(token.secret.as_bytes());
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload));
    let algorithm = jsonwebtoken::Algorithm::HS256;
    let holds =
        jsonwebtoken::crypto::verify(mac, message.as_bytes(), &key, algorithm).context("check the JWS")?;
    if !holds {
        bail!("failed to verify JWS signature of received cluster-info object, can't trust this API Server");
    }
    Ok(())
}

fn ca_der(ca_pem: &str) -> anyhow::Result<CertificateDer<'static>> {
    Ok(CertificateDer::from(
        pem::parse(ca_pem).context("parse the CA")?.into_contents(),
    ))
}

async fn fetch(endpoint: &str, config: ClientConfig) -> anyhow::Result<Value> {
    let (host, _) = endpoint
        .rsplit_once(':')
        .with_context(|| format!("{endpoint:?} is not HOST:PORT"))?;
    let unreachable = || format!("cannot reach the API server at {endpoint}");
    let stream = tokio::net::TcpStream::connect(endpoint)
        .await
        .with_context(unreachable)?;
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(bare).with_context(|| format!("host name {host:?}"))?;
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .with_context(unreachable)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream))
            .await
            .with_context(unreachable)?;
    let driver = tokio::spawn(connection);
    let request = http::Request::get(PATH)
        .header("host", endpoint)
        .header("accept", "application/json")
        .body(Empty::<bytes::Bytes>::new())
        .context("build the request")?;
    let response = sender.send_request(request).await.with_context(unreachable)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), BODY_MAX).collect().await;
    driver.abort();
    let body = body
        .map_err(|error| anyhow::anyhow!("read cluster-info: {error}"))?
        .to_bytes();
    if !status.is_success() {
        bail!(
            "{endpoint} answered {status} for the cluster-info ConfigMap: is this a cluster made by kubeadm?"
        );
    }
    serde_json::from_slice(&body).context("parse cluster-info")
}

fn insecure_config() -> anyhow::Result<ClientConfig> {
    Ok(ClientConfig::builder_with_provider(keelson_base::tls::provider())
        .with_safe_default_protocol_versions()
        .context("TLS versions")?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer))
        .with_no_client_auth())
}

/// Accepts any server: used for the first look only, whose content the token's signature proves.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        keelson_base::tls::provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{Date, ensure_ca};
    use serde_json::json;

    fn signed(token: &Token, text: &str) -> Value {
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": "HS256", "kid": token.id}).to_string());
        let key = jsonwebtoken::EncodingKey::from_secret(token.secret.as_bytes());
        let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(text));
        let mac =
            jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::HS256).unwrap();
        json!({"data": {"kubeconfig": text, format!("jws-kubeconfig-{}", token.id): format!("{header}..{mac}")}})
    }

    #[test]
    fn only_the_right_token_and_pin_are_trusted() {
        let dir = tempfile::tempdir().unwrap();
        ensure_ca(dir.path(), "ca", "kubernetes", Date::today()).unwrap();
        let ca = std::fs::read_to_string(dir.path().join("ca.crt")).unwrap();
        let text = crate::kubeconfig::cluster_only("https://h:6443", &ca);
        let token: Token = "abcdef.0123456789abcdef".parse().unwrap();
        let info = signed(&token, &text);
        let pin = spki_hash(&ca_der(&ca).unwrap()).unwrap();
        assert_eq!(checked(&info, &token, &[pin]).unwrap().server, "https://h:6443");
        let why = |token: &str, pins: &[String]| {
            checked(&info, &token.parse().unwrap(), pins)
                .unwrap_err()
                .to_string()
        };
        assert!(why("abcdef.1123456789abcdef", &[]).contains("failed to verify JWS signature"));
        assert!(why("zzzzzz.0123456789abcdef", &[]).contains("could not find a JWS signature"));
        assert!(
            why("abcdef.0123456789abcdef", &["sha256:00".to_owned()]).contains("none of the public keys")
        );
    }
}
