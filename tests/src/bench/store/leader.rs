//! The time without writes when the leader of three is stopped or killed.
//!
//! Writes are offered at a steady rate to the members that stay, each without waiting for the one before: the time
//! without writes is the longest between two answers that follow each other.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use keelson_proto::etcd::etcdserverpb as pb;
use keelson_proto::etcd::etcdserverpb::kv_client::KvClient;
use nix::sys::signal::Signal;
use tokio::sync::mpsc;
use tonic::transport::Channel;

use super::Options;
use super::cluster::{Cluster, connect};
use super::table::{Bar, Table};

const MEMBERS: usize = 3;
/// Pause between two writes to one member.
const PACE: Duration = Duration::from_millis(5);
/// Answers needed before the stop, and after the gap.
const ANSWERS: usize = 50;
/// Longest time without writes that is waited for.
const LIMIT: Duration = Duration::from_secs(30);
/// Most milliseconds without writes, after SIGTERM and after SIGKILL.
const STOPPED_MS_MAX: f64 = 100.0;
const KILLED_MS_MAX: f64 = 1500.0;

/// Stops or kills the leader again and again.
pub async fn run(options: &Options, work: &Path, table: &mut Table, signal: Signal) -> anyhow::Result<()> {
    let mut clusters = Vec::new();
    for &server in &options.servers {
        clusters.push(options.start(server, work, MEMBERS).await?);
    }
    let most = if signal == Signal::SIGTERM {
        STOPPED_MS_MAX
    } else {
        KILLED_MS_MAX
    };
    for _ in 0..options.stops {
        for cluster in &mut clusters {
            let gap = once(cluster, signal).await?;
            eprintln!("{:?}: {signal}, {gap:?} without writes", cluster.server);
            let name = format!("leader of {MEMBERS} gets {signal}, time without writes");
            table.add(
                cluster.server,
                &name,
                "ms",
                Bar::AtMost(most),
                gap.as_secs_f64() * 1000.0,
            );
        }
    }
    Ok(())
}

async fn once(cluster: &mut Cluster, signal: Signal) -> anyhow::Result<Duration> {
    let leader = cluster.leader().await?;
    let (answered, mut answers) = mpsc::unbounded_channel();
    let mut writers = Vec::new();
    for (number, url) in cluster.urls().iter().enumerate() {
        if number != leader {
            writers.push(tokio::spawn(write(connect(url).await?, answered.clone())));
        }
    }
    drop(answered);
    let mut last = Instant::now();
    for _ in 0..ANSWERS {
        last = next(&mut answers).await?;
    }
    cluster.end(leader, signal, false).await?;
    let signalled = Instant::now();
    let (mut gap, mut after) = (Duration::ZERO, 0);
    // Until writes flow again: some after the gap, and enough time for an election to have begun.
    while after < ANSWERS || signalled.elapsed() < Duration::from_secs(3) {
        let at = next(&mut answers).await?;
        let pause = at.saturating_duration_since(last);
        if pause > gap {
            gap = pause;
            after = 0;
        }
        after += 1;
        last = last.max(at);
        ensure!(
            signalled.elapsed() < LIMIT,
            "writes do not flow again within {} s",
            LIMIT.as_secs()
        );
    }
    for writer in writers {
        writer.abort();
    }
    cluster.ended(leader).await?;
    cluster.start_member(leader)?;
    cluster.ready(leader).await?;
    Ok(gap)
}

async fn next(answers: &mut mpsc::UnboundedReceiver<Instant>) -> anyhow::Result<Instant> {
    match tokio::time::timeout(LIMIT, answers.recv()).await {
        Ok(at) => at.context("the writers have ended"),
        Err(_) => bail!("no write was answered within {} s", LIMIT.as_secs()),
    }
}

async fn write(channel: Channel, answered: mpsc::UnboundedSender<Instant>) {
    let kv = KvClient::new(channel);
    let mut pace = tokio::time::interval(PACE);
    loop {
        pace.tick().await;
        let (mut kv, answered) = (kv.clone(), answered.clone());
        tokio::spawn(async move {
            let request = pb::PutRequest {
                key: "/registry/leases/bench/leader".into(),
                value: "renewed".into(),
                ..Default::default()
            };
            // A refused write is part of the time without writes.
            if kv.put(request).await.is_ok() {
                let _ = answered.send(Instant::now());
            }
        });
    }
}
