//! From nothing to a ready control plane and a ready node: an empty store, certificates at hand, every process down.
//!
//! Works on a cluster that `deploy/up.sh` made before: each round takes it down, empties its store, and times
//! `kubeadm init` on what is left. The cluster is left running.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::Api;
use kube::runtime::watcher;

use super::{median, seconds};

const LIMIT: Duration = Duration::from_secs(60);
/// Between two questions whether the server is ready: few enough not to be part of its work.
const PAUSE: Duration = Duration::from_millis(10);

/// Options of the start benchmark.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Directory of a local cluster; its objects are lost
    #[arg(long)]
    dir: PathBuf,
    /// Directory of the programs
    #[arg(long, default_value = "target/release")]
    bin: PathBuf,
    /// Name of the node
    #[arg(long, default_value = "local")]
    node_name: String,
    /// Rounds; the median counts
    #[arg(long, default_value_t = 10)]
    rounds: usize,
}

/// When things were seen, counted from the start of kubeadm.
#[derive(Clone, Debug, Default)]
struct Seen {
    ready: Duration,
    node_seen: Duration,
    node_ready: Duration,
    kubeadm: Duration,
}

/// A row of the table: a name, and what it reads of a round.
type Row = (&'static str, fn(&Seen) -> Duration);

const ROWS: &[Row] = &[
    ("/readyz", |seen| seen.ready),
    ("node registered", |seen| seen.node_seen),
    ("node Ready", |seen| seen.node_ready),
    ("kubeadm returned", |seen| seen.kubeadm),
];

/// Runs all rounds and prints the medians.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    let mut rounds = Vec::new();
    for round in 0..options.rounds {
        prepare(options)?;
        let seen = tokio::time::timeout(LIMIT, one_round(options))
            .await
            .with_context(|| format!("no ready node within {} s", LIMIT.as_secs()))??;
        eprintln!(
            "round {}: /readyz {} s, node Ready {} s",
            round + 1,
            seconds(seen.ready),
            seconds(seen.node_ready)
        );
        rounds.push(seen);
    }
    println!("median of {}, seconds", rounds.len());
    for (name, read) in ROWS {
        println!(
            "{name:20}{:>8}",
            seconds(median(rounds.iter().map(read).collect()))
        );
    }
    Ok(())
}

/// Everything stopped, the store empty, certificates and images kept.
fn prepare(options: &Options) -> anyhow::Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/down.sh");
    let output = std::process::Command::new(&script)
        .arg("--dir")
        .arg(&options.dir)
        .arg("--keep-data")
        .env("KEELSON_BIN", &options.bin)
        .output()
        .with_context(|| format!("run {}", script.display()))?;
    if !output.status.success() {
        bail!(
            "{}: {}",
            script.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let store = options.dir.join("store");
    std::fs::remove_dir_all(&store).with_context(|| format!("empty {}", store.display()))?;
    for name in ["run/containerd", "cni/net.d", "log"] {
        let path = options.dir.join(name);
        std::fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
    }
    Ok(())
}

async fn one_round(options: &Options) -> anyhow::Result<Seen> {
    let client =
        keelson_client::connect(Some(&options.dir.join("super-admin.conf")), "keelson-bench").await?;
    let log = std::fs::File::create(options.dir.join("log/kubeadm.log")).context("write kubeadm's log")?;
    let began = Instant::now();
    let kubeadm = tokio::process::Command::new(options.bin.join("kubeadm"))
        .args(["init", "--service-manager", "supervisor"])
        .args(["--skip-phases", "mark-control-plane,show-join-command"])
        .args(["--node-name", &options.node_name])
        .arg("--state-dir")
        .arg(&options.dir)
        .stdout(log.try_clone().context("share kubeadm's log")?)
        .stderr(log)
        .stdin(Stdio::null())
        .spawn()
        .context("run kubeadm")?;
    let (watched, returned) = tokio::try_join!(watch(&client, began), ended(kubeadm, began))?;
    Ok(Seen {
        kubeadm: returned,
        ..watched
    })
}

async fn ended(mut kubeadm: tokio::process::Child, began: Instant) -> anyhow::Result<Duration> {
    let status = kubeadm.wait().await.context("wait for kubeadm")?;
    if !status.success() {
        bail!("kubeadm init failed; see its log");
    }
    Ok(began.elapsed())
}

async fn watch(client: &Client, began: Instant) -> anyhow::Result<Seen> {
    let mut seen = Seen::default();
    while client.request_text(http_get("/readyz")?).await.is_err() {
        tokio::time::sleep(PAUSE).await;
    }
    seen.ready = began.elapsed();
    let nodes: Api<Node> = Api::all(client.clone());
    let mut nodes = watcher(nodes, watcher::Config::default()).boxed();
    loop {
        let node = match nodes.try_next().await {
            Ok(Some(watcher::Event::Apply(node) | watcher::Event::InitApply(node))) => node,
            Ok(None) => bail!("the watch of nodes ended"),
            // A server that has just started may refuse; the watcher asks again.
            Ok(Some(_)) | Err(_) => continue,
        };
        if seen.node_seen.is_zero() {
            seen.node_seen = began.elapsed();
        }
        if is_ready(&node) {
            seen.node_ready = began.elapsed();
            return Ok(seen);
        }
    }
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
