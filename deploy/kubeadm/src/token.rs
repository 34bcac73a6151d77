//! Bootstrap tokens: their form, the Secrets that hold them, and the `token` commands.

use anyhow::{Context, bail};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, ListParams};
use rand::Rng;
use serde_json::{Value, json};

use crate::certs::short_duration;
use crate::objects::{self, NODE_TOKEN_GROUP};

const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;
/// The Secrets' type.
pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";

/// `abcdef.0123456789abcdef`: a public id and a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    pub id: String,
    pub secret: String,
}

/// Shows the id only: the secret must not reach a log.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token({}.…)", self.id)
    }
}

impl std::str::FromStr for Token {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let well = |part: &str, length| {
            part.len() == length
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        match text.split_once('.') {
            Some((id, secret)) if well(id, ID_LENGTH) && well(secret, SECRET_LENGTH) => Ok(Self {
                id: id.to_owned(),
                secret: secret.to_owned(),
            }),
            _ => bail!("the bootstrap token is not of the form \"\\A([a-z0-9]{{6}})\\.([a-z0-9]{{16}})\\z\""),
        }
    }
}

impl Token {
    /// A new token from the system's randomness.
    pub fn generate() -> Self {
        let mut random = rand::rng();
        let mut part = |length: usize| -> String {
            (0..length)
                .map(|_| char::from(b"abcdefghijklmnopqrstuvwxyz0123456789"[random.random_range(0..36)]))
                .collect()
        };
        Self {
            id: part(ID_LENGTH),
            secret: part(SECRET_LENGTH),
        }
    }

    /// The whole token. Only for the person who asked and for authentication.
    pub fn reveal(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }

    /// The Secret's name.
    pub fn secret_name(&self) -> String {
        format!("bootstrap-token-{}", self.id)
    }
}

/// What a token may be used for, and until when.
#[derive(Clone, Debug)]
pub struct Terms {
    /// `None`: for ever.
    pub ttl: Option<SignedDuration>,
    pub usages: Vec<String>,
    pub groups: Vec<String>,
    pub description: String,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            ttl: Some(SignedDuration::from_hours(24)),
            usages: vec!["signing".to_owned(), "authentication".to_owned()],
            groups: vec![NODE_TOKEN_GROUP.to_owned()],
            description: String::new(),
        }
    }
}

/// The Secret that makes the cluster accept a token.
pub fn secret_object(token: &Token, terms: &Terms, now: Timestamp) -> Value {
    let mut data = json!({
        "token-id": token.id, "token-secret": token.secret, "auth-extra-groups": terms.groups.join(","),
    });
    for usage in &terms.usages {
        data[format!("usage-bootstrap-{usage}")] = "true".into();
    }
    if !terms.description.is_empty() {
        data["description"] = terms.description.as_str().into();
    }
    if let Some(ttl) = terms.ttl {
        let expires = now.saturating_add(ttl).unwrap_or(Timestamp::MAX);
        data["expiration"] = expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into();
    }
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": SECRET_TYPE,
        "metadata": {"name": token.secret_name(), "namespace": "kube-system"}, "stringData": data,
    })
}

/// Stores a token.
pub async fn create(client: &kube::Client, token: &Token, terms: &Terms) -> anyhow::Result<()> {
    let api: Api<Secret> = Api::namespaced(client.clone(), "kube-system");
    if api
        .get_opt(&token.secret_name())
        .await
        .context("look for the token")?
        .is_some()
    {
        bail!("a token with id {:?} already exists", token.id);
    }
    objects::ensure(client, &secret_object(token, terms, Timestamp::now())).await
}

/// Removes tokens named by id or whole.
pub async fn delete(client: &kube::Client, names: &[String]) -> anyhow::Result<()> {
    let api: Api<Secret> = Api::namespaced(client.clone(), "kube-system");
    for name in names {
        let id = name.split('.').next().unwrap_or(name);
        if id.len() != ID_LENGTH {
            bail!(
                "given token didn't match pattern \"\\A([a-z0-9]{{6}})\\z\" or \"\\A([a-z0-9]{{6}})\\.([a-z0-9]{{16}})\\z\""
            );
        }
        let deleted = api
            .delete(&format!("bootstrap-token-{id}"), &DeleteParams::default())
            .await;
        deleted.with_context(|| format!("failed to delete bootstrap token {id:?}"))?;
        println!("bootstrap token {id:?} deleted");
    }
    Ok(())
}

/// Whether the usages and groups are such as the server's authenticator takes.
pub fn check(terms: &Terms) -> anyhow::Result<()> {
    for usage in &terms.usages {
        if !matches!(usage.as_str(), "signing" | "authentication") {
            bail!(
                "invalid bootstrap token usage string: {usage:?}, valid usage options: signing,authentication"
            );
        }
    }
    let authenticates = terms.usages.iter().any(|usage| usage == "authentication");
    if !terms.groups.is_empty() && !authenticates {
        bail!("token groups cannot be specified unless --usages includes \"authentication\"");
    }
    for group in &terms.groups {
        let rest = group.strip_prefix("system:bootstrappers:").unwrap_or_default();
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let well = rest
            .bytes()
            .all(|byte| inner(byte) || matches!(byte, b':' | b'-'))
            && rest.bytes().next_back().is_some_and(inner);
        if !well {
            bail!(
                "bootstrap group {group:?} is invalid (must match \\Asystem:bootstrappers:[a-z0-9:-]{{0,255}}[a-z0-9]\\z)"
            );
        }
    }
    Ok(())
}

/// A token as the cluster holds it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored {
    token: String,
    description: String,
    /// As written in the Secret; none: for ever.
    expires: Option<String>,
    usages: Vec<String>,
    groups: Vec<String>,
}

/// Every bootstrap token, by id.
pub async fn list(client: &kube::Client) -> anyhow::Result<Vec<Stored>> {
    let api: Api<Secret> = Api::namespaced(client.clone(), "kube-system");
    let secrets = api
        .list(&ListParams::default().fields(&format!("type={SECRET_TYPE}")))
        .await
        .context("failed to list bootstrap tokens")?;
    let mut tokens: Vec<Stored> = secrets.items.iter().map(stored).collect();
    tokens.sort_by(|one, other| one.token.cmp(&other.token));
    Ok(tokens)
}

fn stored(secret: &Secret) -> Stored {
    let text = |key: &str| {
        let value = secret.data.as_ref()?.get(key)?;
        Some(String::from_utf8_lossy(&value.0).into_owned())
    };
    let is_for = |usage: &&str| text(&format!("usage-bootstrap-{usage}")).as_deref() == Some("true");
    let groups = text("auth-extra-groups").unwrap_or_default();
    Stored {
        token: format!(
            "{}.{}",
            text("token-id").unwrap_or_default(),
            text("token-secret").unwrap_or_default()
        ),
        description: text("description").unwrap_or_default(),
        expires: text("expiration"),
        usages: ["authentication", "signing"]
            .iter()
            .filter(|usage| is_for(usage))
            .map(|&usage| usage.to_owned())
            .collect(),
        groups: groups
            .split(',')
            .filter(|group| !group.is_empty())
            .map(str::to_owned)
            .collect(),
    }
}

/// The table that `token list` prints.
pub fn render_table(tokens: &[Stored], now: Timestamp) -> String {
    let mut rows =
        vec![["TOKEN", "TTL", "EXPIRES", "USAGES", "DESCRIPTION", "EXTRA GROUPS"].map(str::to_owned)];
    rows.extend(tokens.iter().map(|token| row(token, now)));
    table(&rows)
}

fn row(token: &Stored, now: Timestamp) -> [String; 6] {
    let expires = token
        .expires
        .as_ref()
        .and_then(|time| time.parse::<Timestamp>().ok());
    let left = expires.map_or_else(
        || "<forever>".to_owned(),
        |time| short_duration(time.duration_since(now)),
    );
    let or = |text: String, default: &str| if text.is_empty() { default.to_owned() } else { text };
    [
        token.token.clone(),
        left,
        or(token.expires.clone().unwrap_or_default(), "<never>"),
        or(token.usages.join(","), "<none>"),
        or(token.description.clone(), "<none>"),
        or(token.groups.join(","), "<none>"),
    ]
}

/// The form of `token list -o json`.
pub fn described(token: &Stored) -> Value {
    let mut value = json!({
        "kind": "BootstrapToken", "apiVersion": "output.kubeadm.k8s.io/v1alpha3",
        "token": token.token, "usages": token.usages, "groups": token.groups,
    });
    if !token.description.is_empty() {
        value["description"] = token.description.as_str().into();
    }
    if let Some(expires) = &token.expires {
        value["expires"] = expires.as_str().into();
    }
    value
}

/// The narrowest column of a table, without the space after it.
const COLUMN_MIN: usize = 9;

/// Columns aligned by three spaces, as upstream does.
pub fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].len())
            .max()
            .unwrap_or(0)
            .max(COLUMN_MIN)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        format!("{}\n", cells.join("   ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_parse_and_hide() {
        let token = Token::generate();
        assert_eq!(token.reveal().parse::<Token>().unwrap(), token);
        assert!(!format!("{token:?}").contains(&token.secret));
        for wrong in [
            "abcdef",
            "abcdef.0123",
            "ABCDEF.0123456789abcdef",
            "abcdef.0123456789abcdeg!",
        ] {
            assert!(wrong.parse::<Token>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_secret_says_when_it_ends() {
        let token: Token = "abcdef.0123456789abcdef".parse().unwrap();
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let secret = secret_object(&token, &Terms::default(), now);
        assert_eq!(secret["stringData"]["expiration"], "2026-01-02T00:00:00Z");
        assert_eq!(secret["stringData"]["usage-bootstrap-signing"], "true");
        let forever = secret_object(
            &token,
            &Terms {
                ttl: None,
                ..Terms::default()
            },
            now,
        );
        assert!(forever["stringData"]["expiration"].is_null());
    }

    #[test]
    fn the_table_reads_as_upstreams() {
        let token: Token = "abcdef.0123456789abcdef".parse().unwrap();
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut secret = secret_object(&token, &Terms::default(), now);
        // What the server makes of stringData.
        let data = secret["stringData"].take();
        let encoded: serde_json::Map<String, Value> = data
            .as_object()
            .unwrap()
            .iter()
            .map(|(key, value)| {
                use base64::Engine;
                let text = base64::engine::general_purpose::STANDARD.encode(value.as_str().unwrap());
                (key.clone(), text.into())
            })
            .collect();
        secret["data"] = encoded.into();
        let one = stored(&serde_json::from_value(secret).unwrap());
        let forever = Stored {
            expires: None,
            groups: vec![],
            ..one.clone()
        };
        let shown = render_table(&[one, forever], "2026-01-01T00:00:01Z".parse().unwrap());
        assert_eq!(
            shown,
            "TOKEN                     TTL         EXPIRES                USAGES                   DESCRIPTION   EXTRA GROUPS\n\
             abcdef.0123456789abcdef   23h         2026-01-02T00:00:00Z   authentication,signing   <none>        system:bootstrappers:kubeadm:default-node-token\n\
             abcdef.0123456789abcdef   <forever>   <never>                authentication,signing   <none>        <none>\n"
        );
    }

    #[test]
    fn terms_the_server_would_not_take_are_refused() {
        let refused = |usages: &[&str], groups: &[&str]| {
            let own = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
            check(&Terms {
                usages: own(usages),
                groups: own(groups),
                ..Terms::default()
            })
            .is_err()
        };
        assert!(!refused(&["signing", "authentication"], &[NODE_TOKEN_GROUP]));
        assert!(refused(&["sign"], &[]));
        assert!(refused(&["signing"], &[NODE_TOKEN_GROUP]));
        assert!(refused(&["authentication"], &["system:masters"]));
        assert!(refused(&["authentication"], &["system:bootstrappers:"]));
    }
}
