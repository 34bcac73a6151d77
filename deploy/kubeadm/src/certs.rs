//! `kubeadm certs`: when certificates expire, and new ones signed by the same CAs.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::kubeconfig::identities;
use crate::layout::Layout;
use crate::phases::kubeconfigs;
use crate::pki::{CAS, Date, leaves, renew_leaf};
use crate::settings::Settings;
use crate::token::table;

/// Prints a table as upstream does.
pub fn check_expiration(layout: &Layout) -> anyhow::Result<()> {
    let now = jiff::Timestamp::now();
    let mut rows = vec![["CERTIFICATE", "EXPIRES", "RESIDUAL TIME"].map(str::to_owned)];
    for (name, path) in files(layout)? {
        let der = certificate(&path)?;
        let (_, parsed) =
            x509_parser::parse_x509_certificate(&der).with_context(|| format!("parse {}", path.display()))?;
        let ends = jiff::Timestamp::from_second(parsed.validity().not_after.timestamp())
            .context("the end's time")?;
        let days = ends.duration_since(now).as_hours() / 24;
        rows.push([
            name,
            ends.strftime("%b %d, %Y %H:%M UTC").to_string(),
            format!("{days}d"),
        ]);
    }
    print!("{}", table(&rows));
    Ok(())
}

/// Every certificate of the node, by name.
fn files(layout: &Layout) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let mut stack = vec![layout.pki()];
    while let Some(dir) = stack.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))? {
            let path = entry.with_context(|| format!("list {}", dir.display()))?.path();
            if path.is_dir() {
                stack.push(path);
            } else if path.extension().is_some_and(|ending| ending == "crt") {
                let name = path
                    .strip_prefix(layout.pki())
                    .unwrap_or(&path)
                    .with_extension("");
                found.push((name.display().to_string().replace('/', "-"), path));
            }
        }
    }
    for entry in std::fs::read_dir(layout.conf_dir()).context("list the kubeconfigs")? {
        let path = entry.context("list the kubeconfigs")?.path();
        if path.extension().is_some_and(|ending| ending == "conf") {
            found.push((
                path.file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
                path,
            ));
        }
    }
    found.sort();
    Ok(found)
}

/// The certificate of a PEM file or inside a kubeconfig.
fn certificate(path: &Path) -> anyhow::Result<Vec<u8>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let text = match path.extension().is_some_and(|ending| ending == "conf") {
        false => text,
        true => {
            use base64::Engine;
            let value: serde_json::Value =
                serde_yaml::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
            let user = &value["users"][0]["user"];
            match (
                user["client-certificate-data"].as_str(),
                user["client-certificate"].as_str(),
            ) {
                (Some(data), _) => {
                    let bytes = base64::engine::general_purpose::STANDARD
                        .decode(data)
                        .context("decode the certificate")?;
                    String::from_utf8(bytes).context("the certificate is not PEM")?
                }
                (None, Some(file)) => {
                    std::fs::read_to_string(file).with_context(|| format!("read {file}"))?
                }
                (None, None) => bail!("{} holds no client certificate", path.display()),
            }
        }
    };
    Ok(pem::parse(text)
        .with_context(|| format!("parse {}", path.display()))?
        .into_contents())
}

/// Signs anew; running servers take the files up by themselves.
pub fn renew(settings: &Settings, name: &str) -> anyhow::Result<()> {
    let dir = settings.layout.pki();
    let mut renewed = 0;
    for leaf in leaves(settings)? {
        if name == "all" || name == leaf.file.replace('/', "-") {
            renew_leaf(&dir, &leaf, Date::today())?;
            println!("certificate {} renewed", leaf.file);
            renewed += 1;
        }
    }
    for identity in identities(settings) {
        if name == "all" || name == format!("{}.conf", identity.file) {
            kubeconfigs::write(settings, identity.file)?;
            println!(
                "certificate embedded in the kubeconfig file {}.conf renewed",
                identity.file
            );
            renewed += 1;
        }
    }
    if CAS.iter().any(|(file, _)| name == file.replace('/', "-")) {
        bail!(
            "{name} is a CA: a new CA needs every certificate and kubeconfig replaced, which renew does not do"
        );
    }
    if renewed == 0 {
        bail!("no certificate named {name:?}: see 'kubeadm certs check-expiration'");
    }
    Ok(())
}
