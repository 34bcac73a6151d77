//! The kubelet's HTTPS server.

use crate::config::Config;
use crate::host::Host;
use crate::pods::Pods;
use keelson_base::Shutdown;
use std::sync::Arc;

pub async fn start(
    _config: &Config,
    _host: Arc<Host>,
    _pods: Arc<Pods>,
    _shutdown: Shutdown,
) -> anyhow::Result<()> {
    Ok(())
}
