//! The end of every fault test: members are equal, on the wire and on disk, and the history holds.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use keelson_proto::etcd::etcdserverpb as pb;
use keelson_proto::etcd::etcdserverpb::kv_client::KvClient;
use keelson_proto::etcd::etcdserverpb::lease_client::LeaseClient;
use keelson_proto::etcd::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_store_disk::sled_engine::SledEngine;
use keelson_store_disk::{Disk, Engine, RealDisk};
use keelson_store_mvcc::Mvcc;
use keelson_store_sim::watching::Truth;
use kube_store::member::open::Layout;

use crate::cluster::{Cluster, eventually};
use crate::programs;
use crate::record::{Counts, History};
use crate::traffic::{Traffic, connect};

/// How long members may take to agree once all faults are over.
const AGREE: Duration = Duration::from_secs(30);

/// What came of a run: for tests that alter it and judge again.
pub struct Judged {
    pub counts: Counts,
    pub history: History,
    pub truth: Truth,
}

/// Ends clients and members, all of which must be able to run, and judges everything.
pub fn judge(cluster: &mut Cluster, mut traffic: Traffic) -> anyhow::Result<Judged> {
    traffic.calm()?;
    let urls = cluster.client_urls();
    let agreed = eventually(AGREE, || traffic.block_on(agreement(&urls)));
    let (revision, hash) = agreed.with_context(|| cluster.tails())?;
    let history = traffic.finish(revision).with_context(|| cluster.tails())?;
    cluster.stop_all()?;
    let program = programs::kube_store()?;
    let mut truth = None;
    for member in &cluster.members {
        programs::run(Command::new(&program).arg("verify").arg(&member.data))?;
        let state = open_state(&member.data)?;
        let on_disk = state.hash_kv(0).map_err(|failure| anyhow::anyhow!("{failure}"))?;
        if state.revision() != revision || on_disk.hash != hash {
            bail!(
                "{} has revision {} with hash {} on disk, answered were {revision} and {hash}",
                member.name,
                state.revision(),
                on_disk.hash
            );
        }
        truth = Some(read_truth(&state)?);
    }
    let truth = truth.context("a cluster has members")?;
    let counts = history.check(&truth).map_err(anyhow::Error::msg)?;
    Ok(Judged {
        counts,
        history,
        truth,
    })
}

/// Revision and hash all members have; an error while they differ or leases are left.
async fn agreement(urls: &[String]) -> anyhow::Result<(i64, u32)> {
    let mut found = Vec::new();
    for url in urls {
        let asked = tokio::time::timeout(Duration::from_secs(3), standing(url)).await;
        found.push(asked.context("no answer in time")?.with_context(|| url.clone())?);
    }
    let first = found[0];
    if found.iter().any(|other| *other != first) {
        bail!("members differ: revisions and hashes {found:?}");
    }
    Ok(first)
}

/// Revision and hash of one member that serves.
async fn standing(url: &str) -> anyhow::Result<(i64, u32)> {
    let channel = connect(url).await?;
    let range = pb::RangeRequest {
        key: "k".into(),
        count_only: true,
        ..Default::default()
    };
    KvClient::new(channel.clone()).range(range).await?;
    let leases = LeaseClient::new(channel.clone())
        .lease_leases(pb::LeaseLeasesRequest {})
        .await?
        .into_inner();
    if !leases.leases.is_empty() {
        bail!("{} leases are left", leases.leases.len());
    }
    let hashed = MaintenanceClient::new(channel)
        .hash_kv(pb::HashKvRequest { revision: 0 })
        .await?
        .into_inner();
    Ok((hashed.hash_revision, hashed.hash))
}

/// The applied state of a member that has stopped.
pub fn open_state(data: &Path) -> anyhow::Result<Mvcc> {
    let layout = Layout::new(data);
    let newest = RealDisk.list(&layout.state)?.pop().context("no applied state")?;
    let engine: Arc<dyn Engine> = Arc::new(SledEngine::open(&layout.state.join(newest))?);
    Ok(Mvcc::open(engine)?)
}

fn read_truth(state: &Mvcc) -> anyhow::Result<Truth> {
    let mut truth = Truth::default();
    truth.extend(state).map_err(anyhow::Error::msg)?;
    Ok(truth)
}
