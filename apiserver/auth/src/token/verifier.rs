//! Checks tokens: signature once, times and the bound objects at every request.
//!
//! A verified signature stays verified, so the claims of recent tokens are kept by the token's hash; expiry, deletion and uid changes are
//! still seen at once because they are compared on every use.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use keelson_machinery::{GroupResource, ObjectReader};
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::claims::{Claims, Reference};
use super::keys::PublicKey;
use crate::limits::VERIFIED_TOKENS_MAX;
use crate::user::{
    EXTRA_CREDENTIAL_ID, EXTRA_NODE_NAME, EXTRA_NODE_UID, EXTRA_POD_NAME, EXTRA_POD_UID, UserInfo,
    service_account_groups, service_account_user,
};

/// How long an object may be marked deleted before its tokens stop counting, and clocks may differ.
const LEEWAY_S: i64 = 60;

/// Verifies the tokens of some issuers.
pub struct Verifier {
    /// The first is the one new tokens carry.
    issuers: Vec<String>,
    keys: RwLock<Arc<[PublicKey]>>,
    reader: Arc<dyn ObjectReader>,
    /// Claims of tokens whose signature was verified, by the token's SHA-256. Bounded by `VERIFIED_TOKENS_MAX`.
    verified: Mutex<HashMap<[u8; 32], Arc<Claims>>>,
}

impl Verifier {
    pub fn new(issuers: Vec<String>, keys: Vec<PublicKey>, reader: Arc<dyn ObjectReader>) -> Self {
        Self {
            issuers,
            keys: RwLock::new(keys.into()),
            reader,
            verified: Mutex::new(HashMap::new()),
        }
    }

    /// Takes other keys; tokens of the old ones are verified anew.
    pub fn replace_keys(&self, keys: Vec<PublicKey>) {
        *self.keys.write() = keys.into();
        self.verified.lock().clear();
    }

    pub fn keys(&self) -> Arc<[PublicKey]> {
        self.keys.read().clone()
    }

    pub fn issuers(&self) -> &[String] {
        &self.issuers
    }

    /// The user of the token and which of `audiences` it is for; `None` where it is no token of these issuers.
    ///
    /// # Errors
    /// Why a token of these issuers is not valid.
    pub fn verify(
        &self,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<Option<(UserInfo, Vec<String>)>, String> {
        let Some(claims) = self.claims(token)? else {
            return Ok(None);
        };
        let accepted: Vec<String> = claims
            .audiences
            .iter()
            .filter(|audience| audiences.contains(audience))
            .cloned()
            .collect();
        if accepted.is_empty() {
            return Err(format!(
                "token audiences {:?} is invalid for the target audiences {audiences:?}",
                claims.audiences
            ));
        }
        check_times(&claims, now)?;
        self.check_objects(&claims, now)?;
        Ok(Some((user_of(&claims), accepted)))
    }

    fn claims(&self, token: &str) -> Result<Option<Arc<Claims>>, String> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        if let Some(claims) = self.verified.lock().get(&hash) {
            return Ok(Some(claims.clone()));
        }
        let Some((signed, header, payload, signature)) = split(token) else {
            return Ok(None);
        };
        // Others' tokens are told by the issuer before any signature is looked at.
        if !payload["iss"]
            .as_str()
            .is_some_and(|issuer| self.issuers.iter().any(|own| own == issuer))
        {
            return Ok(None);
        }
        self.check_signature(signed, &header, signature)?;
        let claims = Claims::from_value(&payload).ok_or("the token is no bound service account token")?;
        let claims = Arc::new(claims);
        let mut verified = self.verified.lock();
        if verified.len() >= VERIFIED_TOKENS_MAX {
            verified.clear();
        }
        verified.insert(hash, claims.clone());
        Ok(Some(claims))
    }

    fn check_signature(&self, signed: &str, header: &Value, signature: &str) -> Result<(), String> {
        let keys = self.keys();
        let id = header["kid"].as_str().unwrap_or("");
        let named = keys.iter().filter(|key| key.id == id);
        let rest = keys.iter().filter(|key| key.id != id);
        for key in named.chain(rest) {
            // The key decides the algorithm; what the header says is only compared.
            let algorithm = format!("{:?}", key.algorithm);
            if header["alg"] != algorithm.as_str() {
                continue;
            }
            let verdict =
                jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &key.decoding, key.algorithm);
            if verdict == Ok(true) {
                return Ok(());
            }
        }
        Err("no key verifies the token's signature".to_owned())
    }

    fn check_objects(&self, claims: &Claims, now: Timestamp) -> Result<(), String> {
        let namespace = Some(claims.namespace.as_str());
        let binding = &claims.binding;
        self.check_object("serviceaccounts", namespace, &claims.service_account, now)?;
        if let Some(secret) = &binding.secret {
            self.check_object("secrets", namespace, secret, now)?;
        }
        match (&binding.pod, &binding.node) {
            (Some(pod), _) => self.check_object("pods", namespace, pod, now),
            (None, Some(node)) => self.check_object("nodes", None, node, now),
            (None, None) => Ok(()),
        }
    }

    fn check_object(
        &self,
        resource: &'static str,
        namespace: Option<&str>,
        reference: &Reference,
        now: Timestamp,
    ) -> Result<(), String> {
        let name = &reference.name;
        let object = self
            .reader
            .get(&GroupResource::new("", resource), namespace, name);
        let object = object.ok_or_else(|| format!("{resource} {name:?} not found"))?;
        let metadata = &object["metadata"];
        let deleted = metadata["deletionTimestamp"].as_str();
        let deleted: Option<Timestamp> = deleted.and_then(|text| text.parse().ok());
        if deleted.is_some_and(|at| at.as_second() < now.as_second() - LEEWAY_S) {
            return Err(format!("{resource} {name:?} has been deleted"));
        }
        match metadata["uid"].as_str() {
            Some(uid) if uid == reference.uid => Ok(()),
            uid => Err(format!(
                "{resource} {name:?}: UID ({}) does not match claim ({})",
                uid.unwrap_or(""),
                reference.uid
            )),
        }
    }
}

/// The signed part, header, payload and signature of a compact JWS.
fn split(token: &str) -> Option<(&str, Value, Value, &str)> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, payload) = signed.split_once('.')?;
    let decode = |part: &str| -> Option<Value> {
        let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
        serde_json::from_slice(&bytes).ok()
    };
    Some((signed, decode(header)?, decode(payload)?, signature))
}

fn check_times(claims: &Claims, now: Timestamp) -> Result<(), String> {
    let now_s = now.as_second();
    if now_s - LEEWAY_S > claims.expires_at_s {
        return Err("service account token has expired".to_owned());
    }
    if now_s + LEEWAY_S < claims.not_before_s {
        return Err("service account token is not valid yet".to_owned());
    }
    Ok(())
}

fn user_of(claims: &Claims) -> UserInfo {
    let mut user = UserInfo {
        name: service_account_user(&claims.namespace, &claims.service_account.name),
        uid: claims.service_account.uid.clone(),
        groups: service_account_groups(&claims.namespace),
        ..UserInfo::default()
    };
    let mut add = |key: &str, value: String| user.extra.insert(key.to_owned(), vec![value]);
    if !claims.id.is_empty() {
        add(EXTRA_CREDENTIAL_ID, format!("JTI={}", claims.id));
    }
    if let Some(pod) = &claims.binding.pod {
        add(EXTRA_POD_NAME, pod.name.clone());
        add(EXTRA_POD_UID, pod.uid.clone());
    }
    if let Some(node) = &claims.binding.node {
        add(EXTRA_NODE_NAME, node.name.clone());
        add(EXTRA_NODE_UID, node.uid.clone());
    }
    user
}

#[cfg(test)]
mod tests {
    use super::super::claims::Binding;
    use super::super::{Issuer, keys};
    use super::*;
    use keelson_testkit::Objects;
    use serde_json::json;

    fn objects() -> Arc<Objects> {
        let meta =
            |name: &str, uid: &str| json!({"metadata": {"namespace": "dev", "name": name, "uid": uid}});
        Arc::new(Objects::new([
            ("", "serviceaccounts", meta("ci", "sa-1")),
            ("", "pods", meta("web", "pod-1")),
        ]))
    }

    fn claims() -> Claims {
        Claims {
            audiences: vec!["api".to_owned(), "other".to_owned()],
            issued_at_s: 1000,
            not_before_s: 1000,
            expires_at_s: 4600,
            id: "id-1".to_owned(),
            namespace: "dev".to_owned(),
            service_account: Reference {
                name: "ci".to_owned(),
                uid: "sa-1".to_owned(),
            },
            binding: Binding {
                pod: Some(Reference {
                    name: "web".to_owned(),
                    uid: "pod-1".to_owned(),
                }),
                ..Binding::default()
            },
            warn_after_s: 4607,
            ..Claims::default()
        }
    }

    fn pair() -> (Issuer, Verifier, Arc<Objects>) {
        let pem = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let issuer = Issuer::new("https://issuer", pem.as_bytes()).unwrap();
        let objects = objects();
        let keys = keys::public_keys(pem.as_bytes()).unwrap();
        let verifier = Verifier::new(vec!["https://issuer".to_owned()], keys, objects.clone());
        (issuer, verifier, objects)
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn a_token_names_its_account_pod_and_id() {
        let (issuer, verifier, _) = pair();
        let token = issuer.issue(claims()).unwrap();
        let (user, audiences) = verifier
            .verify(&token, &["api".to_owned()], at(2000))
            .unwrap()
            .unwrap();
        assert_eq!(user.name, "system:serviceaccount:dev:ci");
        assert_eq!(
            user.groups,
            ["system:serviceaccounts", "system:serviceaccounts:dev"]
        );
        assert_eq!(user.extra[EXTRA_CREDENTIAL_ID], ["JTI=id-1"]);
        assert_eq!(user.extra[EXTRA_POD_UID], ["pod-1"]);
        assert_eq!(audiences, ["api"]);
    }

    #[test]
    fn the_claims_are_upstreams() {
        let mut claims = claims();
        claims.issuer = "https://issuer".to_owned();
        let wanted = json!({
            "aud": ["api", "other"], "exp": 4600, "iat": 1000, "iss": "https://issuer", "jti": "id-1",
            "kubernetes.io": {
                "namespace": "dev", "pod": {"name": "web", "uid": "pod-1"},
                "serviceaccount": {"name": "ci", "uid": "sa-1"}, "warnafter": 4607,
            },
            "nbf": 1000, "sub": "system:serviceaccount:dev:ci",
        });
        assert_eq!(claims.to_value(), wanted);
        assert_eq!(Claims::from_value(&wanted), Some(claims));
    }

    #[test]
    fn invalid_tokens_are_refused_and_foreign_ones_ignored() {
        let (issuer, verifier, objects) = pair();
        let token = issuer.issue(claims()).unwrap();
        let api = ["api".to_owned()];
        let refused =
            |token: &str, audiences: &[String], now| verifier.verify(token, audiences, at(now)).unwrap_err();
        assert_eq!(refused(&token, &api, 4661), "service account token has expired");
        assert_eq!(
            refused(&token, &api, 900),
            "service account token is not valid yet"
        );
        assert!(refused(&token, &["x".to_owned()], 2000).contains("is invalid for the target audiences"));
        let mut forged = token.clone();
        forged.replace_range(token.len() - 4.., "AAAA");
        assert_eq!(
            refused(&forged, &api, 2000),
            "no key verifies the token's signature"
        );
        for foreign in ["abc", "a.b.c", "abcdef.0123456789abcdef"] {
            assert_eq!(verifier.verify(foreign, &api, at(2000)), Ok(None));
        }
        objects.put(
            &GroupResource::new("", "pods"),
            json!({"metadata": {"namespace": "dev", "name": "web", "uid": "pod-2"}}),
        );
        assert_eq!(
            refused(&token, &api, 2000),
            r#"pods "web": UID (pod-2) does not match claim (pod-1)"#
        );
        objects.remove(&GroupResource::new("", "pods"), Some("dev"), "web");
        assert_eq!(refused(&token, &api, 2000), r#"pods "web" not found"#);
    }

    #[test]
    fn a_deleted_account_counts_for_a_minute() {
        let (issuer, verifier, objects) = pair();
        let token = issuer.issue(claims()).unwrap();
        let deleted = json!({"metadata": {
            "namespace": "dev", "name": "ci", "uid": "sa-1", "deletionTimestamp": at(2000).to_string(),
        }});
        objects.put(&GroupResource::new("", "serviceaccounts"), deleted);
        let api = ["api".to_owned()];
        assert!(verifier.verify(&token, &api, at(2060)).is_ok());
        assert!(verifier.verify(&token, &api, at(2061)).is_err());
    }

    #[test]
    fn replaced_keys_end_old_tokens() {
        let (issuer, verifier, _) = pair();
        let token = issuer.issue(claims()).unwrap();
        let api = ["api".to_owned()];
        assert!(verifier.verify(&token, &api, at(2000)).is_ok());
        let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
        verifier.replace_keys(keys::public_keys(other.as_bytes()).unwrap());
        assert!(verifier.verify(&token, &api, at(2000)).is_err());
    }
}
