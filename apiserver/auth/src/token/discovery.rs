//! What others need to verify our tokens: OpenID Connect discovery and the key set, at
//! `/.well-known/openid-configuration` and `/openid/v1/jwks`.

use serde_json::{Value, json};

use super::keys::PublicKey;

/// Media types of the two documents.
pub const CONFIGURATION_MEDIA_TYPE: &str = "application/json";
pub const KEY_SET_MEDIA_TYPE: &str = "application/jwk-set+json";

/// The key set, each key once.
pub fn key_set(keys: &[PublicKey]) -> Value {
    let mut seen: Vec<&str> = Vec::new();
    let mut list = Vec::new();
    for key in keys {
        if !seen.contains(&key.id.as_str()) {
            seen.push(&key.id);
            list.push(key.to_jwk());
        }
    }
    json!({"keys": list})
}

/// The configuration document; `jwks_uri` is where the key set is (`--service-account-jwks-uri`, or the server's own path).
pub fn configuration(issuer: &str, jwks_uri: &str, keys: &[PublicKey]) -> Value {
    let mut algorithms: Vec<String> = keys.iter().map(|key| format!("{:?}", key.algorithm)).collect();
    algorithms.sort_unstable();
    algorithms.dedup();
    json!({
        "issuer": issuer,
        "jwks_uri": jwks_uri,
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": algorithms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::keys::public_keys;

    #[test]
    fn documents_list_every_key_once() {
        let pem = rcgen::KeyPair::generate().unwrap().public_key_pem();
        let keys = public_keys(format!("{pem}{pem}").as_bytes()).unwrap();
        let set = key_set(&keys);
        assert_eq!(set["keys"].as_array().unwrap().len(), 1);
        assert_eq!(
            (&set["keys"][0]["use"], &set["keys"][0]["kty"]),
            (&json!("sig"), &json!("EC"))
        );
        let document = configuration("https://i", "https://i/openid/v1/jwks", &keys);
        assert_eq!(
            document["id_token_signing_alg_values_supported"],
            json!(["ES256"])
        );
    }
}
