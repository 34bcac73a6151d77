//! Bootstrap tokens: signing cluster-info with them, and removing them when they expire.
//!
//! cluster-info (kube-public) holds the kubeconfig a joining machine starts from. For each token that may sign there
//! is a key `jws-kubeconfig-ID` with a detached JWS (HS256) over it, so that whoever knows a token can check that the
//! content comes from the cluster. Secrets are watched only where and as tokens live; their values are never logged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use keelson_client::{Informer, Key};
use keelson_controller::{Action, Controller, Failure, Plan, Queue};
use kube::Api;
use kube::runtime::watcher;
use sha2::{Digest, Sha256};

use crate::context::Context;
use crate::triggers;

const SIGNER: &str = "bootstrap-signer-controller";
const CLEANER: &str = "token-cleaner-controller";
const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
const PUBLIC: &str = "kube-public";
const CLUSTER_INFO: &str = "cluster-info";
const KUBECONFIG: &str = "kubeconfig";
const SIGNATURE_PREFIX: &str = "jws-kubeconfig-";
const NAME_PREFIX: &str = "bootstrap-token-";

/// Starts the signer.
pub fn start_signer(context: &Context) {
    let maps: Api<ConfigMap> = Api::namespaced(context.watch_client(), PUBLIC);
    let named = watcher::Config::default().fields(&format!("metadata.name={CLUSTER_INFO}"));
    let maps = context.filtered(maps, named);
    let tokens = token_secrets(context);
    let queue = Queue::default();
    triggers::on_self(&maps, &queue);
    let changed = queue.clone();
    tokens.on(move |_| changed.add(Key::new(PUBLIC, CLUSTER_INFO)));
    context.run(Arc::new(Signer { maps, tokens }), queue, SIGNER, 1);
}

/// Starts the cleaner.
pub fn start_cleaner(context: &Context) {
    let tokens = token_secrets(context);
    let queue = Queue::default();
    triggers::on_self(&tokens, &queue);
    context.run(Arc::new(Cleaner { tokens }), queue, CLEANER, 1);
}

fn token_secrets(context: &Context) -> Informer<Secret> {
    let secrets: Api<Secret> = Api::namespaced(context.watch_client(), "kube-system");
    context.filtered(
        secrets,
        watcher::Config::default().fields(&format!("type={SECRET_TYPE}")),
    )
}

struct Signer {
    maps: Informer<ConfigMap>,
    tokens: Informer<Secret>,
}

impl Controller for Signer {
    fn name(&self) -> &'static str {
        SIGNER
    }

    fn plan(&self, key: &Key, now: Timestamp, _: Option<&Failure>) -> Plan {
        match self.maps.get_key(key) {
            Some(map) => sign(&map, &self.tokens.list(), now),
            None => Plan::nothing(),
        }
    }
}

struct Cleaner {
    tokens: Informer<Secret>,
}

impl Controller for Cleaner {
    fn name(&self) -> &'static str {
        CLEANER
    }

    fn plan(&self, key: &Key, now: Timestamp, _: Option<&Failure>) -> Plan {
        match self.tokens.get_key(key) {
            Some(secret) => clean(&secret, now),
            None => Plan::nothing(),
        }
    }
}

/// A text value of a secret.
fn value(secret: &Secret, key: &str) -> Option<String> {
    String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok()
}

/// When a token expires; `None` when it does not, `Some(past)` when its date cannot be read.
fn expires_s(secret: &Secret) -> Option<i64> {
    let text = value(secret, "expiration").filter(|text| !text.is_empty())?;
    Some(text.parse::<Timestamp>().map_or(i64::MIN, |t| t.as_second()))
}

/// Token id and secret, of a token that is whole, not expired, and meant for signing.
fn signing_token(secret: &Secret, now: Timestamp) -> Option<(String, String)> {
    let id = value(secret, "token-id")?;
    let key = value(secret, "token-secret").filter(|key| !key.is_empty())?;
    let named = secret.metadata.name.as_deref()?.strip_prefix(NAME_PREFIX) == Some(id.as_str());
    let expired = expires_s(secret).is_some_and(|s| s <= now.as_second());
    let signs = value(secret, "usage-bootstrap-signing").as_deref() == Some("true");
    let live = secret.metadata.deletion_timestamp.is_none();
    (named && !expired && signs && live).then_some((id, key))
}

fn sign(map: &ConfigMap, tokens: &[Arc<Secret>], now: Timestamp) -> Plan {
    let mut data: BTreeMap<String, String> = map.data.clone().unwrap_or_default();
    data.retain(|key, _| !key.starts_with(SIGNATURE_PREFIX));
    let Some(content) = data.get(KUBECONFIG).cloned() else {
        return Plan::waiting("cluster-info has no kubeconfig");
    };
    for (id, key) in tokens.iter().filter_map(|secret| signing_token(secret, now)) {
        data.insert(
            format!("{SIGNATURE_PREFIX}{id}"),
            detached_jws(&content, &id, &key),
        );
    }
    if Some(&data) == map.data.as_ref() {
        return Plan::nothing();
    }
    let mut updated = map.clone();
    updated.data = Some(data);
    Plan::of(vec![Action::update(&updated)])
}

fn clean(secret: &Secret, now: Timestamp) -> Plan {
    match expires_s(secret) {
        None => Plan::nothing(),
        Some(expires) if expires <= now.as_second() => Plan::of(vec![Action::delete(secret)]),
        Some(expires) => {
            let mut plan = Plan::nothing();
            plan.again_after(Duration::from_secs((expires - now.as_second()).unsigned_abs()));
            plan
        }
    }
}

/// `header..signature`: a JWS (RFC 7515, HS256) without its content.
fn detached_jws(content: &str, id: &str, key: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"HS256","kid":"{id}"}}"#));
    let payload = URL_SAFE_NO_PAD.encode(content);
    let signature = hmac_sha256(key.as_bytes(), format!("{header}.{payload}").as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(signature))
}

/// RFC 2104 over SHA-256.
fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0_u8; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new()
        .chain_update(block.map(|b| b ^ 0x36))
        .chain_update(message)
        .finalize();
    let outer = Sha256::new()
        .chain_update(block.map(|b| b ^ 0x5c))
        .chain_update(inner);
    outer.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;
    use keelson_controller::Verb;

    fn token(id: &str, expiration: &str) -> Arc<Secret> {
        let mut secret = Secret::default();
        secret.metadata.name = Some(format!("{NAME_PREFIX}{id}"));
        let pairs = [
            ("token-id", id),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-signing", "true"),
            ("expiration", expiration),
        ];
        let data = pairs.map(|(k, v)| (k.to_owned(), ByteString(v.as_bytes().to_vec())));
        secret.data = Some(data.into());
        Arc::new(secret)
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_mac_is_rfc_4231s() {
        let mac = hmac_sha256(b"Jefe", b"what do ya want for nothing?");
        let hex: String = mac.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn each_live_token_signs() {
        let mut map = ConfigMap::default();
        let stale = format!("{SIGNATURE_PREFIX}gone00");
        map.data = Some(
            [
                (KUBECONFIG.to_owned(), "content".to_owned()),
                (stale.clone(), "x".to_owned()),
            ]
            .into(),
        );
        let tokens = [
            token("abcdef", "2030-01-01T00:00:00Z"),
            token("expire", "2020-01-01T00:00:00Z"),
        ];
        let plan = sign(&map, &tokens, at("2026-01-01T00:00:00Z"));
        let signed: ConfigMap = serde_json::from_value(plan.actions[0].body.clone()).unwrap();
        let keys: Vec<&str> = signed.data.as_ref().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["jws-kubeconfig-abcdef", "kubeconfig"]);
        let jws = &signed.data.as_ref().unwrap()["jws-kubeconfig-abcdef"];
        let header = URL_SAFE_NO_PAD.decode(jws.split("..").next().unwrap()).unwrap();
        assert_eq!(header, br#"{"alg":"HS256","kid":"abcdef"}"#);
        assert!(
            sign(&signed, &tokens, at("2026-01-01T00:00:00Z"))
                .actions
                .is_empty()
        );
    }

    #[test]
    fn expired_tokens_go() {
        let token = token("abcdef", "2026-01-01T00:01:00Z");
        let plan = clean(&token, at("2026-01-01T00:00:00Z"));
        assert_eq!(plan.retry_after, Some(Duration::from_secs(60)));
        assert_eq!(
            clean(&token, at("2026-01-01T00:01:00Z")).actions[0].verb,
            Verb::Delete
        );
    }
}
