//! Memory with many keys, and the time a restart takes with them.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use keelson_proto::etcd::etcdserverpb as pb;
use keelson_proto::etcd::etcdserverpb::kv_client::KvClient;
use nix::sys::signal::Signal;
use tokio::task::JoinSet;

use super::Options;
use super::cluster::{Cluster, Server};
use super::load::{key, noise};
use super::table::{Bar, Table};

const VALUE_BYTES: usize = 1024;
/// Puts under way at once while filling, and the connections they share.
const FILLERS: u64 = 256;
const FILLER_CONNECTIONS: usize = 8;
/// Time after filling in which background work may end before memory is read.
const SETTLE: Duration = Duration::from_secs(10);

/// Fills, looks, and restarts each server.
pub async fn run(options: &Options, work: &Path, table: &mut Table) -> anyhow::Result<()> {
    for &server in &options.servers {
        let mut cluster = options.start(server, work, 1).await?;
        let cpu = cluster.cpu()?;
        fill(&cluster, options.keys).await?;
        tokio::time::sleep(SETTLE).await;
        let name = format!("{} keys of 1 KiB", options.keys);
        let spent = cluster.cpu()?.saturating_sub(cpu).as_secs_f64();
        table.add(server, &format!("{name}, CPU to fill"), "s", Bar::None, spent);
        memory(table, &cluster, &format!("{name}, filled"), Bar::None, Bar::None)?;
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            cluster.end(0, signal, true).await?;
            let cpu = restart(&mut cluster, table, &name, signal).await?;
            table.add(
                server,
                &format!("{name}, CPU of the restart after {signal}"),
                "s",
                Bar::None,
                cpu,
            );
        }
        tokio::time::sleep(SETTLE).await;
        let (anonymous, together) = (Bar::RatioAtMost(1.0), Bar::RatioAtMost(0.5));
        memory(
            table,
            &cluster,
            &format!("{name}, restarted"),
            anonymous,
            together,
        )?;
    }
    Ok(())
}

async fn restart(
    cluster: &mut Cluster,
    table: &mut Table,
    name: &str,
    signal: Signal,
) -> anyhow::Result<f64> {
    let began = Instant::now();
    cluster.start_member(0)?;
    cluster.ready(0).await?;
    let row = format!("{name}, restart after {signal}");
    table.add(
        cluster.server,
        &row,
        "s",
        Bar::RatioAtMost(0.5),
        began.elapsed().as_secs_f64(),
    );
    Ok(cluster.cpu()?.as_secs_f64())
}

fn memory(
    table: &mut Table,
    cluster: &Cluster,
    name: &str,
    anonymous: Bar,
    together: Bar,
) -> anyhow::Result<()> {
    let memory = cluster.memory()?;
    let server: Server = cluster.server;
    table.add(
        server,
        &format!("{name}, anonymous"),
        "MiB",
        anonymous,
        memory.anonymous,
    );
    table.add(
        server,
        &format!("{name}, file-backed"),
        "MiB",
        Bar::None,
        memory.file,
    );
    table.add(
        server,
        &format!("{name}, together"),
        "MiB",
        together,
        memory.anonymous + memory.file,
    );
    Ok(())
}

async fn fill(cluster: &Cluster, keys: u64) -> anyhow::Result<()> {
    let channels = cluster.connect(FILLER_CONNECTIONS).await?;
    let mut tasks = JoinSet::new();
    for filler in 0..FILLERS {
        let channel = channels.get(usize::try_from(filler).unwrap_or(0) % channels.len());
        let mut kv = KvClient::new(channel.context("a connection")?.clone());
        tasks.spawn(async move {
            // Fillers interleave, as writers of many kinds do.
            for number in (filler..keys).step_by(usize::try_from(FILLERS).unwrap_or(1)) {
                let request = pb::PutRequest {
                    key: key(number),
                    value: noise(VALUE_BYTES, number),
                    ..Default::default()
                };
                kv.put(request).await.context("fill")?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("a filler")??;
    }
    Ok(())
}
