//! Puts authentication and authorization together from what the flags say.
//!
//! File contents come in as bytes: the server reads them, watches them and calls the `reload` methods of [`Auth`] with new ones; nothing
//! here touches a file.

use std::sync::Arc;

use keelson_machinery::ObjectReader;

use crate::authn::bearer::{Bearer, TokenAuthenticator};
use crate::authn::bootstrap_token::BootstrapToken;
use crate::authn::client_ca::ClientCa;
use crate::authn::request_header::RequestHeader;
use crate::authn::service_account::ServiceAccount;
use crate::authn::token_file::TokenFile;
use crate::authn::union::Union;
use crate::authn::x509::X509;
use crate::authn::{AuthError, Authenticator};
use crate::authz::modes::{AlwaysAllowPaths, PrivilegedGroup, authorizer};
use crate::authz::node::Node;
use crate::authz::rbac::Rbac;
use crate::authz::{self, Authorizer};
use crate::review::RuleResolver;
use crate::token::{Issuer, KeyError, PublicKey, Verifier, keys};

/// `--requestheader-*`; the CA is the content of `--requestheader-client-ca-file`.
#[derive(Clone, Debug)]
pub struct FrontProxy {
    pub ca_pem: Vec<u8>,
    pub allowed_names: Vec<String>,
    pub username_headers: Vec<String>,
    pub uid_headers: Vec<String>,
    pub group_headers: Vec<String>,
    pub extra_header_prefixes: Vec<String>,
}

/// What the flags say, with the contents of the files they name.
#[derive(Clone)]
pub struct Config {
    /// `--anonymous-auth`.
    pub anonymous: bool,
    /// `--client-ca-file`.
    pub client_ca_pem: Option<Vec<u8>>,
    pub front_proxy: Option<FrontProxy>,
    /// `--token-auth-file`.
    pub token_file: Option<String>,
    /// `--enable-bootstrap-token-auth`.
    pub bootstrap_tokens: bool,
    /// `--service-account-issuer`, the first of which new tokens carry.
    pub issuers: Vec<String>,
    /// `--service-account-key-file`, each file's content; where empty, the signing key verifies.
    pub service_account_key_pems: Vec<Vec<u8>>,
    /// `--service-account-signing-key-file`.
    pub signing_key_pem: Option<Vec<u8>>,
    /// `--api-audiences`; the issuers where empty.
    pub api_audiences: Vec<String>,
    /// `--authorization-mode`, in order.
    pub modes: Vec<String>,
    /// `--authorization-always-allow-paths`.
    pub always_allow_paths: Vec<String>,
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("the {flag} file cannot be used")]
    Ca {
        flag: &'static str,
        #[source]
        source: AuthError,
    },
    #[error("the {flag} file cannot be used")]
    Key {
        flag: &'static str,
        #[source]
        source: KeyError,
    },
    #[error("{0}")]
    Invalid(String),
}

/// Authentication and authorization of one server.
pub struct Auth {
    pub authenticator: Arc<dyn Authenticator>,
    pub authorizer: Arc<dyn Authorizer>,
    /// For the front proxy's headers to be stripped; `None` where none is trusted.
    pub front_proxy: Option<Arc<RequestHeader>>,
    /// For TokenReviews.
    pub bearer: Arc<Bearer>,
    pub verifier: Arc<Verifier>,
    /// `None` where no signing key is given: the server then issues no tokens.
    pub issuer: Option<Arc<Issuer>>,
    /// For escalation checks.
    pub rbac: Arc<Rbac>,
    /// For SelfSubjectRulesReviews.
    pub resolvers: Vec<Arc<dyn RuleResolver>>,
    client_ca: Option<Arc<ClientCa>>,
}

/// Builds both from the configuration.
///
/// # Errors
/// A file's content cannot be used, or a mode is unknown; says which flag.
pub fn build(config: &Config, reader: &Arc<dyn ObjectReader>) -> Result<Auth, BuildError> {
    let ca = |pem: &[u8], flag| ClientCa::from_pem(pem).map_err(|source| BuildError::Ca { flag, source });
    let audiences = match config.api_audiences.is_empty() {
        true => config.issuers.clone(),
        false => config.api_audiences.clone(),
    };
    let issuer = issuer(config)?;
    let verifier = Arc::new(Verifier::new(
        config.issuers.clone(),
        verifying_keys(&config.service_account_key_pems, issuer.as_deref())?,
        reader.clone(),
    ));
    let bearer = Arc::new(Bearer {
        kinds: token_kinds(config, &audiences, &verifier, reader)?,
        audiences,
    });
    let mut authenticators: Vec<Arc<dyn Authenticator>> = Vec::new();
    let mut front_proxy = None;
    if let Some(proxy) = &config.front_proxy {
        let proxy = Arc::new(RequestHeader {
            ca: Arc::new(ca(&proxy.ca_pem, "--requestheader-client-ca-file")?),
            allowed_names: proxy.allowed_names.clone(),
            username_headers: proxy.username_headers.clone(),
            uid_headers: proxy.uid_headers.clone(),
            group_headers: proxy.group_headers.clone(),
            extra_header_prefixes: proxy.extra_header_prefixes.clone(),
        });
        authenticators.push(proxy.clone());
        front_proxy = Some(proxy);
    }
    let mut client_ca = None;
    if let Some(pem) = &config.client_ca_pem {
        let own = Arc::new(ca(pem, "--client-ca-file")?);
        authenticators.push(Arc::new(X509(own.clone())));
        client_ca = Some(own);
    }
    authenticators.push(bearer.clone());
    let rbac = Arc::new(Rbac::new(reader.clone()));
    let (authorizer, resolvers) = authorization(config, reader, &rbac)?;
    Ok(Auth {
        authenticator: Arc::new(Union {
            authenticators,
            anonymous: config.anonymous,
        }),
        authorizer,
        front_proxy,
        bearer,
        verifier,
        issuer,
        rbac,
        resolvers,
        client_ca,
    })
}

fn issuer(config: &Config) -> Result<Option<Arc<Issuer>>, BuildError> {
    let Some(pem) = &config.signing_key_pem else {
        return Ok(None);
    };
    let Some(name) = config.issuers.first() else {
        return Err(BuildError::Invalid(
            "--service-account-issuer is required with --service-account-signing-key-file".to_owned(),
        ));
    };
    let issuer = Issuer::new(name.clone(), pem).map_err(|source| BuildError::Key {
        flag: "--service-account-signing-key-file",
        source,
    })?;
    Ok(Some(Arc::new(issuer)))
}

fn verifying_keys(pems: &[Vec<u8>], issuer: Option<&Issuer>) -> Result<Vec<PublicKey>, BuildError> {
    let mut all = Vec::new();
    for pem in pems {
        let own = keys::public_keys(pem).map_err(|source| BuildError::Key {
            flag: "--service-account-key-file",
            source,
        })?;
        all.extend(own);
    }
    if let (true, Some(issuer)) = (all.is_empty(), issuer) {
        all.push(issuer.public_key().clone());
    }
    Ok(all)
}

fn token_kinds(
    config: &Config,
    audiences: &[String],
    verifier: &Arc<Verifier>,
    reader: &Arc<dyn ObjectReader>,
) -> Result<Vec<Arc<dyn TokenAuthenticator>>, BuildError> {
    let mut kinds: Vec<Arc<dyn TokenAuthenticator>> = Vec::new();
    if let Some(text) = &config.token_file {
        let file = TokenFile::parse(text, audiences.to_vec());
        let file = file.map_err(|why| BuildError::Invalid(format!("--token-auth-file: {why}")))?;
        kinds.push(Arc::new(file));
    }
    kinds.push(Arc::new(ServiceAccount(verifier.clone())));
    if config.bootstrap_tokens {
        kinds.push(Arc::new(BootstrapToken {
            reader: reader.clone(),
            audiences: audiences.to_vec(),
        }));
    }
    Ok(kinds)
}

type Authorization = (Arc<dyn Authorizer>, Vec<Arc<dyn RuleResolver>>);

fn authorization(
    config: &Config,
    reader: &Arc<dyn ObjectReader>,
    rbac: &Arc<Rbac>,
) -> Result<Authorization, BuildError> {
    let mut authorizers: Vec<Arc<dyn Authorizer>> = vec![
        Arc::new(PrivilegedGroup),
        Arc::new(AlwaysAllowPaths(config.always_allow_paths.clone())),
    ];
    let mut resolvers: Vec<Arc<dyn RuleResolver>> = Vec::new();
    for mode in &config.modes {
        authorizers.push(authorizer(mode, reader, rbac).map_err(BuildError::Invalid)?);
        match mode.as_str() {
            "RBAC" => resolvers.push(rbac.clone()),
            "Node" => resolvers.push(Arc::new(Node::new(reader.clone()))),
            _ => {}
        }
    }
    Ok((Arc::new(authz::Union(authorizers)), resolvers))
}

impl Auth {
    /// Takes a new content of `--client-ca-file`; one that cannot be used leaves the old in place.
    ///
    /// # Errors
    /// As [`build`].
    pub fn reload_client_ca(&self, pem: &[u8]) -> Result<(), BuildError> {
        let flag = "--client-ca-file";
        let replaced = self.client_ca.as_ref().map_or(Ok(()), |ca| ca.replace(pem));
        replaced.map_err(|source| BuildError::Ca { flag, source })
    }

    /// Takes a new content of `--requestheader-client-ca-file`.
    ///
    /// # Errors
    /// As [`build`].
    pub fn reload_front_proxy_ca(&self, pem: &[u8]) -> Result<(), BuildError> {
        let flag = "--requestheader-client-ca-file";
        let replaced = self
            .front_proxy
            .as_ref()
            .map_or(Ok(()), |proxy| proxy.ca.replace(pem));
        replaced.map_err(|source| BuildError::Ca { flag, source })
    }

    /// Takes new contents of the `--service-account-key-file`s. The signing key is only read at start, as upstream does.
    ///
    /// # Errors
    /// As [`build`].
    pub fn reload_service_account_keys(&self, pems: &[Vec<u8>]) -> Result<(), BuildError> {
        let keys = verifying_keys(pems, self.issuer.as_deref())?;
        self.verifier.replace_keys(keys);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attributes, Credentials, Decision, UserInfo};

    fn config() -> Config {
        Config {
            anonymous: true,
            client_ca_pem: None,
            front_proxy: None,
            token_file: Some("t1,ann,1,system:masters".to_owned()),
            bootstrap_tokens: true,
            issuers: vec!["https://i".to_owned()],
            service_account_key_pems: Vec::new(),
            signing_key_pem: Some(rcgen::KeyPair::generate().unwrap().serialize_pem().into_bytes()),
            api_audiences: Vec::new(),
            modes: vec!["Node".to_owned(), "RBAC".to_owned()],
            always_allow_paths: vec!["/healthz".to_owned()],
        }
    }

    #[test]
    fn the_parts_work_together() {
        let reader: Arc<dyn ObjectReader> = Arc::new(keelson_testkit::Objects::default());
        let auth = build(&config(), &reader).unwrap();
        let ask = |token: Option<&str>| {
            let mut headers = http::HeaderMap::new();
            if let Some(token) = token {
                headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
            }
            let given = Credentials {
                client_certificates: &[],
                headers: &headers,
            };
            auth.authenticator
                .authenticate(&given, jiff::Timestamp::UNIX_EPOCH)
        };
        assert_eq!(ask(None).unwrap().unwrap().name, "system:anonymous");
        let ann = ask(Some("t1")).unwrap().unwrap();
        assert!(ask(Some("t2")).is_err());
        let request = |user: &Arc<UserInfo>, path: &str| Attributes {
            user: user.clone(),
            verb: "get".into(),
            path: path.to_owned(),
            ..Attributes::default()
        };
        let anyone = Arc::new(UserInfo::anonymous());
        for (user, path, decision) in [
            (&ann, "/metrics", Decision::Allow),
            (&anyone, "/healthz", Decision::Allow),
            (&anyone, "/metrics", Decision::NoOpinion),
        ] {
            assert_eq!(
                auth.authorizer.authorize(&request(user, path)).0,
                decision,
                "{path}"
            );
        }
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let reader: Arc<dyn ObjectReader> = Arc::new(keelson_testkit::Objects::default());
        let mut unknown = config();
        unknown.modes.push("ABAC".to_owned());
        let error = build(&unknown, &reader).err().unwrap().to_string();
        assert!(
            error.starts_with("authorization-mode \"ABAC\" is not a valid mode"),
            "{error}"
        );
        let mut broken = config();
        broken.client_ca_pem = Some(b"nothing".to_vec());
        let error = build(&broken, &reader).err().unwrap().to_string();
        assert_eq!(error, "the --client-ca-file file cannot be used");
    }

    #[test]
    fn other_keys_count_at_once_and_broken_ones_never() {
        let reader: Arc<dyn ObjectReader> = Arc::new(keelson_testkit::Objects::default());
        let auth = build(&config(), &reader).unwrap();
        let before = auth.verifier.keys()[0].id.clone();
        let other = rcgen::KeyPair::generate().unwrap().public_key_pem().into_bytes();
        assert!(auth.reload_service_account_keys(&[b"nothing".to_vec()]).is_err());
        assert_eq!(auth.verifier.keys()[0].id, before);
        auth.reload_service_account_keys(&[other]).unwrap();
        assert_ne!(auth.verifier.keys()[0].id, before);
    }
}
