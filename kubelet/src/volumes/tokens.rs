//! Service account tokens bound to pods (TokenRequest), renewed at 80 % of their life or after a day.

use crate::pod;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{Api, PostParams};
use parking_lot::Mutex;
use std::collections::HashMap;

const DAY_S: i64 = 24 * 3600;

/// What one token is asked for: pod uid, service account, audience, lifetime.
type Key = (String, String, String, i64);

#[derive(Clone)]
struct Held {
    token: String,
    renew_at: Timestamp,
}

/// The node's tokens, in memory only.
pub struct Tokens {
    client: kube::Client,
    /// Guards the table; never held across a request.
    held: Mutex<HashMap<Key, Held>>,
}

impl Tokens {
    pub fn new(client: kube::Client) -> Self {
        Tokens {
            client,
            held: Mutex::default(),
        }
    }

    /// A token and when it should be asked for again.
    pub async fn get(
        &self,
        pod: &Pod,
        audience: &str,
        expiration_s: i64,
    ) -> Result<(String, Timestamp), String> {
        let account = pod::spec(pod)
            .service_account_name
            .clone()
            .unwrap_or_else(|| "default".into());
        let key = (
            pod::uid(pod).to_owned(),
            account.clone(),
            audience.to_owned(),
            expiration_s,
        );
        let now = Timestamp::now();
        let held = self.held.lock().get(&key).cloned();
        if let Some(held) = held.as_ref().filter(|h| now < h.renew_at) {
            return Ok((held.token.clone(), held.renew_at));
        }
        match self.request(pod, &account, audience, expiration_s).await {
            Ok((token, expires)) => {
                let renew_at = renewal(now, expires);
                self.held.lock().insert(
                    key,
                    Held {
                        token: token.clone(),
                        renew_at,
                    },
                );
                Ok((token, renew_at))
            }
            Err(error) => match held {
                // The old one is still good for a while: ask again in a minute.
                Some(held) => {
                    let soon = now
                        .checked_add(jiff::SignedDuration::from_secs(60))
                        .unwrap_or(now);
                    tracing::warn!(pod = %pod::full_name(pod), %error, "service account token not renewed; retrying");
                    Ok((held.token, soon))
                }
                None => Err(format!("failed to fetch token: {error}")),
            },
        }
    }

    pub fn forget(&self, pod_uid: &str) {
        self.held.lock().retain(|(uid, ..), _| uid != pod_uid);
    }

    async fn request(
        &self,
        pod: &Pod,
        account: &str,
        audience: &str,
        ttl_s: i64,
    ) -> Result<(String, Timestamp), String> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), pod::namespace(pod));
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: (!audience.is_empty()).then(|| vec![audience.to_owned()]),
                expiration_seconds: Some(ttl_s),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: pod.metadata.name.clone(),
                    uid: pod.metadata.uid.clone(),
                }),
            }),
            ..TokenRequest::default()
        };
        let answer = api
            .create_token_request(account, &PostParams::default(), &request)
            .await
            .map_err(|e| keelson_base::error::chain(&e))?;
        let status = answer.status.ok_or("the API server answered without a token")?;
        let token = status.token.ok_or("the API server answered without a token")?;
        let expires = status
            .expiration_timestamp
            .ok_or("the API server answered without an expiration")?;
        Ok((token, expires.0))
    }
}

/// 80 % of the life, at most a day from now.
fn renewal(now: Timestamp, expires: Timestamp) -> Timestamp {
    let life = expires.duration_since(now).as_secs();
    let wait = (life * 8 / 10).clamp(1, DAY_S);
    now.checked_add(jiff::SignedDuration::from_secs(wait))
        .unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_renewed_in_time() {
        let at = |s| Timestamp::from_second(s).unwrap();
        assert_eq!(renewal(at(0), at(3600)), at(2880));
        assert_eq!(renewal(at(0), at(365 * DAY_S)), at(DAY_S));
    }
}
