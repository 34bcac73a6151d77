//! Takes away everything this program and the CNI plugins it configured leave behind.

use std::path::Path;

use anyhow::Result;

use crate::{execute, render};

/// Where host-local remembers addresses.
const ADDRESSES: &str = "/var/lib/cni/networks";

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
    note(remove(&Path::new(ADDRESSES).join(render::NETWORK)));
    first
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
