//! Signs tokens.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::claims::Claims;
use super::keys::{KeyError, PrivateKey, PublicKey};

/// Signs tokens with one key, under one name (`--service-account-issuer`).
pub struct Issuer {
    name: String,
    key: PrivateKey,
}

impl Issuer {
    /// `key_pem`: the content of `--service-account-signing-key-file`.
    pub fn new(name: impl Into<String>, key_pem: &[u8]) -> Result<Self, KeyError> {
        Ok(Self {
            name: name.into(),
            key: PrivateKey::from_pem(key_pem)?,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key that verifies what this issuer signs.
    pub fn public_key(&self) -> &PublicKey {
        &self.key.public
    }

    /// The signed token; the claims get this issuer's name.
    pub fn issue(&self, mut claims: Claims) -> Result<String, KeyError> {
        claims.issuer.clone_from(&self.name);
        let algorithm = format!("{:?}", self.key.public.algorithm);
        let header = json!({"alg": algorithm, "kid": self.key.public.id});
        let mut token = URL_SAFE_NO_PAD.encode(header.to_string());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims.to_value().to_string(), &mut token);
        let signature = self.key.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }
}
