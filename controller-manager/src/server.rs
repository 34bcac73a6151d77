//! The secure port: /healthz, /livez, /readyz, /metrics over TLS.
//!
//! Without --tls-cert-file a certificate is made for each run, as upstream does; callers then cannot check it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::Context as _;
use keelson_base::Shutdown;
use keelson_base::health::{self, Checks};
use keelson_base::metrics::Registry;
use keelson_base::tls::{ClientAuth, ServerTls};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;

use crate::config::Config;

/// The task that serves.
pub type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Binds the port; the returned task serves until shutdown.
pub async fn listen(
    config: &Config,
    checks: Checks,
    metrics: Registry,
    shutdown: Shutdown,
) -> anyhow::Result<Serving> {
    let Some(address) = config.listen else {
        return Ok(Box::pin(async {}));
    };
    let tls = match &config.serving {
        Some((cert, key)) => {
            let files = ServerTls {
                cert: cert.clone(),
                key: key.clone(),
                client_ca: config.client_ca.clone().map(|ca| (ca, ClientAuth::Optional)),
            };
            files.config(&["h2", "http/1.1"])?
        }
        None => self_signed(address.ip())?,
    };
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    Ok(Box::pin(health::serve(
        listener,
        Some(tls),
        checks,
        metrics,
        shutdown,
    )))
}

fn self_signed(address: std::net::IpAddr) -> anyhow::Result<Arc<ServerConfig>> {
    let names = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        address.to_string(),
    ];
    let made = rcgen::generate_simple_self_signed(names).context("cannot make a serving certificate")?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())
        .map_err(|error| anyhow::anyhow!("cannot use the serving key just made: {error}"))?;
    let mut tls = ServerConfig::builder_with_provider(keelson_base::tls::provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(tls))
}
