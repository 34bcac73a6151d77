//! Client certificates: the common name is the user, the organizations are the groups.

use std::sync::Arc;

use jiff::Timestamp;

use super::client_ca::ClientCa;
use super::{AuthError, Authenticator, Credentials};
use crate::user::{EXTRA_CREDENTIAL_ID, UserInfo};

/// Trusts certificates of `--client-ca-file`.
pub struct X509(pub Arc<ClientCa>);

impl Authenticator for X509 {
    fn authenticate(
        &self,
        given: &Credentials<'_>,
        now: Timestamp,
    ) -> Result<Option<Arc<UserInfo>>, AuthError> {
        if given.client_certificates.is_empty() {
            return Ok(None);
        }
        let subject = self.0.verify(given.client_certificates, now)?;
        if subject.common_name.is_empty() {
            return Ok(None);
        }
        let id = format!("X509SHA256={}", subject.sha256);
        Ok(Some(Arc::new(UserInfo {
            name: subject.common_name.clone(),
            uid: subject.uid.clone(),
            groups: subject.organizations.clone(),
            extra: [(EXTRA_CREDENTIAL_ID.to_owned(), vec![id])].into(),
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    };
    use rustls_pki_types::CertificateDer;

    struct Ca {
        pem: String,
        params: CertificateParams,
        key: KeyPair,
    }

    fn ca() -> Ca {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "ca");
        let pem = params.self_signed(&key).unwrap().pem();
        Ca { pem, params, key }
    }

    fn leaf(ca: &Ca, name: &str, usage: ExtendedKeyUsagePurpose) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params
            .distinguished_name
            .push(DnType::OrganizationName, "system:nodes");
        params.extended_key_usages = vec![usage];
        let issuer = Issuer::from_params(&ca.params, &ca.key);
        params
            .signed_by(&KeyPair::generate().unwrap(), &issuer)
            .unwrap()
            .der()
            .clone()
    }

    #[test]
    fn only_client_certificates_of_the_ca_count() {
        let (own, other) = (ca(), ca());
        let x509 = X509(Arc::new(ClientCa::from_pem(own.pem.as_bytes()).unwrap()));
        let now = "2030-01-01T00:00:00Z".parse().unwrap();
        let headers = HeaderMap::new();
        let ask = |cert: Option<CertificateDer<'static>>, now| {
            let certificates: Vec<_> = cert.into_iter().collect();
            let given = Credentials {
                client_certificates: &certificates,
                headers: &headers,
            };
            x509.authenticate(&given, now)
        };
        let good = leaf(&own, "system:node:n1", ExtendedKeyUsagePurpose::ClientAuth);
        let user = ask(Some(good.clone()), now).unwrap().unwrap();
        assert_eq!(
            (user.name.as_str(), user.node_name()),
            ("system:node:n1", Some("n1"))
        );
        assert!(user.extra[EXTRA_CREDENTIAL_ID][0].starts_with("X509SHA256="));
        // The kept verdict must not outlive the certificate.
        assert!(ask(Some(good), "9999-01-01T00:00:00Z".parse().unwrap()).is_err());
        assert!(ask(Some(leaf(&own, "x", ExtendedKeyUsagePurpose::ServerAuth)), now).is_err());
        assert!(ask(Some(leaf(&other, "x", ExtendedKeyUsagePurpose::ClientAuth)), now).is_err());
        assert_eq!(ask(None, now), Ok(None));
    }
}
