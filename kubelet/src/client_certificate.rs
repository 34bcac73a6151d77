//! The kubelet's client certificate: obtained with a bootstrap token on first start, renewed before it ends.
//!
//! The protocol is upstream's TLS bootstrap: a CertificateSigningRequest for
//! `kubernetes.io/kube-apiserver-client-kubelet`, approved and signed by the control plane. Certificate and key are in one
//! PEM file below `--cert-dir`; `kubelet-client-current.pem` is a link to the newest, switched by rename, and the
//! kubeconfig names the link, so that every client follows a renewal.

use crate::config::Config;
use crate::server::certificate::write_private;
use anyhow::{Context, bail};
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use keelson_base::error::chain;
use kube::api::{Api, PostParams};
use kube::config::{AuthInfo, Kubeconfig, NamedAuthInfo};
use kube::runtime::watcher;
use std::path::{Path, PathBuf};
use std::time::Duration;
use x509_parser::prelude::{FromDer, X509Certificate};

const SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const CURRENT: &str = "kubelet-client-current.pem";
/// How long the control plane may take to approve and sign.
const SIGNED_WITHIN: Duration = Duration::from_secs(15 * 60);
const RETRY: Duration = Duration::from_secs(5);

/// Makes sure that `--kubeconfig` exists and works, by bootstrap if need be.
pub async fn ensure(config: &Config) -> anyhow::Result<()> {
    let (Some(kubeconfig), Some(bootstrap)) = (&config.kubeconfig, &config.bootstrap_kubeconfig) else {
        return Ok(());
    };
    if kubeconfig.exists() && valid_now(kubeconfig) {
        return Ok(());
    }
    if !bootstrap.exists() {
        bail!(
            "{} does not exist and neither does {}: nothing to bootstrap with",
            kubeconfig.display(),
            bootstrap.display()
        );
    }
    tracing::info!(node = %config.node_name, "asking for a client certificate with the bootstrap kubeconfig");
    loop {
        let attempt = async {
            let client = keelson_client::connect(Some(bootstrap), "kubelet-bootstrap").await?;
            let pem = request(&client, &config.node_name).await?;
            store(&config.cert_dir, &pem, Timestamp::now())
        };
        match attempt.await {
            Ok(current) => return write_kubeconfig(bootstrap, kubeconfig, &current),
            Err(error) => {
                tracing::warn!(error = %chain(error.as_ref()), "no client certificate yet; retrying");
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Renews the certificate at four fifths of its life, for ever.
pub async fn renew(client: kube::Client, cert_dir: PathBuf, node: String) {
    let current = cert_dir.join(CURRENT);
    loop {
        let Some((from, until)) = lifetime(&current) else {
            return;
        };
        let wait = renewal_due(from, until)
            .duration_since(Timestamp::now())
            .max(SignedDuration::ZERO);
        tokio::time::sleep(Duration::try_from(wait).unwrap_or_default()).await;
        let renewed = async { store(&cert_dir, &request(&client, &node).await?, Timestamp::now()) };
        match renewed.await {
            Ok(_) => tracing::info!("client certificate renewed"),
            Err(error) => {
                tracing::warn!(error = %chain(error.as_ref()), "client certificate not renewed; retrying");
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
        }
    }
}

/// When a certificate of this life is to be renewed.
fn renewal_due(from: Timestamp, until: Timestamp) -> Timestamp {
    let life = until.duration_since(from);
    from.checked_add(life * 4 / 5).unwrap_or(until)
}

/// Asks for a certificate and waits for it; gives certificate and key as PEM.
async fn request(client: &kube::Client, node: &str) -> anyhow::Result<String> {
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new(vec![])?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::OrganizationName, "system:nodes");
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, format!("system:node:{node}"));
    let csr = params.serialize_request(&key)?.pem()?;
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let made = api
        .create(
            &PostParams::default(),
            &CertificateSigningRequest {
                metadata: ObjectMeta {
                    generate_name: Some("csr-".into()),
                    ..ObjectMeta::default()
                },
                spec: CertificateSigningRequestSpec {
                    request: ByteString(csr.into_bytes()),
                    signer_name: SIGNER.into(),
                    usages: Some(vec!["digital signature".into(), "client auth".into()]),
                    ..CertificateSigningRequestSpec::default()
                },
                status: None,
            },
        )
        .await
        .context("cannot create the certificate signing request")?;
    let name = made.metadata.name.unwrap_or_default();
    let cert = tokio::time::timeout(SIGNED_WITHIN, signed(api, &name))
        .await
        .with_context(|| format!("certificate signing request {name} was not signed in time"))??;
    Ok(format!("{cert}{}", key.serialize_pem()))
}

/// Waits by watch until the request is signed, denied or failed.
async fn signed(api: Api<CertificateSigningRequest>, name: &str) -> anyhow::Result<String> {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = std::pin::pin!(watcher::watcher(api, config));
    while let Some(event) = events.next().await {
        let request = match event {
            Ok(watcher::Event::Apply(request) | watcher::Event::InitApply(request)) => request,
            Ok(_) => continue,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "cannot follow the certificate signing request; retrying");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let Some(status) = request.status else { continue };
        for condition in status.conditions.iter().flatten() {
            if matches!(condition.type_.as_str(), "Denied" | "Failed") {
                bail!(
                    "certificate signing request {name} is {}: {} {}",
                    condition.type_.to_lowercase(),
                    condition.reason.as_deref().unwrap_or_default(),
                    condition.message.as_deref().unwrap_or_default()
                );
            }
        }
        if let Some(cert) = status.certificate.filter(|c| !c.0.is_empty()) {
            return String::from_utf8(cert.0).context("the signed certificate is not PEM");
        }
    }
    bail!("the watch of certificate signing request {name} ended")
}

/// Writes a dated PEM file and points the link at it.
fn store(dir: &Path, pem: &str, now: Timestamp) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let name = format!("kubelet-client-{}.pem", now.strftime("%Y-%m-%d-%H-%M-%S"));
    write_private(&dir.join(&name), pem)?;
    let (staged, current) = (dir.join("kubelet-client-updated.pem"), dir.join(CURRENT));
    let _ = std::fs::remove_file(&staged);
    std::os::unix::fs::symlink(&name, &staged).context("cannot link the client certificate")?;
    std::fs::rename(&staged, &current).context("cannot link the client certificate")?;
    Ok(current)
}

/// The bootstrap kubeconfig with the certificate instead of the token.
fn write_kubeconfig(bootstrap: &Path, target: &Path, current: &Path) -> anyhow::Result<()> {
    let mut config = Kubeconfig::read_from(bootstrap).context("cannot read the bootstrap kubeconfig")?;
    let path = current.display().to_string();
    let user = AuthInfo {
        client_certificate: Some(path.clone()),
        client_key: Some(path),
        ..AuthInfo::default()
    };
    config.auth_infos = vec![NamedAuthInfo {
        name: "default-auth".into(),
        auth_info: Some(user),
        ..NamedAuthInfo::default()
    }];
    for context in &mut config.contexts {
        if let Some(context) = &mut context.context {
            context.user = Some("default-auth".into());
        }
    }
    if let Some(dir) = target.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    write_private(target, &serde_yaml::to_string(&config)?)
}

/// Whether the certificate a kubeconfig names, if it names a file, is still good.
fn valid_now(kubeconfig: &Path) -> bool {
    let Ok(config) = Kubeconfig::read_from(kubeconfig) else {
        return false;
    };
    let user = config.auth_infos.first().and_then(|a| a.auth_info.as_ref());
    match user.and_then(|u| u.client_certificate.as_ref()) {
        Some(path) => lifetime(Path::new(path)).is_some_and(|(_, until)| Timestamp::now() < until),
        None => true,
    }
}

/// From when until when the first certificate of a PEM file is good.
fn lifetime(path: &Path) -> Option<(Timestamp, Timestamp)> {
    let certs = keelson_base::tls::load_certs(path).ok()?;
    let (_, cert) = X509Certificate::from_der(certs.first()?).ok()?;
    let at = |t: x509_parser::time::ASN1Time| Timestamp::from_second(t.timestamp()).ok();
    Some((at(cert.validity().not_before)?, at(cert.validity().not_after)?))
}

#[cfg(test)]
#[path = "client_certificate_tests.rs"]
mod renewal_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubeconfig_follows_the_newest_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let at = |s| Timestamp::from_second(s).unwrap();
        store(dir.path(), "one", at(1)).unwrap();
        let current = store(dir.path(), "two", at(2)).unwrap();
        assert_eq!(std::fs::read_to_string(&current).unwrap(), "two");
        let (bootstrap, target) = (dir.path().join("b.conf"), dir.path().join("k.conf"));
        std::fs::write(
            &bootstrap,
            "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: \"https://x\"}}]\n\
             users: [{name: t, user: {token: a.b}}]\ncontexts: [{name: c, context: {cluster: c, user: t}}]\ncurrent-context: c\n",
        )
        .unwrap();
        write_kubeconfig(&bootstrap, &target, &current).unwrap();
        let text = std::fs::read_to_string(&target).unwrap();
        assert!(
            text.contains("kubelet-client-current.pem") && !text.contains("a.b"),
            "{text}"
        );
        assert!(!valid_now(&target), "its certificate is no certificate");
    }
}
