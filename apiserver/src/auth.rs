//! Reads the files that authentication and authorization need, and has them put together.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use keelson_admission::chain::{self, Chain, chain};
use keelson_auth::build::{Auth, Config, FrontProxy, build as join};
use keelson_auth::token::discovery;
use keelson_machinery::ObjectReader;

use crate::cache::reader::CacheReader;
use crate::discovery::oidc::Documents;
use crate::options::Options;

/// Paths that need no authorization, as upstream's default.
const ALWAYS_ALLOWED: &[&str] = &["/healthz", "/readyz", "/livez"];

/// Authentication and authorization as the command line says.
///
/// # Errors
/// A file that cannot be read or used, by its flag.
pub fn build(options: &Options, reader: &Arc<CacheReader>) -> anyhow::Result<Auth> {
    let authn = &options.authn;
    let front_proxy = match &authn.requestheader_client_ca_file {
        None => None,
        Some(path) => Some(FrontProxy {
            ca_pem: read("--requestheader-client-ca-file", path)?,
            allowed_names: authn.requestheader_allowed_names.clone(),
            username_headers: authn.requestheader_username_headers.clone(),
            uid_headers: authn.requestheader_uid_headers.clone(),
            group_headers: authn.requestheader_group_headers.clone(),
            extra_header_prefixes: authn.requestheader_extra_headers_prefix.clone(),
        }),
    };
    let optional = |flag, path: &Option<PathBuf>| path.as_deref().map(|path| read(flag, path)).transpose();
    let token_file = optional("--token-auth-file", &authn.token_auth_file)?;
    let config = Config {
        anonymous: authn.anonymous_auth,
        client_ca_pem: optional("--client-ca-file", &authn.client_ca_file)?,
        front_proxy,
        token_file: token_file.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        bootstrap_tokens: authn.enable_bootstrap_token_auth,
        issuers: authn.service_account_issuer.clone(),
        service_account_key_pems: authn
            .service_account_key_file
            .iter()
            .map(|path| read("--service-account-key-file", path))
            .collect::<Result<_, _>>()?,
        signing_key_pem: optional(
            "--service-account-signing-key-file",
            &authn.service_account_signing_key_file,
        )?,
        api_audiences: authn.api_audiences.clone(),
        modes: options.authorization_mode.clone(),
        always_allow_paths: ALWAYS_ALLOWED.iter().map(|path| (*path).to_owned()).collect(),
    };
    let reader: Arc<dyn ObjectReader> = reader.clone();
    Ok(join(&config, &reader)?)
}

fn read(flag: &str, path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("{flag}: cannot read {}", path.display()))
}

/// The admission plugins as the command line says.
///
/// # Errors
/// An unknown plugin.
pub fn admission(options: &Options) -> anyhow::Result<Chain> {
    Ok(chain(&chain::Config {
        enable: options.enable_admission_plugins.clone(),
        disable: options.disable_admission_plugins.clone(),
        ..chain::Config::default()
    })?)
}

/// The token issuer's discovery documents; `None` where there is no issuer with an https URL.
pub fn oidc(options: &Options, auth: &Auth, address: &str) -> Option<Documents> {
    let issuer = options.authn.service_account_issuer.first()?;
    let keys = auth.verifier.keys();
    let jwks_uri = match options.authn.service_account_jwks_uri.as_str() {
        "" => format!("https://{address}/openid/v1/jwks"),
        given => given.to_owned(),
    };
    Some(Documents::new(
        &discovery::configuration(issuer, &jwks_uri, &keys),
        &discovery::key_set(&keys),
    ))
}
