//! One identity per controller: with --use-service-account-credentials each acts as a service account of kube-system
//! and so has only the rights of its `system:controller:*` role.
//!
//! All share one connection without client certificate; tokens are asked for through the process's own identity and
//! renewed at four fifths of their lifetime.

use std::time::Duration;

use anyhow::Context as _;
use http::HeaderValue;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use keelson_client::{Connection, Token};
use kube::api::PostParams;
use kube::{Api, Client};

use crate::config::Config;
use crate::limits::TOKEN_LIFETIME_S;

const NAMESPACE: &str = "kube-system";

/// Gives controllers their clients.
pub struct Credentials {
    own: Client,
    /// Without a client certificate; `None` when all act as the process.
    anonymous: Option<Connection>,
}

impl Credentials {
    /// Asks nothing yet.
    pub fn new(
        config: &Config,
        own: Client,
        mut kubeconfig: kube::Config,
        agent: &str,
    ) -> anyhow::Result<Self> {
        let anonymous = if config.use_service_account_credentials {
            kubeconfig.auth_info = Default::default();
            Some(Connection::new(kubeconfig, agent)?)
        } else {
            None
        };
        Ok(Self { own, anonymous })
    }

    /// The client of a controller, by the name of its service account.
    pub async fn client(&self, account: &'static str) -> anyhow::Result<Client> {
        let Some(connection) = &self.anonymous else {
            return Ok(self.own.clone());
        };
        let (value, lifetime) = token(&self.own, account).await?;
        let token = Token::new(parking_lot::Mutex::new(value));
        tokio::spawn(renew(self.own.clone(), account, token.clone(), lifetime));
        Ok(connection.client(Some(token))?)
    }
}

async fn renew(own: Client, account: &'static str, current: Token, mut lifetime: Duration) {
    loop {
        tokio::time::sleep(lifetime.mul_f64(0.8).max(Duration::from_secs(10))).await;
        match token(&own, account).await {
            Ok((value, next)) => {
                *current.lock() = value;
                lifetime = next;
            }
            Err(error) => {
                tracing::warn!(account, "cannot renew the token: {error:#}");
                lifetime = Duration::from_secs(10);
            }
        }
    }
}

async fn token(own: &Client, account: &str) -> anyhow::Result<(HeaderValue, Duration)> {
    let accounts: Api<ServiceAccount> = Api::namespaced(own.clone(), NAMESPACE);
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            expiration_seconds: Some(TOKEN_LIFETIME_S),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let params = PostParams::default();
    let asked = || accounts.create_token_request(account, &params, &request);
    let answer = match asked().await {
        Err(kube::Error::Api(status)) if status.code == 404 => {
            ensure(own, &accounts, account).await?;
            asked().await
        }
        answer => answer,
    };
    let what = || format!("cannot get a token for service account {NAMESPACE}/{account}");
    let status = answer.with_context(what)?.status.with_context(what)?;
    let mut value = HeaderValue::from_str(&format!("Bearer {}", status.token.with_context(what)?))?;
    value.set_sensitive(true);
    let left =
        status.expiration_timestamp.with_context(what)?.0.as_second() - jiff::Timestamp::now().as_second();
    Ok((value, Duration::from_secs(left.max(10).unsigned_abs())))
}

async fn ensure(own: &Client, accounts: &Api<ServiceAccount>, account: &str) -> anyhow::Result<()> {
    let object = ServiceAccount {
        metadata: ObjectMeta {
            name: Some(account.to_owned()),
            ..ObjectMeta::default()
        },
        ..ServiceAccount::default()
    };
    match accounts.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {
            // No kube-system yet: a cluster on its very first start.
            let namespace = k8s_openapi::api::core::v1::Namespace {
                metadata: ObjectMeta {
                    name: Some(NAMESPACE.to_owned()),
                    ..ObjectMeta::default()
                },
                ..Default::default()
            };
            let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(own.clone());
            namespaces.create(&PostParams::default(), &namespace).await?;
            accounts.create(&PostParams::default(), &object).await?;
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        outcome => Ok(outcome.map(|_| ())?),
    }
}
