//! A CA bundle that client certificates are checked against, with what it found kept for a while.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::AuthError;
use crate::limits::{VERIFIED_CERTIFICATE_S, VERIFIED_CERTIFICATES_MAX};

/// What a verified certificate says about its holder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    pub common_name: String,
    pub organizations: Vec<String>,
    /// The subject attribute 1.3.6.1.4.1.57683.2, or empty.
    pub uid: String,
    /// Lower-case hex.
    pub sha256: String,
}

/// The subject attribute a user's uid may stand in.
const UID_ATTRIBUTE: &str = "1.3.6.1.4.1.57683.2";

/// A subject, and until when (Unix seconds) it counts.
type Verified = (Arc<Subject>, i64);

/// Verifies chains against the CAs of one purpose.
pub struct ClientCa {
    verifier: RwLock<Arc<dyn ClientCertVerifier>>,
    /// Verified leaves by their SHA-256. Bounded by
    /// `VERIFIED_CERTIFICATES_MAX`.
    verified: Mutex<HashMap<[u8; 32], Verified>>,
}

impl ClientCa {
    /// From a PEM bundle.
    ///
    /// # Errors
    /// The bundle holds no certificate, or one that cannot be a CA.
    pub fn from_pem(pem: &[u8]) -> Result<Self, AuthError> {
        Ok(Self {
            verifier: RwLock::new(verifier(pem)?),
            verified: Mutex::default(),
        })
    }

    /// Takes another bundle; every certificate is verified anew.
    ///
    /// # Errors
    /// As [`ClientCa::from_pem`]; the old bundle stays in use.
    pub fn replace(&self, pem: &[u8]) -> Result<(), AuthError> {
        *self.verifier.write() = verifier(pem)?;
        self.verified.lock().clear();
        Ok(())
    }

    /// The subject of the first certificate, if it is valid now and chains to this bundle.
    pub fn verify(
        &self,
        chain: &[CertificateDer<'static>],
        now: Timestamp,
    ) -> Result<Arc<Subject>, AuthError> {
        let [leaf, intermediates @ ..] = chain else {
            return Err(AuthError::Certificate("no certificate".to_owned()));
        };
        let hash: [u8; 32] = Sha256::digest(leaf).into();
        let now_s = now.as_second();
        if let Some((subject, until_s)) = self.verified.lock().get(&hash)
            && now_s < *until_s
        {
            return Ok(subject.clone());
        }
        let unix = UnixTime::since_unix_epoch(Duration::from_secs(now_s.max(0).unsigned_abs()));
        let verifier = self.verifier.read().clone();
        verifier
            .verify_client_cert(leaf, intermediates, unix)
            .map_err(|error| AuthError::Certificate(error.to_string()))?;
        let (subject, not_after_s) = read(leaf, &hash)?;
        let subject = Arc::new(subject);
        let mut verified = self.verified.lock();
        if verified.len() >= VERIFIED_CERTIFICATES_MAX {
            verified.clear();
        }
        let until_s = (now_s + VERIFIED_CERTIFICATE_S).min(not_after_s);
        verified.insert(hash, (subject.clone(), until_s));
        Ok(subject)
    }
}

fn verifier(pem: &[u8]) -> Result<Arc<dyn ClientCertVerifier>, AuthError> {
    let unusable = |why: String| AuthError::Certificate(format!("the CA bundle cannot be used: {why}"));
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(pem) {
        let cert = cert.map_err(|error| unusable(error.to_string()))?;
        roots.add(cert).map_err(|error| unusable(error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| unusable(error.to_string()))
}

fn read(leaf: &CertificateDer<'_>, hash: &[u8; 32]) -> Result<(Subject, i64), AuthError> {
    let unreadable = |_| AuthError::Certificate("the certificate cannot be read".to_owned());
    let (_, cert) = X509Certificate::from_der(leaf).map_err(unreadable)?;
    let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        attribute.as_str().map(str::to_owned).unwrap_or_default()
    };
    let name = cert.subject();
    let uid = name
        .iter_attributes()
        .find(|attribute| attribute.attr_type().to_id_string() == UID_ATTRIBUTE);
    let subject = Subject {
        // Go keeps the last of several common names.
        common_name: name.iter_common_name().last().map(text).unwrap_or_default(),
        organizations: name.iter_organization().map(text).collect(),
        uid: uid.map(text).unwrap_or_default(),
        sha256: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    Ok((subject, cert.validity().not_after.timestamp()))
}
