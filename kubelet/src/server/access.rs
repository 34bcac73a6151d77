//! Who asks, and whether they may: client certificates, TokenReview, SubjectAccessReview with a small cache.

use crate::config::ServerConfig;
use crate::limits;
use http::{Method, Request, StatusCode};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::{Api, PostParams};
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use x509_parser::prelude::{FromDer, X509Certificate};

const ALLOWED_FOR: Duration = Duration::from_secs(300);
const DENIED_FOR: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct User {
    name: String,
    groups: Vec<String>,
}

type Key = (User, &'static str, &'static str);

/// The gate before every route.
pub(super) struct Access {
    client: kube::Client,
    node: String,
    anonymous: bool,
    token_webhook: bool,
    authorize: bool,
    /// Verdicts by user, verb and subresource; guards look-ups only.
    verdicts: Mutex<HashMap<Key, (bool, Instant)>>,
}

impl Access {
    pub(super) fn new(client: kube::Client, settings: &ServerConfig, node: String) -> Self {
        Access {
            client,
            node,
            anonymous: settings.anonymous,
            token_webhook: settings.token_webhook,
            authorize: settings.webhook_authorization,
            verdicts: Mutex::default(),
        }
    }

    /// Lets a request through, or says why not.
    pub(super) async fn check<B>(
        &self,
        certs: &[CertificateDer<'static>],
        request: &Request<B>,
    ) -> Result<(), (StatusCode, String)> {
        let user = self
            .authenticate(certs, request)
            .await
            .ok_or((StatusCode::UNAUTHORIZED, "Unauthorized".to_owned()))?;
        if !self.authorize {
            return Ok(());
        }
        let verb = verb(request.method());
        let subresources = subresources(request.uri().path());
        for subresource in subresources {
            match self.allowed(&user, verb, subresource).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(why) => {
                    let message = format!(
                        "Authorization error (user={}, verb={verb}, resource=nodes, subresource={subresource})",
                        user.name
                    );
                    tracing::warn!(user = %user.name, %why, "authorization failed");
                    return Err((StatusCode::INTERNAL_SERVER_ERROR, message));
                }
            }
        }
        let asked = subresources.join(" ");
        Err((
            StatusCode::FORBIDDEN,
            format!(
                "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{asked}])",
                user.name
            ),
        ))
    }

    async fn authenticate<B>(&self, certs: &[CertificateDer<'static>], request: &Request<B>) -> Option<User> {
        if let Some(user) = certs.first().and_then(from_certificate) {
            return Some(user);
        }
        let header = request
            .headers()
            .get(http::header::AUTHORIZATION)
            .and_then(|h| h.to_str().ok());
        if let Some(token) = header.and_then(|h| h.strip_prefix("Bearer "))
            && self.token_webhook
        {
            return self.review_token(token).await;
        }
        (self.anonymous && header.is_none()).then(|| User {
            name: "system:anonymous".into(),
            groups: vec!["system:unauthenticated".into()],
        })
    }

    async fn review_token(&self, token: &str) -> Option<User> {
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.to_owned(),
                audiences: None,
            },
            ..TokenReview::default()
        };
        let status = api.create(&PostParams::default(), &review).await.ok()?.status?;
        let user = status.user.filter(|_| status.authenticated == Some(true))?;
        Some(User {
            name: user.username.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
        })
    }

    async fn allowed(
        &self,
        user: &User,
        verb: &'static str,
        subresource: &'static str,
    ) -> Result<bool, String> {
        let key = (user.clone(), verb, subresource);
        if let Some((allowed, until)) = self.verdicts.lock().get(&key)
            && Instant::now() < *until
        {
            return Ok(*allowed);
        }
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                groups: Some(user.groups.clone()),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(verb.into()),
                    version: Some("v1".into()),
                    resource: Some("nodes".into()),
                    subresource: Some(subresource.into()),
                    name: Some(self.node.clone()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let answer = api
            .create(&PostParams::default(), &review)
            .await
            .map_err(|e| keelson_base::error::chain(&e))?;
        let allowed = answer.status.is_some_and(|s| s.allowed);
        let mut verdicts = self.verdicts.lock();
        if verdicts.len() >= limits::AUTHORIZATION_CACHE_MAX {
            verdicts.clear();
        }
        verdicts.insert(
            key,
            (
                allowed,
                Instant::now() + if allowed { ALLOWED_FOR } else { DENIED_FOR },
            ),
        );
        Ok(allowed)
    }
}

/// Common name and organizations.
fn from_certificate(cert: &CertificateDer<'static>) -> Option<User> {
    let (_, cert) = X509Certificate::from_der(cert).ok()?;
    let subject = cert.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let mut groups: Vec<String> = subject
        .iter_organization()
        .filter_map(|o| o.as_str().ok().map(str::to_owned))
        .collect();
    groups.push("system:authenticated".into());
    Some(User { name, groups })
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

/// The node subresources that open a path: the fine-grained one first, `proxy` as the old catch-all.
fn subresources(path: &str) -> &'static [&'static str] {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    match first {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "checkpoint" => &["checkpoint"],
        "pods" | "runningpods" => &["pods", "proxy"],
        "healthz" => &["healthz", "proxy"],
        "configz" => &["configz", "proxy"],
        _ => &["proxy"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_need_their_subresource() {
        for (path, want) in [
            ("/stats/summary", &["stats"][..]),
            ("/metrics/cadvisor", &["metrics"]),
            ("/pods", &["pods", "proxy"]),
            ("/exec/ns/p/c", &["proxy"]),
            ("/containerLogs/ns/p/c", &["proxy"]),
            ("/", &["proxy"]),
        ] {
            assert_eq!(subresources(path), want, "{path}");
        }
    }

    #[test]
    fn certificates_name_users() {
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "kube-apiserver-kubelet-client");
        params
            .distinguished_name
            .push(rcgen::DnType::OrganizationName, "system:masters");
        let cert = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let user = from_certificate(cert.der()).unwrap();
        assert_eq!(user.name, "kube-apiserver-kubelet-client");
        assert_eq!(user.groups, ["system:masters", "system:authenticated"]);
    }
}
