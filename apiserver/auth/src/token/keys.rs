//! Keys that sign and verify tokens, from the PEM files upstream's flags name.
//!
//! A key's id is upstream's: the unpadded URL-safe base64 of the SHA-256 of its DER form, so that tokens and key sets of the
//! two servers name the same key alike. A private key never leaves this file and has no `Debug`.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey};
use rustls::SignatureScheme;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::SigningKey;
use sha2::{Digest, Sha256};
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

/// What is wrong with a key file; holds nothing of the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("no PEM block with a key: give an RSA or EC key (P-256 or P-384) in PEM form")]
    NoKey,
    #[error("PEM block {tag:?} holds no usable key: give an RSA or EC key (P-256 or P-384)")]
    Unusable { tag: String },
    #[error("the key cannot sign tokens: give an RSA or EC key (P-256 or P-384)")]
    CannotSign,
}

/// A key that verifies tokens.
#[derive(Clone)]
pub struct PublicKey {
    pub id: String,
    pub algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

impl PublicKey {
    /// From a DER SubjectPublicKeyInfo.
    pub fn from_spki(der: &[u8]) -> Option<Self> {
        let (_, info) = SubjectPublicKeyInfo::from_der(der).ok()?;
        let (algorithm, decoding) = match info.parsed().ok()? {
            x509_parser::public_key::PublicKey::RSA(rsa) => {
                let modulus = without_leading_zeros(rsa.modulus);
                let exponent = without_leading_zeros(rsa.exponent);
                (
                    Algorithm::RS256,
                    DecodingKey::from_rsa_raw_components(modulus, exponent),
                )
            }
            x509_parser::public_key::PublicKey::EC(point) => {
                let algorithm = match point.data().len() {
                    65 => Algorithm::ES256,
                    97 => Algorithm::ES384,
                    _ => return None,
                };
                (algorithm, DecodingKey::from_ec_der(point.data()))
            }
            _ => return None,
        };
        Some(Self {
            id: URL_SAFE_NO_PAD.encode(Sha256::digest(der)),
            algorithm,
            decoding,
        })
    }

    /// The key as a JSON Web Key, as upstream publishes it.
    pub fn to_jwk(&self) -> serde_json::Value {
        let mut jwk = match Jwk::from_decoding_key(&self.decoding, Some(self.algorithm)) {
            Ok(jwk) => serde_json::to_value(jwk).unwrap_or_default(),
            Err(_) => serde_json::Value::Null,
        };
        jwk["use"] = "sig".into();
        jwk["kid"] = self.id.as_str().into();
        jwk
    }
}

fn without_leading_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    &bytes[zeros..]
}

/// Every key of a PEM file: public keys, certificates, and the public halves of private keys.
pub fn public_keys(pem: &[u8]) -> Result<Vec<PublicKey>, KeyError> {
    let blocks = pem::parse_many(pem).map_err(|_| KeyError::NoKey)?;
    let mut keys = Vec::new();
    for block in &blocks {
        let spki = match block.tag() {
            "PUBLIC KEY" => Some(block.contents().to_vec()),
            "RSA PUBLIC KEY" => Some(rsa_spki(block.contents())),
            "CERTIFICATE" => x509_parser::parse_x509_certificate(block.contents())
                .ok()
                .map(|(_, cert)| cert.tbs_certificate.subject_pki.raw.to_vec()),
            tag if tag.ends_with("PRIVATE KEY") => {
                signing_key(block).and_then(|key| public_half(key.as_ref()))
            }
            _ => continue,
        };
        let key = spki.and_then(|der| PublicKey::from_spki(&der));
        keys.push(key.ok_or_else(|| KeyError::Unusable {
            tag: block.tag().to_owned(),
        })?);
    }
    match keys.is_empty() {
        true => Err(KeyError::NoKey),
        false => Ok(keys),
    }
}

fn public_half(key: &dyn SigningKey) -> Option<Vec<u8>> {
    Some(key.public_key()?.as_ref().to_vec())
}

fn signing_key(block: &pem::Pem) -> Option<Arc<dyn SigningKey>> {
    let contents = block.contents().to_vec();
    let der = match block.tag() {
        "PRIVATE KEY" => PrivateKeyDer::Pkcs8(contents.into()),
        "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(contents.into()),
        "EC PRIVATE KEY" => PrivateKeyDer::Sec1(contents.into()),
        _ => return None,
    };
    rustls::crypto::aws_lc_rs::sign::any_supported_type(&der).ok()
}

/// Wraps a PKCS#1 key as SubjectPublicKeyInfo: a sequence of rsaEncryption and the key as a bit string.
fn rsa_spki(pkcs1: &[u8]) -> Vec<u8> {
    const RSA_ENCRYPTION: [u8; 15] = [
        0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
    ];
    let mut bits = vec![0];
    bits.extend_from_slice(pkcs1);
    let mut body = RSA_ENCRYPTION.to_vec();
    body.extend(der_element(0x03, &bits));
    der_element(0x30, &body)
}

fn der_element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len().to_be_bytes();
    let length = without_leading_zeros(&length);
    let mut element = vec![tag];
    if contents.len() >= 0x80 {
        element.push(0x80 | length.len() as u8);
    }
    element.extend_from_slice(if length.is_empty() { &[0] } else { length });
    element.extend_from_slice(contents);
    element
}

/// A key that signs tokens.
pub struct PrivateKey {
    key: Arc<dyn SigningKey>,
    scheme: SignatureScheme,
    pub public: PublicKey,
}

impl PrivateKey {
    /// The first private key of a PEM file.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let blocks = pem::parse_many(pem).map_err(|_| KeyError::NoKey)?;
        let block = blocks.iter().find(|block| block.tag().ends_with("PRIVATE KEY"));
        let key = signing_key(block.ok_or(KeyError::NoKey)?).ok_or(KeyError::CannotSign)?;
        let spki = public_half(key.as_ref()).ok_or(KeyError::CannotSign)?;
        let public = PublicKey::from_spki(&spki).ok_or(KeyError::CannotSign)?;
        let scheme = match public.algorithm {
            Algorithm::RS256 => SignatureScheme::RSA_PKCS1_SHA256,
            Algorithm::ES256 => SignatureScheme::ECDSA_NISTP256_SHA256,
            _ => SignatureScheme::ECDSA_NISTP384_SHA384,
        };
        Ok(Self { key, scheme, public })
    }

    /// The signature in JWS form (RFC 7518): ECDSA as two fixed-width integers.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signer = self
            .key
            .choose_scheme(&[self.scheme])
            .ok_or(KeyError::CannotSign)?;
        let signature = signer.sign(message).map_err(|_| KeyError::CannotSign)?;
        match self.public.algorithm {
            Algorithm::RS256 => Ok(signature),
            Algorithm::ES256 => fixed_width(&signature, 32).ok_or(KeyError::CannotSign),
            _ => fixed_width(&signature, 48).ok_or(KeyError::CannotSign),
        }
    }
}

/// A DER sequence of two integers (RFC 3279) as their big-endian forms of `width` bytes each. Lengths below 128 suffice for
/// both curves.
fn fixed_width(der: &[u8], width: usize) -> Option<Vec<u8>> {
    let [0x30, _, rest @ ..] = der else { return None };
    let mut rest = rest;
    let mut fixed = Vec::with_capacity(2 * width);
    for _ in 0..2 {
        let [0x02, length, tail @ ..] = rest else {
            return None;
        };
        let (integer, tail) = tail.split_at_checked(usize::from(*length))?;
        let integer = without_leading_zeros(integer);
        fixed.resize(fixed.len() + width.checked_sub(integer.len())?, 0);
        fixed.extend_from_slice(integer);
        rest = tail;
    }
    Some(fixed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_and_private_files_name_the_same_key() {
        for algorithm in [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_RSA_SHA256,
        ] {
            let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let private = PrivateKey::from_pem(pair.serialize_pem().as_bytes()).unwrap();
            let from_public = public_keys(pair.public_key_pem().as_bytes()).unwrap();
            let from_private = public_keys(pair.serialize_pem().as_bytes()).unwrap();
            assert_eq!(from_public[0].id, private.public.id);
            assert_eq!(from_private[0].id, private.public.id);
            assert_eq!(from_public[0].to_jwk()["kid"], private.public.id.as_str());
        }
    }

    #[test]
    fn a_pkcs1_public_key_is_the_same_key() {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let spki = pem::parse(pair.public_key_pem()).unwrap();
        let (_, info) = SubjectPublicKeyInfo::from_der(spki.contents()).unwrap();
        assert_eq!(rsa_spki(&info.subject_public_key.data), spki.contents());
    }

    #[test]
    fn files_without_keys_are_refused() {
        assert_eq!(public_keys(b"nothing").err(), Some(KeyError::NoKey));
        let block = pem::encode(&pem::Pem::new("PUBLIC KEY", vec![1, 2, 3]));
        let refused = KeyError::Unusable {
            tag: "PUBLIC KEY".to_owned(),
        };
        assert_eq!(public_keys(block.as_bytes()).err(), Some(refused));
    }

    #[test]
    fn ecdsa_signatures_become_fixed_width() {
        assert_eq!(
            fixed_width(&[0x30, 7, 2, 2, 0, 0xff, 2, 1, 1], 2),
            Some(vec![0, 0xff, 0, 1])
        );
        assert_eq!(fixed_width(&[0x30, 7, 2, 9], 2), None);
    }
}
