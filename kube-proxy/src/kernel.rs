//! Runs `nft` and `conntrack`, and sets the kernel's limits.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::conntrack::{self, Flow};

/// Applies one transaction.
pub async fn nft(text: &str) -> Result<()> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start nft")?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends early says why itself.
        _ = stdin.write_all(text.as_bytes()).await;
    }
    let output = child.wait_with_output().await.context("cannot wait for nft")?;
    if !output.status.success() {
        bail!(
            "nft refused the transaction: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// Deletes conntrack entries. That there are none is no error.
pub async fn delete_flows(flows: &[Flow]) -> Result<()> {
    for flow in flows {
        let args = conntrack::arguments(flow);
        let output = Command::new("conntrack")
            .args(&args)
            .output()
            .await
            .context("cannot start conntrack")?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() && !said.contains("0 flow entries") {
            bail!("conntrack {}: {}", args.join(" "), said.trim());
        }
    }
    Ok(())
}

/// A kernel setting and the value it shall have.
#[derive(Clone, Copy, Debug)]
pub struct Sysctl {
    pub path: &'static str,
    pub value: u64,
    /// A larger value that is there stays.
    pub at_least: bool,
}

/// Sets them as far as the kernel lets us; inside a container it may not.
pub fn set(all: &[Sysctl]) {
    for sysctl in all.iter().filter(|s| s.value > 0) {
        let path = Path::new("/proc/sys/net/netfilter").join(sysctl.path);
        let present: u64 = std::fs::read_to_string(&path)
            .ok()
            .and_then(|t| t.trim().parse().ok())
            .unwrap_or(0);
        if present == sysctl.value || (sysctl.at_least && present > sysctl.value) {
            continue;
        }
        if let Err(error) = std::fs::write(&path, sysctl.value.to_string()) {
            tracing::info!(path = %path.display(), %error, "cannot set");
        }
    }
}
