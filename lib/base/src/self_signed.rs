//! A certificate of our own making, for servers that were given none: encrypts, proves nothing.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::tls::provider;

/// Why none could be made.
#[derive(Debug, thiserror::Error)]
pub enum SelfSignedError {
    #[error("cannot make a self-signed certificate")]
    Generate(#[from] rcgen::Error),
    #[error("cannot use a self-signed certificate")]
    Use(#[from] rustls::Error),
}

/// A server configuration with a new certificate for these names; key and certificate live in memory only.
pub fn config(names: &[&str]) -> Result<Arc<ServerConfig>, SelfSignedError> {
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    #[test]
    fn one_can_be_made() {
        assert!(super::config(&["localhost"]).is_ok());
    }
}
