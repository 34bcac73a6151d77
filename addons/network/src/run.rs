//! Watches nodes and carries out the plan.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus};
use keelson_base::Shutdown;
use kube::Api;
use kube::runtime::watcher;

use crate::flags::Flags;
use crate::plan::{self, Desired, Member};
use crate::{cleanup, execute, render};

/// Pause after a failure before the same is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Runs until shutdown; with `--cleanup`, once.
pub async fn run(flags: Flags, shutdown: Shutdown) -> Result<()> {
    if flags.cleanup {
        return cleanup::cleanup(&flags.cni_conf_dir).await;
    }
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").map(|h| h.trim().to_lowercase());
    let name = match flags.node_name.clone() {
        Some(name) => name,
        None => host().context("cannot read the host's name")?,
    };
    execute::prepare_kernel().await?;
    let user_agent = concat!("keelson-network/", env!("CARGO_PKG_VERSION"));
    let client = keelson_client::connect(flags.kubeconfig.as_deref(), user_agent).await?;
    let nodes = keelson_client::informer::informer_trimmed::<Node>(
        Api::all(client),
        watcher::Config::default(),
        trim,
    );
    let mut changes = nodes.subscribe();
    keelson_base::notify::ready();
    tokio::select! {
        () = nodes.synced() => {}
        () = shutdown.wait() => return Ok(()),
    }
    let mut done: Option<Desired> = None;
    loop {
        let members: Vec<Member> = nodes.list().iter().filter_map(|n| Member::new(n)).collect();
        let failed = match apply(&flags, &name, &members, &mut done).await {
            Ok(()) => false,
            Err(error) => {
                tracing::warn!("cannot set up the network; trying again: {error:#}");
                true
            }
        };
        tokio::select! {
            _ = changes.recv() => while changes.try_recv().is_some() {},
            () = tokio::time::sleep(RETRY), if failed => {}
            () = shutdown.wait() => return Ok(()),
        }
    }
}

/// Only what `Member` reads stays in memory.
fn trim(node: &mut Node) {
    node.metadata.annotations = None;
    node.metadata.labels = None;
    let spec = node.spec.take().unwrap_or_default();
    node.spec = Some(NodeSpec {
        pod_cidr: spec.pod_cidr,
        pod_cidrs: spec.pod_cidrs,
        ..NodeSpec::default()
    });
    let addresses = node.status.take().and_then(|s| s.addresses);
    node.status = Some(NodeStatus {
        addresses,
        ..NodeStatus::default()
    });
}

async fn apply(flags: &Flags, name: &str, members: &[Member], done: &mut Option<Desired>) -> Result<()> {
    let Some(own) = members.iter().find(|m| m.name == name) else {
        tracing::debug!("the node has no pod CIDR or address yet");
        return Ok(());
    };
    let link = execute::link_of(own.address).await?;
    let link =
        link.with_context(|| format!("no link of this host has the node's address {}", own.address))?;
    let Some(desired) = plan::plan(name, members, &link, flags.cluster_cidr) else {
        return Ok(());
    };
    if done.as_ref() == Some(&desired) {
        return Ok(());
    }
    execute::run("nft", &["-f", "-"], &render::nft(&desired)).await?;
    if let Some(tunnel) = desired
        .tunnel
        .as_ref()
        .filter(|_| !execute::link_exists(render::VXLAN))
    {
        execute::batch("ip", &render::tunnel(tunnel)).await?;
    }
    let present = execute::present_routes().await?;
    let mut lines: Vec<String> = plan::obsolete(&present, &desired)
        .iter()
        .map(render::route_delete)
        .collect();
    lines.extend(render::routes(&desired));
    execute::batch("ip", &lines).await?;
    execute::batch("bridge", &render::forwarding(&desired)).await?;
    if desired.tunnel.is_none() && execute::link_exists(render::VXLAN) {
        execute::batch("ip", &[format!("link del {}", render::VXLAN)]).await?;
    }
    // Last: its presence is what makes the runtime, and so the node, ready.
    write_conf(&flags.cni_conf_dir, &render::cni_conf(&desired))?;
    tracing::info!(pod_cidr = %desired.pod_cidr, routes = desired.routes.len(), "the pod network is set up");
    *done = Some(desired);
    Ok(())
}

/// Replaces the file in one step, so that the runtime never reads half of it.
fn write_conf(directory: &Path, text: &str) -> Result<()> {
    let path = directory.join(render::CONF_FILE);
    if std::fs::read_to_string(&path).is_ok_and(|present| present == text) {
        return Ok(());
    }
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let fresh = directory.join(".10-keelson.tmp");
    let written = std::fs::write(&fresh, text).and_then(|()| std::fs::rename(&fresh, &path));
    written.with_context(|| format!("cannot write {}", path.display()))
}
