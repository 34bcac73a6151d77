//! TLS for servers and clients, with certificates that may be replaced on disk at any time.
//!
//! Invariants: one crypto provider (aws-lc-rs), TLS 1.2 and later; a key is never logged. Files are looked at again
//! during handshakes, at most every `RELOAD_INTERVAL`, so rotation needs no signal, no timer and no restart; a
//! replacement that cannot be loaded leaves the old certificate in use.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};

/// How old a look at the files may be.
const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

/// What keeps TLS from being set up; names the file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {} ({what}): check that the file exists, is PEM and is readable", path.display())]
    Read {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    #[error("{} holds no certificate", path.display())]
    NoCertificate { path: PathBuf },
    #[error("certificate {} and key {} cannot be used together", cert.display(), key.display())]
    KeyPair {
        cert: PathBuf,
        key: PathBuf,
        #[source]
        source: rustls::Error,
    },
    #[error("{} cannot serve as a CA bundle", path.display())]
    Roots {
        path: PathBuf,
        #[source]
        source: rustls::Error,
    },
    #[error("{} cannot verify clients", path.display())]
    Verifier {
        path: PathBuf,
        #[source]
        source: rustls::server::VerifierBuilderError,
    },
    #[error("TLS cannot be configured")]
    Config(#[from] rustls::Error),
}

/// Makes aws-lc-rs the provider of this process; a second call changes nothing.
pub fn install_provider() {
    // An error only says that one is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// The provider itself, for builders that take one.
pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// All certificates of a PEM file.
pub fn load_certs(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = |source| TlsError::Read {
        what: "certificates",
        path: path.to_owned(),
        source,
    };
    let certs: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(read)?
        .collect::<Result<_, _>>()
        .map_err(read)?;
    if certs.is_empty() {
        return Err(TlsError::NoCertificate {
            path: path.to_owned(),
        });
    }
    Ok(certs)
}

/// The first private key of a PEM file (PKCS#8, PKCS#1 or SEC1).
pub fn load_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|source| TlsError::Read {
        what: "private key",
        path: path.to_owned(),
        source,
    })
}

/// A CA bundle.
pub fn load_roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for cert in load_certs(path)? {
        roots.add(cert).map_err(|source| TlsError::Roots {
            path: path.to_owned(),
            source,
        })?;
    }
    Ok(roots)
}

fn load_certified_key(cert: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    CertifiedKey::from_der(load_certs(cert)?, load_key(key)?, &provider()).map_err(|source| {
        TlsError::KeyPair {
            cert: cert.to_owned(),
            key: key.to_owned(),
            source,
        }
    })
}

/// Whether a server asks its clients for certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// A client may show one; one that is shown must be signed by the CA.
    Optional,
    /// A client must show one.
    Required,
}

/// A server's certificate and its clients' CA, as files.
#[derive(Clone, Debug)]
pub struct ServerTls {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub client_ca: Option<(PathBuf, ClientAuth)>,
}

impl ServerTls {
    /// As `config`, with the caller's own judgement of client certificates; `client_ca` is not used.
    pub fn config_with_verifier(
        &self,
        alpn: &[&str],
        verifier: Arc<dyn ClientCertVerifier>,
    ) -> Result<Arc<ServerConfig>, TlsError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(FollowingCert::new(&self.cert, &self.key)?));
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Arc::new(config))
    }

    /// A configuration that follows the files. `alpn` in order of preference, e.g. `&["h2", "http/1.1"]`.
    pub fn config(&self, alpn: &[&str]) -> Result<Arc<ServerConfig>, TlsError> {
        let builder =
            ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some((ca, auth)) => {
                builder.with_client_cert_verifier(Arc::new(FollowingVerifier::new(ca, *auth)?))
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(FollowingCert::new(&self.cert, &self.key)?));
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Arc::new(config))
    }
}

/// A client's side: the CA that signs servers, and optionally its own certificate and key.
pub fn client_config(ca: &Path, own: Option<(&Path, &Path)>) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(load_roots(ca)?);
    match own {
        None => Ok(builder.with_no_client_auth()),
        Some((cert, key)) => {
            let resolver = FollowingCert::new(cert, key)?;
            Ok(builder.with_client_cert_resolver(Arc::new(resolver)))
        }
    }
}

/// A value made from files, made anew when one of them changed.
#[derive(Debug)]
struct Followed<T> {
    files: Vec<PathBuf>,
    /// Guards the value and its age; held while files are read, so one handshake at a time reloads.
    state: Mutex<FollowedState<T>>,
}

#[derive(Debug)]
struct FollowedState<T> {
    value: Arc<T>,
    stamps: Vec<Option<SystemTime>>,
    looked: Instant,
}

impl<T> Followed<T> {
    fn new(files: Vec<PathBuf>, value: T) -> Self {
        let stamps = stamps(&files);
        let state = FollowedState {
            value: Arc::new(value),
            stamps,
            looked: Instant::now(),
        };
        Self {
            files,
            state: Mutex::new(state),
        }
    }

    fn get(&self, load: impl FnOnce() -> Result<T, TlsError>) -> Arc<T> {
        let mut state = self
            .state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if state.looked.elapsed() >= RELOAD_INTERVAL {
            state.looked = Instant::now();
            let now = stamps(&self.files);
            if now != state.stamps {
                match load() {
                    Ok(value) => {
                        state.value = Arc::new(value);
                        state.stamps = now;
                        tracing::info!(files = ?self.files, "certificates reloaded");
                    }
                    Err(error) => {
                        let error = crate::error::chain(&error);
                        tracing::warn!(
                            error,
                            "certificates changed on disk but cannot be used; keeping the old ones"
                        );
                    }
                }
            }
        }
        state.value.clone()
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<SystemTime>> {
    files
        .iter()
        .map(|file| std::fs::metadata(file).and_then(|meta| meta.modified()).ok())
        .collect()
}

#[derive(Debug)]
struct FollowingCert {
    cert: PathBuf,
    key: PathBuf,
    followed: Followed<CertifiedKey>,
}

impl FollowingCert {
    fn new(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let value = load_certified_key(cert, key)?;
        let followed = Followed::new(vec![cert.to_owned(), key.to_owned()], value);
        Ok(Self {
            cert: cert.to_owned(),
            key: key.to_owned(),
            followed,
        })
    }

    fn current(&self) -> Arc<CertifiedKey> {
        self.followed.get(|| load_certified_key(&self.cert, &self.key))
    }
}

impl ResolvesServerCert for FollowingCert {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl rustls::client::ResolvesClientCert for FollowingCert {
    fn resolve(&self, _roots: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct FollowingVerifier {
    ca: PathBuf,
    auth: ClientAuth,
    followed: Followed<Arc<dyn ClientCertVerifier>>,
}

fn load_verifier(ca: &Path, auth: ClientAuth) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(load_roots(ca)?), provider());
    let builder = match auth {
        ClientAuth::Optional => builder.allow_unauthenticated(),
        ClientAuth::Required => builder,
    };
    builder.build().map_err(|source| TlsError::Verifier {
        path: ca.to_owned(),
        source,
    })
}

impl FollowingVerifier {
    fn new(ca: &Path, auth: ClientAuth) -> Result<Self, TlsError> {
        let followed = Followed::new(vec![ca.to_owned()], load_verifier(ca, auth)?);
        Ok(Self {
            ca: ca.to_owned(),
            auth,
            followed,
        })
    }

    fn current(&self) -> Arc<Arc<dyn ClientCertVerifier>> {
        self.followed.get(|| load_verifier(&self.ca, self.auth))
    }
}

impl ClientCertVerifier for FollowingVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.auth == ClientAuth::Required
    }

    /// Hints are optional and would pin the first bundle's names.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.current().verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.current().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.current().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.current().supported_verify_schemes()
    }
}
