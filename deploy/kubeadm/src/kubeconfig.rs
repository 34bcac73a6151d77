//! Kubeconfig files: how each component and person proves who it is.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::pki::{Issued, Leaf, Subject, subject};
use crate::settings::Settings;
use crate::yaml;

/// One kubeconfig to have: file name without ending, and the identity in it.
#[derive(Clone, Debug)]
pub struct Identity {
    pub file: &'static str,
    /// The user's name within the file.
    pub user: String,
    pub subject: Subject,
}

/// The table of kubeconfigs of a control-plane node.
pub fn identities(settings: &Settings) -> Vec<Identity> {
    let node = format!("system:node:{}", settings.node_name);
    let plain = |file, name: &str| Identity {
        file,
        user: name.to_owned(),
        subject: subject(name, &[]),
    };
    let grouped = |file, name: &str, group: &str| Identity {
        file,
        user: name.to_owned(),
        subject: subject(name, &[group]),
    };
    vec![
        grouped("admin", "kubernetes-admin", "kubeadm:cluster-admins"),
        grouped("super-admin", "kubernetes-super-admin", "system:masters"),
        grouped("kubelet", &node, "system:nodes"),
        plain("controller-manager", "system:kube-controller-manager"),
        plain("scheduler", "system:kube-scheduler"),
        plain("kube-proxy", "system:kube-proxy"),
        plain("cluster-dns", "keelson:cluster-dns"),
        plain("network", "keelson:network"),
    ]
}

/// The client certificate behind an identity.
pub fn leaf(identity: &Identity) -> Leaf {
    Leaf {
        file: identity.file,
        ca: "ca",
        subject: identity.subject.clone(),
        server: false,
        client: true,
        sans: vec![],
    }
}

/// The file's text with a certificate inside.
pub fn with_certificate(server: &str, ca_pem: &str, user: &str, issued: &Issued) -> String {
    let credentials = json!({
        "client-certificate-data": STANDARD.encode(&issued.cert),
        "client-key-data": STANDARD.encode(&issued.key),
    });
    render(server, Some(ca_pem), user, &credentials)
}

/// The file's text with the path of a file that holds certificate and key.
pub fn with_certificate_file(server: &str, ca_pem: &str, user: &str, file: &Path) -> String {
    render(
        server,
        Some(ca_pem),
        user,
        &json!({"client-certificate": file, "client-key": file}),
    )
}

/// The file's text with a bearer token, as a joining kubelet starts from.
pub fn with_token(server: &str, ca_pem: &str, user: &str, token: &str) -> String {
    render(server, Some(ca_pem), user, &json!({"token": token}))
}

/// The public half: what `cluster-info` offers to anyone.
pub fn cluster_only(server: &str, ca_pem: &str) -> String {
    yaml::render(&json!({
        "apiVersion": "v1", "kind": "Config", "contexts": null, "current-context": "", "preferences": {}, "users": null,
        "clusters": [{"name": "", "cluster": cluster(server, Some(ca_pem))}],
    }))
}

fn cluster(server: &str, ca_pem: Option<&str>) -> Value {
    match ca_pem {
        Some(pem) => json!({"certificate-authority-data": STANDARD.encode(pem), "server": server}),
        None => json!({"server": server}),
    }
}

fn render(server: &str, ca_pem: Option<&str>, user: &str, credentials: &Value) -> String {
    let context = format!("{user}@kubernetes");
    yaml::render(&json!({
        "apiVersion": "v1", "kind": "Config", "preferences": {}, "current-context": context,
        "clusters": [{"name": "kubernetes", "cluster": cluster(server, ca_pem)}],
        "contexts": [{"name": context, "context": {"cluster": "kubernetes", "user": user}}],
        "users": [{"name": user, "user": credentials}],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_reads_back() {
        let text = with_token(
            "https://h:6443",
            "PEM",
            "tls-bootstrap-token-user",
            "abcdef.0123456789abcdef",
        );
        let back: Value = serde_yaml::from_str(&text).unwrap();
        assert_eq!(back["users"][0]["user"]["token"], "abcdef.0123456789abcdef");
        assert_eq!(back["current-context"], "tls-bootstrap-token-user@kubernetes");
        assert_eq!(back["clusters"][0]["cluster"]["server"], "https://h:6443");
    }
}
