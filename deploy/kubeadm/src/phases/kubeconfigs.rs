//! Kubeconfig files with client certificates.

use anyhow::Context;

use super::{Init, say};
use crate::kubeconfig::{identities, leaf, with_certificate};
use crate::pki::{Date, issue, write_secret};
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
    let text = with_certificate(&settings.server(), &ca, &identity.user, &issued);
    write_secret(&settings.layout.conf(file), &text)
}
