//! Kubeconfig files with client certificates.

use std::path::PathBuf;

use anyhow::Context;

use super::{Init, say};
use crate::kubeconfig::{identities, leaf, with_certificate, with_certificate_file};
use crate::pki::{Date, Issued, issue, write_secret};
use crate::settings::Settings;

/// Runs the phase.
pub async fn run(init: &Init) -> anyhow::Result<()> {
    say(
        "kubeconfig",
        format!(
            "Using kubeconfig folder {:?}",
            init.settings.layout.conf_dir().display().to_string()
        ),
    );
    for identity in identities(&init.settings) {
        let path = init.settings.layout.conf(identity.file);
        if path.exists() {
            say(
                "kubeconfig",
                format!("Using existing kubeconfig file: {}", path.display()),
            );
            continue;
        }
        say(
            "kubeconfig",
            format!("Writing \"{}.conf\" kubeconfig file", identity.file),
        );
        write(&init.settings, identity.file)?;
    }
    Ok(())
}

/// Writes one file anew.
pub fn write(settings: &Settings, file: &str) -> anyhow::Result<()> {
    let all = identities(settings);
    let identity = all
        .iter()
        .find(|one| one.file == file)
        .with_context(|| format!("no kubeconfig named {file:?}"))?;
    let pki = settings.layout.pki();
    let ca = std::fs::read_to_string(pki.join("ca.crt")).context("read the cluster's CA")?;
    let issued = issue(&pki, &leaf(identity), Date::today())?;
    if file == "kubelet" {
        let current = store_kubelet_certificate(settings, &issued)?;
        let text = with_certificate_file(&settings.server(), &ca, &identity.user, &current);
        return write_secret(&settings.layout.conf(file), &text);
    }
    let text = with_certificate(&settings.server(), &ca, &identity.user, &issued);
    write_secret(&settings.layout.conf(file), &text)
}

/// Certificate and key in one file where the kubelet looks for them and puts its renewals, behind the same link.
fn store_kubelet_certificate(settings: &Settings, issued: &Issued) -> anyhow::Result<PathBuf> {
    let dir = settings.layout.kubelet().join("pki");
    let stamp = jiff::Timestamp::now().strftime("%Y-%m-%d-%H-%M-%S");
    let name = format!("kubelet-client-{stamp}.pem");
    write_secret(&dir.join(&name), &format!("{}{}", issued.cert, issued.key))?;
    let (staged, current) = (
        dir.join("kubelet-client-updated.pem"),
        dir.join("kubelet-client-current.pem"),
    );
    std::os::unix::fs::symlink(&name, &staged)
        .and_then(|()| std::fs::rename(&staged, &current))
        .with_context(|| format!("link {}", current.display()))?;
    Ok(current)
}
