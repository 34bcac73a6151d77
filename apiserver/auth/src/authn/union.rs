//! All authenticators in upstream's order, then the anonymous user.
//!
//! The table: front proxy, client certificates, tokens (static file, service accounts, bootstrap). Webhook and OIDC authentication wait on the network:
//! they belong after the bootstrap tokens and are asked by the server when this union does not know a token.

use std::sync::Arc;

use jiff::Timestamp;

use super::{AuthError, Authenticator, Credentials};
use crate::user::{ALL_AUTHENTICATED, ALL_UNAUTHENTICATED, ANONYMOUS, UserInfo};

/// Asks each in turn; who is known is in `system:authenticated`.
pub struct Union {
    pub authenticators: Vec<Arc<dyn Authenticator>>,
    /// `--anonymous-auth`: a request without credentials is from `system:anonymous`. Refused credentials never are.
    pub anonymous: bool,
}

impl Authenticator for Union {
    fn authenticate(
        &self,
        given: &Credentials<'_>,
        now: Timestamp,
    ) -> Result<Option<Arc<UserInfo>>, AuthError> {
        let mut errors = Vec::new();
        for authenticator in &self.authenticators {
            match authenticator.authenticate(given, now) {
                Ok(Some(user)) => return Ok(Some(with_group(user))),
                Ok(None) => {}
                Err(error) => errors.push(error),
            }
        }
        match errors.len() {
            0 if self.anonymous => Ok(Some(Arc::new(UserInfo::anonymous()))),
            0 => Ok(None),
            1 => Err(errors.remove(0)),
            _ => Err(AuthError::Several(errors)),
        }
    }
}

fn with_group(user: Arc<UserInfo>) -> Arc<UserInfo> {
    let complete =
        user.in_group(ALL_AUTHENTICATED) || user.in_group(ALL_UNAUTHENTICATED) || user.name == ANONYMOUS;
    if complete {
        return user;
    }
    let mut user = Arc::unwrap_or_clone(user);
    user.groups.push(ALL_AUTHENTICATED.to_owned());
    Arc::new(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(Result<Option<Arc<UserInfo>>, AuthError>);

    impl Authenticator for Fixed {
        fn authenticate(
            &self,
            _: &Credentials<'_>,
            _: Timestamp,
        ) -> Result<Option<Arc<UserInfo>>, AuthError> {
            self.0.clone()
        }
    }

    #[test]
    fn refused_credentials_are_not_anonymous() {
        let error = Err(AuthError::Token("bad".to_owned()));
        let ann = Ok(Some(Arc::new(UserInfo::new("ann", &["dev"]))));
        let headers = http::HeaderMap::new();
        let given = Credentials {
            client_certificates: &[],
            headers: &headers,
        };
        for (answers, anonymous, wanted) in [
            (vec![Ok(None)], true, Ok(Some(ANONYMOUS))),
            (vec![Ok(None)], false, Ok(None)),
            (vec![error.clone(), Ok(None)], true, Err(())),
            (vec![error, ann], true, Ok(Some("ann"))),
        ] {
            let authenticators = answers
                .into_iter()
                .map(|answer| Arc::new(Fixed(answer)) as Arc<dyn Authenticator>);
            let union = Union {
                authenticators: authenticators.collect(),
                anonymous,
            };
            let user = union.authenticate(&given, Timestamp::UNIX_EPOCH);
            let name = user
                .as_ref()
                .map(|user| user.as_ref().map(|user| user.name.as_str()))
                .map_err(|_| ());
            assert_eq!(name, wanted);
            if name == Ok(Some("ann")) {
                assert_eq!(user.unwrap().unwrap().groups, ["dev", "system:authenticated"]);
            }
        }
    }
}
