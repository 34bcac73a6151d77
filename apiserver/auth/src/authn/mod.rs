//! Authentication: from a request's credentials to a [`UserInfo`].
//!
//! One file per kind of credential, each an [`Authenticator`]. An authenticator that finds none of its credentials
//! answers `Ok(None)`; one that finds some and refuses them answers an error, which the union keeps and reports only
//! when no other authenticator knows the request.

pub mod bearer;
pub mod bootstrap_token;
pub mod client_ca;
pub mod request_header;
pub mod service_account;
pub mod token_file;
pub mod union;
pub mod x509;

use std::sync::Arc;

use http::HeaderMap;
use rustls_pki_types::CertificateDer;

use crate::user::UserInfo;

/// What a request brings to prove who it is from.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    /// The certificates the client showed and proved the key of, leaf first. They need not be verified further by TLS: the
    /// authenticators check the chain against the CA they trust for their purpose.
    pub client_certificates: &'a [CertificateDer<'static>],
    /// All request headers. After authentication the server removes `Authorization` and the front proxy's headers
    /// before it hands a request on ([`request_header::RequestHeader::strip`]).
    pub headers: &'a HeaderMap,
}

/// Credentials that were found and refused. Clients only see 401 Unauthorized: the text is for the log, and holds no
/// part of a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("x509: {0}")]
    Certificate(String),
    #[error("invalid bearer token: {0}")]
    Token(String),
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Several(Vec<AuthError>),
}

/// One way to tell who a request is from.
pub trait Authenticator: Send + Sync {
    /// `now` is the time validity is judged at.
    ///
    /// # Errors
    /// Credentials of this kind are present and not valid.
    fn authenticate(
        &self,
        credentials: &Credentials<'_>,
        now: jiff::Timestamp,
    ) -> Result<Option<Arc<UserInfo>>, AuthError>;
}
