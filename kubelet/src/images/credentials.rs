//! Credentials for registries, from `imagePullSecrets` (dockerconfigjson and dockercfg).

use base64::Engine;
use k8s_openapi::api::core::v1::Secret;
use keelson_proto::cri::v1::AuthConfig;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize, Default)]
struct Entry {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
}

#[derive(Deserialize)]
struct DockerConfigJson {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

/// Credentials that fit the registry of an image, most specific first.
pub fn matching(registry: &str, secrets: &[Secret]) -> Vec<AuthConfig> {
    let mut found: Vec<(usize, AuthConfig)> = Vec::new();
    for secret in secrets {
        for (server, entry) in entries(secret) {
            let host = server
                .trim_start_matches("https://")
                .trim_start_matches("http://");
            let host = host.split('/').next().unwrap_or_default();
            let hub = registry == "docker.io" && matches!(host, "index.docker.io" | "docker.io");
            if hub || host == registry {
                found.push((server.len(), auth(&entry)));
            }
        }
    }
    found.sort_by_key(|(len, _)| std::cmp::Reverse(*len));
    found.into_iter().map(|(_, auth)| auth).collect()
}

fn entries(secret: &Secret) -> BTreeMap<String, Entry> {
    let data = secret.data.as_ref();
    let get = |key: &str| data.and_then(|d| d.get(key)).map(|b| b.0.as_slice());
    if let Some(bytes) = get(".dockerconfigjson") {
        return serde_json::from_slice::<DockerConfigJson>(bytes)
            .map(|c| c.auths)
            .unwrap_or_default();
    }
    get(".dockercfg")
        .and_then(|bytes| serde_json::from_slice(bytes).ok())
        .unwrap_or_default()
}

fn auth(entry: &Entry) -> AuthConfig {
    let decoded = base64::engine::general_purpose::STANDARD.decode(&entry.auth).ok();
    let pair = decoded.and_then(|d| String::from_utf8(d).ok());
    let (username, password) = match pair.as_deref().and_then(|p| p.split_once(':')) {
        Some((user, password)) => (user.to_owned(), password.trim_end_matches('\0').to_owned()),
        None => (entry.username.clone(), entry.password.clone()),
    };
    AuthConfig {
        username,
        password,
        ..AuthConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_match_by_registry() {
        let secret: Secret = serde_json::from_value(serde_json::json!({"data": {".dockerconfigjson":
            base64::engine::general_purpose::STANDARD.encode(
                r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"},"r.io":{"username":"a","password":"b"}}}"#)}}))
        .unwrap();
        let secrets = [secret];
        assert_eq!(matching("docker.io", &secrets)[0].password, "p");
        assert_eq!(matching("r.io", &secrets)[0].username, "a");
        assert!(matching("x.io", &secrets).is_empty());
    }
}
