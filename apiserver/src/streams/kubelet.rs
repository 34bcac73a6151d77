//! How a node's kubelet is reached: address by preference, port from its status, our client certificate.

use std::sync::Arc;

use keelson_base::tls;
use keelson_machinery::{GroupResource, ObjectReader, Status, Value};
use keelson_streams::{Backend, Tls};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use crate::options::KubeletOptions;

const NODES: GroupResource = GroupResource::new("", "nodes");
/// Where a kubelet listens that does not say.
const PORT: u16 = 10_250;

/// The kubelets' side of the command line.
pub struct Kubelets {
    config: Arc<ClientConfig>,
    address_types: Vec<String>,
}

impl Kubelets {
    /// # Errors
    /// A certificate or key that cannot be used.
    pub fn new(options: &KubeletOptions) -> anyhow::Result<Self> {
        let own = options
            .kubelet_client_certificate
            .as_deref()
            .zip(options.kubelet_client_key.as_deref());
        let config = match &options.kubelet_certificate_authority {
            Some(ca) => tls::client_config(ca, own)?,
            None => unverified(own)?,
        };
        Ok(Self {
            config: Arc::new(config),
            address_types: options.kubelet_preferred_address_types.clone(),
        })
    }

    /// Where the node's kubelet is.
    ///
    /// # Errors
    /// The node does not exist or names no address.
    pub fn backend(&self, reader: &dyn ObjectReader, name: &str) -> Result<Backend, Status> {
        let node = reader
            .get(&NODES, None, name)
            .ok_or_else(|| Status::not_found(&NODES, name))?;
        let host = address(&node, &self.address_types).ok_or_else(|| {
            let known = &node["status"]["addresses"];
            Status::internal(format!("no preferred addresses found; known addresses: {known}"))
        })?;
        let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
            .as_u64()
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port != 0)
            .unwrap_or(PORT);
        Ok(Backend {
            host,
            port,
            tls: Some(Tls {
                config: self.config.clone(),
                server_name: None,
            }),
        })
    }
}

/// The first address of the most preferred type.
fn address(node: &Value, types: &[String]) -> Option<String> {
    let addresses = node["status"]["addresses"].as_array()?;
    types.iter().find_map(|wanted| {
        addresses
            .iter()
            .find(|address| address["type"] == wanted.as_str())
            .and_then(|address| address["address"].as_str())
            .map(str::to_owned)
    })
}

/// Without `--kubelet-certificate-authority` kubelets are not verified, as upstream: their serving certificates are self-signed by default.
fn unverified(own: Option<(&std::path::Path, &std::path::Path)>) -> anyhow::Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer));
    Ok(match own {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => builder.with_client_auth_cert(tls::load_certs(cert)?, tls::load_key(key)?)?,
    })
}

/// A client configuration that takes any server; for backends reached by address.
pub fn any_server() -> anyhow::Result<Arc<ClientConfig>> {
    Ok(Arc::new(unverified(None)?))
}

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
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &tls::provider().signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &tls::provider().signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        tls::provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn addresses_follow_the_preference() {
        let node = json!({"status": {"addresses": [
            {"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "10.0.0.1"},
        ]}});
        let types = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            address(&node, &types(&["InternalIP", "Hostname"])).as_deref(),
            Some("10.0.0.1")
        );
        assert_eq!(
            address(&node, &types(&["ExternalIP", "Hostname"])).as_deref(),
            Some("n1")
        );
        assert_eq!(address(&node, &types(&["ExternalIP"])), None);
    }
}
