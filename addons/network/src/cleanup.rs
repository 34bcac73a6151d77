//! Takes away everything this program and the CNI plugins it configured leave behind.

use std::path::Path;

use anyhow::{Context, Result};

use crate::{execute, host_ports, render};

/// Where CNI plugins keep what they did: host-local its addresses, the library its results.
const STATE: &str = "/var/lib/cni";

/// Removes configuration, table, routes, devices and remembered addresses; goes on after an error, and reports the
/// first.
pub async fn cleanup(cni_conf_dir: &Path) -> Result<()> {
    let mut first = Ok(());
    let mut note = |result: Result<()>| {
        if let Err(error) = result {
            tracing::warn!("{error:#}");
            if first.is_ok() {
                first = Err(error);
            }
        }
    };
    note(remove(&cni_conf_dir.join(render::CONF_FILE)));
    note(
        execute::run("nft", &["-f", "-"], &render::nft_delete())
            .await
            .map(|_| ()),
    );
    match execute::present_routes().await {
        Ok(routes) => {
            let lines: Vec<String> = routes.iter().map(render::route_delete).collect();
            note(execute::batch("ip", &lines).await);
        }
        Err(error) => note(Err(error)),
    }
    for device in [render::VXLAN, render::BRIDGE] {
        if execute::link_exists(device) {
            note(execute::batch("ip", &[format!("link del {device}")]).await);
        }
    }
    for family in ["ip", "ip6"] {
        note(remove_host_ports(family).await);
    }
    note(remove_state(Path::new(STATE)));
    first
}

async fn remove_host_ports(family: &str) -> Result<()> {
    // An error: there is no such table.
    let Ok(shown) = execute::run("nft", &["-j", "list", "table", family, "nat"], "").await else {
        return Ok(());
    };
    let listed = serde_json::from_str(&shown).context("cannot read `nft -j list table`")?;
    match host_ports::plan_removal(family, &listed) {
        lines if lines.is_empty() => Ok(()),
        lines => execute::run("nft", &["-f", "-"], &(lines.join("\n") + "\n"))
            .await
            .map(|_| ()),
    }
}

/// Removes this network's addresses and results, those of the loopback of the same pods, and directories left empty.
fn remove_state(state: &Path) -> Result<()> {
    remove(&state.join("networks").join(render::NETWORK))?;
    let results = state.join("results");
    for name in names(&results) {
        let ours = name
            .strip_prefix(render::NETWORK)
            .and_then(|rest| rest.strip_prefix('-'));
        if let Some(pod) = ours.and_then(|rest| rest.split('-').next()) {
            remove(&results.join(&name))?;
            remove(&results.join(format!("cni-loopback-{pod}-lo")))?;
        }
    }
    for dir in [&state.join("networks"), &results, state] {
        // Refused where something is in it, or it is a mount point.
        _ = std::fs::remove_dir(dir);
    }
    Ok(())
}

/// What a directory holds; nothing where it is absent.
fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(anyhow::Error::from(error).context(format!("cannot remove {}", path.display())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_networks_state_goes() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("cni");
        let write = |name: &str| {
            let path = state.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        };
        for name in [
            "networks/keelson/10.244.0.2",
            "results/keelson-aa-eth0",
            "results/cni-loopback-aa-lo",
        ] {
            write(name);
        }
        let others = [
            "networks/other/10.1.0.2",
            "results/other-bb-eth0",
            "results/cni-loopback-bb-lo",
        ];
        others.iter().for_each(|name| write(name));
        remove_state(&state).unwrap();
        assert!(!state.join("networks/keelson").exists());
        assert_eq!(names(&state.join("results")).len(), 2);
        assert!(others.iter().all(|name| state.join(name).exists()));
        for name in others {
            std::fs::remove_file(state.join(name)).unwrap();
        }
        std::fs::remove_dir(state.join("networks/other")).unwrap();
        remove_state(&state).unwrap();
        assert!(!state.exists());
        remove_state(&state).unwrap();
    }
}
