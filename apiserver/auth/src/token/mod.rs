//! Service account tokens (KEP-1205): JSON Web Tokens bound to a service account and, mostly, to a pod.
//!
//! [`Issuer`] signs, [`Verifier`] checks signature, times and audiences and that the objects a token is bound to still
//! exist, [`discovery`] publishes the keys (OpenID Connect discovery). Tokens without expiry, kept in Secrets, are not made
//! here; a Secret of that type is never a credential.

pub mod claims;
pub mod discovery;
pub mod issuer;
pub mod keys;
pub mod verifier;

pub use claims::{Binding, Claims, Reference};
pub use issuer::Issuer;
pub use keys::{KeyError, PublicKey};
pub use verifier::Verifier;

/// The server's own audience where none is configured: clients in pods ask for it under this name.
pub const DEFAULT_ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
