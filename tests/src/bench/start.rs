//! From nothing to a ready control plane and a ready node, certificates at hand.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams};

use super::seconds;

const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(5);

/// Options of the start benchmark.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Directory of a cluster that was prepared (certificates, kubeconfigs, units) and is stopped
    #[arg(long)]
    dir: PathBuf,
    /// Directory of the programs
    #[arg(long, default_value = "target/release")]
    bin: PathBuf,
}

/// Starts the units of `dir` and prints when the API server and the node became ready.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    let began = Instant::now();
    let path = |name: &str| options.dir.join(name);
    let status = Command::new(options.bin.join("keelson-supervisor"))
        .arg("start")
        .arg("--units")
        .arg(path("units"))
        .arg("--run-dir")
        .arg(path("run"))
        .arg("--log-dir")
        .arg(path("log"))
        .status()
        .context("run keelson-supervisor")?;
    if !status.success() {
        bail!("the supervisor did not start");
    }
    let client = keelson_client::connect(Some(path("super-admin.conf").as_path()), "keelson-bench").await?;
    loop {
        let request = http_get("/readyz")?;
        if client.request_text(request).await.is_ok() {
            break;
        }
        if began.elapsed() > LIMIT {
            bail!("/readyz did not answer within {} s", LIMIT.as_secs());
        }
        tokio::time::sleep(PAUSE).await;
    }
    println!("/readyz     {} s", seconds(began.elapsed()));
    let nodes: Api<Node> = Api::all(client);
    while !nodes
        .list(&ListParams::default())
        .await?
        .items
        .iter()
        .any(is_ready)
    {
        if began.elapsed() > LIMIT {
            bail!("no node was ready within {} s", LIMIT.as_secs());
        }
        tokio::time::sleep(PAUSE).await;
    }
    println!("node Ready  {} s", seconds(began.elapsed()));
    Ok(())
}

fn http_get(path: &str) -> anyhow::Result<http::Request<Vec<u8>>> {
    http::Request::get(path)
        .body(Vec::new())
        .context("build the request")
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
