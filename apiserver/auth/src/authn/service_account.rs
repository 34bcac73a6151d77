//! Service account tokens as bearer tokens.

use std::sync::Arc;

use jiff::Timestamp;

use super::AuthError;
use super::bearer::{TokenAuthenticator, TokenUser};
use crate::token::Verifier;

/// Tokens that [`Verifier`] accepts.
pub struct ServiceAccount(pub Arc<Verifier>);

impl TokenAuthenticator for ServiceAccount {
    fn authenticate_token(
        &self,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<Option<TokenUser>, AuthError> {
        let verified = self.0.verify(token, audiences, now).map_err(AuthError::Token)?;
        Ok(verified.map(|(user, audiences)| (Arc::new(user), audiences)))
    }
}
