//! Bearer tokens: found in the `Authorization` header, or in a WebSocket's subprotocols, where browsers can put no header.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use jiff::Timestamp;

use super::{AuthError, Authenticator, Credentials};
use crate::limits::TOKEN_BYTES_MAX;
use crate::user::UserInfo;

/// What a WebSocket subprotocol that carries a token starts with.
pub const WEBSOCKET_TOKEN_PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// A token's user, and the audiences of those asked for that it is valid for.
pub type TokenUser = (Arc<UserInfo>, Vec<String>);

/// One kind of bearer token.
pub trait TokenAuthenticator: Send + Sync {
    /// `None` where the token is of another kind.
    ///
    /// # Errors
    /// The token is of this kind and not valid.
    fn authenticate_token(
        &self,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<Option<TokenUser>, AuthError>;
}

/// All kinds of tokens this server knows, in order.
pub struct Bearer {
    pub kinds: Vec<Arc<dyn TokenAuthenticator>>,
    /// `--api-audiences`: whom a token must be for to count here.
    pub audiences: Vec<String>,
}

impl Bearer {
    /// Asks each kind in turn: for requests, and for TokenReviews with the audiences they name.
    ///
    /// # Errors
    /// No kind takes the token, and at least one says it is its own and not valid.
    pub fn review(
        &self,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<Option<TokenUser>, AuthError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::Token(format!("longer than {TOKEN_BYTES_MAX} bytes")));
        }
        let mut errors = Vec::new();
        for kind in &self.kinds {
            match kind.authenticate_token(token, audiences, now) {
                Ok(Some(user)) => return Ok(Some(user)),
                Ok(None) => {}
                Err(error) => errors.push(error),
            }
        }
        match errors.len() {
            0 => Ok(None),
            1 => Err(errors.remove(0)),
            _ => Err(AuthError::Several(errors)),
        }
    }
}

/// The bearer token of a request.
pub fn token_of(headers: &HeaderMap) -> Option<String> {
    if let Some(value) = headers.get(http::header::AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.trim().split_once(' ')?;
        let token = token.trim();
        return (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned());
    }
    let protocols = headers.get_all(http::header::SEC_WEBSOCKET_PROTOCOL);
    let mut protocols = protocols
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    let encoded = protocols.find_map(|protocol| protocol.trim().strip_prefix(WEBSOCKET_TOKEN_PREFIX))?;
    let token = String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()?;
    (!token.is_empty()).then_some(token)
}

impl Authenticator for Bearer {
    fn authenticate(
        &self,
        given: &Credentials<'_>,
        now: Timestamp,
    ) -> Result<Option<Arc<UserInfo>>, AuthError> {
        let Some(token) = token_of(given.headers) else {
            return Ok(None);
        };
        match self.review(&token, &self.audiences, now)? {
            Some((user, _)) => Ok(Some(user)),
            None => Err(AuthError::Token("no authenticator knows it".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_in_both_places() {
        for (name, value, token) in [
            ("authorization", "Bearer abc", Some("abc")),
            ("authorization", "bearer  abc", Some("abc")),
            ("authorization", "Basic abc", None),
            ("authorization", "Bearer", None),
            ("authorization", "Bearer ", None),
            (
                "sec-websocket-protocol",
                "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.YWJj",
                Some("abc"),
            ),
            (
                "sec-websocket-protocol",
                "base64url.bearer.authorization.k8s.io.*",
                None,
            ),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            assert_eq!(token_of(&headers).as_deref(), token, "{name}: {value}");
        }
    }
}
