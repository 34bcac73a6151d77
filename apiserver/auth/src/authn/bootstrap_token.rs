//! Bootstrap tokens (`ID.SECRET`): Secrets of kube-system that let a new node in, until they expire.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use keelson_machinery::{GroupResource, ObjectReader};
use serde_json::Value;

use super::AuthError;
use super::bearer::{TokenAuthenticator, TokenUser};
use crate::user::{BOOTSTRAPPERS, UserInfo};

/// The type of the Secrets.
pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
/// What their names start with; the token's id follows.
pub const SECRET_NAME_PREFIX: &str = "bootstrap-token-";

const USER_PREFIX: &str = "system:bootstrap:";
const GROUP_PREFIX: &str = "system:bootstrappers:";

/// Accepts the tokens of the cluster's bootstrap Secrets.
pub struct BootstrapToken {
    pub reader: Arc<dyn ObjectReader>,
    pub audiences: Vec<String>,
}

/// `[a-z0-9]{6}` and `[a-z0-9]{16}`.
pub fn split_token(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |part: &str| {
        part.bytes()
            .all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase())
    };
    (id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)).then_some((id, secret))
}

impl TokenAuthenticator for BootstrapToken {
    fn authenticate_token(
        &self,
        token: &str,
        _audiences: &[String],
        now: Timestamp,
    ) -> Result<Option<TokenUser>, AuthError> {
        let Some((id, secret)) = split_token(token) else {
            return Ok(None);
        };
        let name = format!("{SECRET_NAME_PREFIX}{id}");
        let stored = self
            .reader
            .get(&GroupResource::new("", "secrets"), Some("kube-system"), &name);
        let Some(stored) = stored else { return Ok(None) };
        Ok(check(&stored, id, secret, now).map(|user| (Arc::new(user), self.audiences.clone())))
    }
}

fn check(stored: &Value, id: &str, secret: &str, now: Timestamp) -> Option<UserInfo> {
    let data = |key: &str| -> Option<String> {
        let bytes = STANDARD.decode(stored["data"][key].as_str()?).ok()?;
        String::from_utf8(bytes).ok()
    };
    let usable = stored["metadata"]["deletionTimestamp"].is_null()
        && stored["type"] == SECRET_TYPE
        && same(data("token-secret")?.as_bytes(), secret.as_bytes())
        && data("token-id")? == id
        && !expired(data("expiration").as_deref(), now)
        && data("usage-bootstrap-authentication").as_deref() == Some("true");
    let groups = groups(&data("auth-extra-groups").unwrap_or_default())?;
    usable.then(|| UserInfo {
        name: format!("{USER_PREFIX}{id}"),
        groups,
        ..UserInfo::default()
    })
}

/// Compares without telling by its duration where the two differ.
pub(super) fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// A time that cannot be read counts as past.
fn expired(expiration: Option<&str>, now: Timestamp) -> bool {
    match expiration {
        None | Some("") => false,
        Some(text) => text
            .parse::<Timestamp>()
            .map_or(true, |expiration| now > expiration),
    }
}

/// The extra groups and `system:bootstrappers`, sorted; `None` where one is not allowed to be given away by a token.
fn groups(extra: &str) -> Option<Vec<String>> {
    let mut groups = vec![BOOTSTRAPPERS.to_owned()];
    for group in extra.split(',').filter(|group| !group.is_empty()) {
        let rest = group.strip_prefix(GROUP_PREFIX)?;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let inner = rest
            .bytes()
            .all(|byte| plain(byte) || byte == b':' || byte == b'-');
        if rest.len() > 256 || !inner || !rest.bytes().last().is_some_and(plain) {
            return None;
        }
        groups.push(group.to_owned());
    }
    groups.sort_unstable();
    groups.dedup();
    Some(groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keelson_testkit::Objects;
    use serde_json::json;

    fn secret(change: impl FnOnce(&mut Value)) -> Value {
        let mut secret = json!({
            "metadata": {"namespace": "kube-system", "name": "bootstrap-token-abcdef"},
            "type": SECRET_TYPE,
            "stringData": {
                "token-id": "abcdef", "token-secret": "0123456789abcdef",
                "expiration": "2030-01-01T00:00:00Z", "usage-bootstrap-authentication": "true",
                "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
            },
        });
        change(&mut secret);
        let data: Vec<(String, String)> = secret["stringData"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(key, value)| (key.clone(), STANDARD.encode(value.as_str().unwrap())))
            .collect();
        for (key, value) in data {
            secret["data"][key] = value.into();
        }
        secret
    }

    fn ask(secret: Value, token: &str) -> Option<Arc<UserInfo>> {
        let authenticator = BootstrapToken {
            reader: Arc::new(Objects::new([("", "secrets", secret)])),
            audiences: Vec::new(),
        };
        let now = "2029-12-31T23:59:59Z".parse().unwrap();
        let user = authenticator.authenticate_token(token, &[], now).unwrap();
        user.map(|(user, _)| user)
    }

    const TOKEN: &str = "abcdef.0123456789abcdef";

    #[test]
    fn a_good_token_is_a_bootstrapper() {
        let user = ask(secret(|_| ()), TOKEN).unwrap();
        assert_eq!(user.name, "system:bootstrap:abcdef");
        assert_eq!(
            user.groups,
            [
                "system:bootstrappers",
                "system:bootstrappers:kubeadm:default-node-token"
            ]
        );
    }

    #[test]
    fn anything_else_is_nobody() {
        let set = |key: &'static str, value: &'static str| {
            secret(move |secret| secret["stringData"][key] = value.into())
        };
        for (what, secret, token) in [
            ("wrong secret", secret(|_| ()), "abcdef.0123456789abcdeg"),
            ("other id", secret(|_| ()), "abcdeg.0123456789abcdef"),
            ("malformed", secret(|_| ()), "ABCDEF.0123456789abcdef"),
            ("expired", set("expiration", "2029-12-31T00:00:00Z"), TOKEN),
            ("unreadable expiry", set("expiration", "tomorrow"), TOKEN),
            (
                "other usage",
                set("usage-bootstrap-authentication", "false"),
                TOKEN,
            ),
            (
                "a group not its own",
                set("auth-extra-groups", "system:masters"),
                TOKEN,
            ),
            (
                "other type",
                secret(|secret| secret["type"] = "Opaque".into()),
                TOKEN,
            ),
            (
                "deleted",
                secret(|secret| secret["metadata"]["deletionTimestamp"] = "2029-01-01T00:00:00Z".into()),
                TOKEN,
            ),
        ] {
            assert_eq!(ask(secret, token), None, "{what}");
        }
    }
}
