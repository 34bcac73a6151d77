//! Many watchers on one prefix: every event must reach every watcher once and in order, soon.
//!
//! A value says when it was put, and the last one that it is; revisions say whether one was missed or came twice.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use keelson_proto::etcd::etcdserverpb as pb;
use keelson_proto::etcd::etcdserverpb::kv_client::KvClient;
use tokio::task::JoinSet;

use super::Options;
use super::cluster::Cluster;
use super::frames::Watches;
use super::load::noise;
use super::table::{Bar, Table};

const PREFIX: &str = "/registry/events/bench/";
const PREFIX_END: &str = "/registry/events/bench0";
/// Keys the writes are spread over.
const KEYS: u32 = 100;
const VALUE_BYTES: usize = 1024;
/// Mark and time at the head of a value.
const STAMP_BYTES: usize = 16;
/// Watchers of one connection, each with a stream of its own.
const WATCHERS_PER_CONNECTION: u32 = 10;
/// Writes/s of the first figure.
const RATE: f64 = 50.0;
/// Step of the search for the highest rate, and its most steps.
const RATE_STEP: f64 = 1.25;
const STEPS_MAX: i32 = 20;
/// A rate is sustained when its events come within this time (p99) and its writes at this share of the rate.
const LATE_MOST: Duration = Duration::from_secs(1);
const WRITTEN_LEAST: f64 = 0.95;
/// Time after the last write in which its events must come.
const DRAIN: Duration = Duration::from_secs(20);

/// What watchers saw at one rate.
struct Seen {
    events: u64,
    wrong: u64,
    /// In microseconds, sorted.
    late_us: Vec<u32>,
    writes_per_s: f64,
    cpu: Duration,
}

/// Runs both figures for each server.
pub async fn run(options: &Options, work: &Path, table: &mut Table) -> anyhow::Result<()> {
    for round in 0..options.rounds {
        for &server in &options.servers {
            let cluster = options.start(server, work, 1).await?;
            let name = format!("{} watchers, {RATE:.0} writes/s", options.watchers);
            let seen = at_rate(&cluster, options.watchers, RATE, options.seconds).await?;
            report(table, &cluster, &name, &seen);
            // The search is long; one is enough.
            if round == 0 {
                let rate = highest(&cluster, options).await?;
                let row = format!("{} watchers, highest rate sustained", options.watchers);
                table.add(server, &row, "writes/s", Bar::RatioAtLeast(2.0), rate);
            }
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts of seconds are far below 2^52")]
fn report(table: &mut Table, cluster: &Cluster, name: &str, seen: &Seen) {
    let mut add = |what: &str, unit, bar, figure| {
        table.add(cluster.server, &format!("{name}, {what}"), unit, bar, figure)
    };
    add(
        "lost, doubled or out of order",
        "events",
        Bar::AtMost(0.0),
        seen.wrong as f64,
    );
    add("p50", "ms", Bar::None, seen.late(50).as_secs_f64() * 1000.0);
    add(
        "p99",
        "ms",
        Bar::RatioAtMost(1.0 / 3.0),
        seen.late(99).as_secs_f64() * 1000.0,
    );
    let cpu_ms = seen.cpu.as_secs_f64() * 1000.0 / seen.events.max(1) as f64;
    add("CPU per event", "ms", Bar::None, cpu_ms);
}

async fn highest(cluster: &Cluster, options: &Options) -> anyhow::Result<f64> {
    let mut best = 0.0;
    for step in 0..STEPS_MAX {
        let rate = RATE * RATE_STEP.powi(step);
        let seen = match at_rate(cluster, options.watchers, rate, options.seconds).await {
            Ok(seen) => seen,
            // A server that is asked for too much refuses writes.
            Err(error) => {
                eprintln!("{:?}: {rate:.0} writes/s: {error:#}", cluster.server);
                break;
            }
        };
        ensure!(
            seen.wrong == 0,
            "{} events lost, doubled or out of order at {rate:.0} writes/s",
            seen.wrong
        );
        eprintln!(
            "{:?}: {rate:.0} writes/s: {:.0} written, p99 {:?}",
            cluster.server,
            seen.writes_per_s,
            seen.late(99)
        );
        if seen.late(99) > LATE_MOST || seen.writes_per_s < rate * WRITTEN_LEAST {
            break;
        }
        best = rate;
    }
    Ok(best)
}

impl Seen {
    fn late(&self, percent: usize) -> Duration {
        let place = (self.late_us.len() * percent / 100).min(self.late_us.len().saturating_sub(1));
        Duration::from_micros(self.late_us.get(place).copied().unwrap_or(0).into())
    }
}

async fn at_rate(cluster: &Cluster, watchers: u32, rate: f64, seconds: u64) -> anyhow::Result<Seen> {
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    let url = cluster.urls().swap_remove(0);
    let authority = url.trim_start_matches("http://").to_owned();
    for first in (0..watchers).step_by(WATCHERS_PER_CONNECTION as usize) {
        let count = WATCHERS_PER_CONNECTION.min(watchers - first);
        let create = pb::WatchCreateRequest {
            key: PREFIX.into(),
            range_end: PREFIX_END.into(),
            ..Default::default()
        };
        let mut watches = Watches::open(&authority, count, create).await?;
        let revisions = created(&mut watches, count as usize).await?;
        tasks.spawn(follow(watches, revisions, began));
    }
    let cpu = cluster.cpu()?;
    let writes_per_s = write(cluster, began, rate, seconds).await?;
    let mut seen = Seen {
        events: 0,
        wrong: 0,
        late_us: Vec::new(),
        writes_per_s,
        cpu: Duration::ZERO,
    };
    let ended = async {
        while let Some(one) = tasks.join_next().await {
            let (wrong, late) = one.context("a connection's watchers")??;
            seen.events += late.len() as u64;
            seen.wrong += wrong;
            seen.late_us.extend(late);
        }
        anyhow::Ok(())
    };
    if let Ok(outcome) = tokio::time::timeout(DRAIN, ended).await {
        outcome?;
    }
    // Whoever has not seen the last write by now has lost it.
    seen.wrong += tasks.len() as u64;
    seen.cpu = cluster.cpu()?.saturating_sub(cpu);
    seen.late_us.sort_unstable();
    Ok(seen)
}

/// Waits until all watches of a connection are there; gives the revision each starts after.
async fn created(watches: &mut Watches, count: usize) -> anyhow::Result<Vec<i64>> {
    let mut revisions = vec![0; count];
    let mut refused = None;
    while refused.is_none() && revisions.contains(&0) {
        let mut visit = |number: usize, response: pb::WatchResponse| {
            if !response.created || response.canceled {
                refused = Some(response.cancel_reason);
            } else if let Some(revision) = revisions.get_mut(number) {
                *revision = response.header.map_or(0, |header| header.revision);
            }
        };
        watches.read(&mut visit).await?;
    }
    match refused {
        Some(reason) => bail!("a watch was refused: {reason}"),
        None => Ok(revisions),
    }
}

/// Follows a connection's watches to the last write. Nothing else is written, so the next event of a watch always has
/// the next revision: gives how many events were wrong by that, and how late each was.
async fn follow(
    mut watches: Watches,
    mut revisions: Vec<i64>,
    began: Instant,
) -> anyhow::Result<(u64, Vec<u32>)> {
    let (mut wrong, mut ended, mut unreadable) = (0_u64, 0, 0_u64);
    let mut late_us = Vec::new();
    while ended < revisions.len() {
        let mut visit = |number: usize, response: pb::WatchResponse| {
            wrong += u64::from(response.canceled);
            let now = began.elapsed();
            for kv in response.events.iter().filter_map(|event| event.kv.as_ref()) {
                let Some(((last, put), revision)) = stamp_of(&kv.value).zip(revisions.get_mut(number)) else {
                    unreadable += 1;
                    continue;
                };
                wrong += kv.mod_revision.abs_diff(*revision + 1);
                *revision = kv.mod_revision;
                late_us.push(u32::try_from(now.saturating_sub(put).as_micros()).unwrap_or(u32::MAX));
                ended += usize::from(last);
            }
        };
        watches.read(&mut visit).await?;
    }
    Ok((wrong + unreadable, late_us))
}

/// Writes at a rate, each when it is due, and one more at the end; gives the rate at which they were answered.
async fn write(cluster: &Cluster, began: Instant, rate: f64, seconds: u64) -> anyhow::Result<f64> {
    let channel = cluster.connect(1).await?.pop().context("one connection")?;
    let kv = KvClient::new(channel);
    let started = Instant::now();
    let mut writes = JoinSet::new();
    let mut written = 0_u32;
    while started.elapsed() < Duration::from_secs(seconds) {
        let due = started + Duration::from_secs_f64(f64::from(written) / rate);
        tokio::time::sleep_until(due.into()).await;
        let mut kv = kv.clone();
        writes.spawn(async move { kv.put(stamped(began, written, false)).await });
        written += 1;
    }
    while let Some(write) = writes.join_next().await {
        write.context("a write")?.context("put")?;
    }
    let rate = f64::from(written) / started.elapsed().as_secs_f64();
    kv.clone()
        .put(stamped(began, written, true))
        .await
        .context("put")?;
    Ok(rate)
}

fn stamped(began: Instant, number: u32, last: bool) -> pb::PutRequest {
    let nanos = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let mut value = Vec::with_capacity(VALUE_BYTES);
    value.extend_from_slice(&u64::from(last).to_le_bytes());
    value.extend_from_slice(&nanos.to_le_bytes());
    value.extend_from_slice(&noise(VALUE_BYTES - STAMP_BYTES, u64::from(number)));
    pb::PutRequest {
        key: format!("{PREFIX}{:04}", number % KEYS).into(),
        value: Bytes::from(value),
        ..Default::default()
    }
}

/// Whether it is the last write, and when it was made.
fn stamp_of(value: &[u8]) -> Option<(bool, Duration)> {
    let last = value.get(..8)?.try_into().ok().map(u64::from_le_bytes)?;
    let nanos = value
        .get(8..STAMP_BYTES)?
        .try_into()
        .ok()
        .map(u64::from_le_bytes)?;
    Some((last != 0, Duration::from_nanos(nanos)))
}
