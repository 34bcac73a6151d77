//! Runs `ip`, `bridge` and `nft`, and reads what `ip` shows.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::plan::Link;
use crate::render;

/// Runs a program with this standard input; its error output is the error.
pub async fn run(program: &str, args: &[&str], input: &str) -> Result<String> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends early says why itself.
        _ = stdin.write_all(input.as_bytes()).await;
    }
    let output = child
        .wait_with_output()
        .await
        .with_context(|| format!("cannot wait for {program}"))?;
    if !output.status.success() {
        bail!(
            "{program} {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs lines of `ip` or `bridge` in one process.
pub async fn batch(program: &str, lines: &[String]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let input = lines.join("\n") + "\n";
    run(program, &["-batch", "-"], &input).await.map(|_| ())
}

/// The link that has an address.
pub async fn link_of(address: Ipv4Addr) -> Result<Option<Link>> {
    let shown = run("ip", &["-j", "-4", "address", "show"], "").await?;
    let links: Vec<serde_json::Value> =
        serde_json::from_str(&shown).context("cannot read `ip -j address`")?;
    for link in &links {
        for info in link["addr_info"].as_array().into_iter().flatten() {
            if info["local"].as_str() != Some(&address.to_string()) {
                continue;
            }
            let prefix = info["prefixlen"].as_u64().unwrap_or(32) as u8;
            return Ok(Some(Link {
                name: link["ifname"].as_str().unwrap_or_default().to_owned(),
                net: Ipv4Net::new(address, prefix)?,
                mtu: link["mtu"].as_u64().unwrap_or(1500).min(65000) as u32,
            }));
        }
    }
    Ok(None)
}

/// The routes of ours that are in the kernel.
pub async fn present_routes() -> Result<BTreeSet<Ipv4Net>> {
    let protocol = render::PROTOCOL.to_string();
    let shown = run("ip", &["-j", "-4", "route", "show", "proto", &protocol], "").await?;
    let routes: Vec<serde_json::Value> = match shown.trim() {
        "" => Vec::new(),
        text => serde_json::from_str(text).context("cannot read `ip -j route`")?,
    };
    let parse = |dst: &str| {
        dst.parse()
            .ok()
            .or_else(|| dst.parse::<Ipv4Addr>().map(Ipv4Net::from).ok())
    };
    Ok(routes
        .iter()
        .filter_map(|r| r["dst"].as_str())
        .filter_map(parse)
        .collect())
}

/// Whether a link exists.
pub fn link_exists(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists()
}

/// What bridged pods need of the kernel: forwarding, and netfilter seeing packets between pods of one bridge (service
/// addresses are translated there).
pub async fn prepare_kernel() -> Result<()> {
    let bridge = Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables");
    if !bridge.exists() {
        // Absent where it is built in or there are no modules; the write below says so.
        _ = run("modprobe", &["br_netfilter"], "").await;
    }
    let context = "cannot set net.bridge.bridge-nf-call-iptables; load the kernel module br_netfilter";
    set(bridge).context(context)?;
    set(Path::new("/proc/sys/net/ipv4/ip_forward")).context("cannot set net.ipv4.ip_forward")
}

fn set(sysctl: &Path) -> std::io::Result<()> {
    // Inside containers sysctls may be read-only and right already.
    match std::fs::read_to_string(sysctl)?.trim() {
        "1" => Ok(()),
        _ => std::fs::write(sysctl, "1"),
    }
}
