//! Waits until the API server is ready.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use keelson_client::connect;

use super::{Init, say};
use crate::services::ServiceManager;

const LIMIT: Duration = Duration::from_secs(240);
const PAUSE: Duration = Duration::from_millis(25);

/// Runs the phase.
pub async fn run(init: &Init) -> anyhow::Result<()> {
    if init.manager == ServiceManager::None {
        return Ok(());
    }
    say(
        "wait-control-plane",
        format!(
            "Waiting for a healthy API server at {}. This can take up to 4m0s",
            init.settings.server()
        ),
    );
    let client = super_admin(init).await?;
    let began = Instant::now();
    loop {
        let request = http::Request::get("/readyz")
            .body(Vec::new())
            .context("build the request")?;
        match client.request_text(request).await {
            Ok(_) => break,
            Err(error) if began.elapsed() > LIMIT => {
                bail!(
                    "the API server is not ready after {} s: {error}; see {}",
                    LIMIT.as_secs(),
                    init.manager.log_of(&init.settings.layout, "kube-apiserver")
                )
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
    say(
        "wait-control-plane",
        format!(
            "The API server is healthy after {} ms",
            began.elapsed().as_millis()
        ),
    );
    Ok(())
}

/// The client of the one who needs no binding to be allowed everything.
pub async fn super_admin(init: &Init) -> anyhow::Result<kube::Client> {
    let conf = init.settings.layout.conf("super-admin");
    connect(Some(conf.as_path()), "kubeadm")
        .await
        .with_context(|| format!("use {}", conf.display()))
}
