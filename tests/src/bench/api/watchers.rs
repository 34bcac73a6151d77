//! Watch fan-out: how long after a write each of many watchers has it.
//!
//! Every write carries its time in an annotation; a watcher looks for that alone in what it receives.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Args;
use http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use memchr::memmem;
use serde_json::json;
use tokio::sync::watch;

use super::Bench;
use super::connection::{Connection, JSON};
use super::cost::per;
use super::fill::make_namespaces;
use super::load::{millis, percentile};
use super::objects;

/// Options of the fan-out.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Watchers of all pods
    #[arg(long, default_value_t = 1_000)]
    watchers: usize,
    /// Connections the watchers are spread over
    #[arg(long, default_value_t = 100)]
    watch_connections: usize,
    /// Writes per second, tried one after the other
    #[arg(long, value_delimiter = ',', default_value = "20")]
    rates: Vec<u32>,
    /// Seconds of each rate
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Ask for protobuf instead of JSON
    #[arg(long)]
    protobuf: bool,
}

/// Pods written to.
const WRITTEN: usize = 50;
/// Writes that may be unanswered; beyond, the rate is not reached.
const WRITES_MAX: usize = 256;
/// How long after the last write the watchers may take to have everything.
const DRAIN: Duration = Duration::from_secs(20);

pub async fn run(bench: &Bench, options: &Options) -> anyhow::Result<()> {
    make_namespaces(bench).await?;
    let connection = &bench.connections[0];
    for number in 0..WRITTEN {
        let body = objects::bytes(&objects::pod(&written(number)));
        connection
            .ensure(&objects::pods(&objects::namespace(0)), body)
            .await?;
    }
    println!(
        "{:>10}{:>10}{:>12}{:>12}{:>10}{:>10}{:>10}{:>15}{:>15}",
        "writes/s",
        "writes",
        "expected",
        "delivered",
        "p50 ms",
        "p99 ms",
        "max ms",
        "server ms/s",
        "client ms/s"
    );
    for rate in &options.rates {
        one_rate(bench, options, *rate).await?;
    }
    println!("{}", bench.processes.memory_line()?);
    Ok(())
}

fn written(number: usize) -> String {
    format!("fan-out-{number:03}")
}

async fn one_rate(bench: &Bench, options: &Options, rate: u32) -> anyhow::Result<()> {
    let connections = bench.cluster.connect_many(options.watch_connections).await?;
    let epoch = Instant::now();
    let received = Arc::new(AtomicUsize::new(0));
    let (stop, stopped) = watch::channel(false);
    let revision = revision_now(&bench.connections[0]).await?;
    let accept = match options.protobuf {
        true => "application/vnd.kubernetes.protobuf;stream=watch",
        false => JSON,
    };
    let path = format!("/api/v1/pods?watch=true&timeoutSeconds=3600&resourceVersion={revision}");
    let mut watchers = Vec::new();
    for number in 0..options.watchers {
        let connection = &connections[number % connections.len()];
        let body = connection.open(&path, accept).await?;
        watchers.push(tokio::spawn(listen(
            body,
            epoch,
            received.clone(),
            stopped.clone(),
        )));
    }
    let before = bench.processes.cpu()?;
    let began = Instant::now();
    let writes = write_all(bench, rate, options.seconds, epoch).await?;
    let elapsed = began.elapsed();
    let cpu = bench.processes.cpu()?.since(&before);
    let expected = writes * options.watchers;
    let deadline = Instant::now() + DRAIN;
    while received.load(Ordering::Relaxed) < expected && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Every watcher sees the sender go, also those that ended.
    stop.send_replace(true);
    let mut latencies = Vec::with_capacity(expected);
    for watcher in watchers {
        latencies.extend(watcher.await??);
    }
    latencies.sort_unstable();
    let per_second = |ms: Option<u64>| {
        per(
            ms.map(|ms| ms * 1_000),
            usize::try_from(elapsed.as_millis()).unwrap_or(1),
        )
    };
    println!(
        "{rate:>10}{writes:>10}{expected:>12}{:>12}{:>10}{:>10}{:>10}{:>15}{:>15}",
        latencies.len(),
        millis(percentile(&latencies, 50)),
        millis(percentile(&latencies, 99)),
        millis(percentile(&latencies, 100)),
        per_second(cpu.server),
        per_second(Some(cpu.own)),
    );
    Ok(())
}

/// The revision of the pods now.
async fn revision_now(connection: &Connection) -> anyhow::Result<u64> {
    let body = connection.open("/api/v1/pods?limit=1", JSON).await?;
    let text = body.collect().await?.to_bytes();
    let list: serde_json::Value = serde_json::from_slice(&text)?;
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    revision.parse().context("the list has no resourceVersion")
}

/// Writes at the rate, and returns how many were acknowledged.
async fn write_all(bench: &Bench, rate: u32, seconds: u64, epoch: Instant) -> anyhow::Result<usize> {
    let count = usize::try_from(u64::from(rate) * seconds)?;
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate.max(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let mut running = tokio::task::JoinSet::new();
    for number in 0..count {
        ticks.tick().await;
        if running.len() >= WRITES_MAX {
            running.join_next().await.context("a write")???;
        }
        let connection = bench.connections[number % bench.connections.len()].clone();
        running.spawn(async move { write(&connection, number % WRITTEN, epoch).await });
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    Ok(count)
}

async fn write(connection: &Connection, number: usize, epoch: Instant) -> anyhow::Result<()> {
    let path = format!("{}/{}", objects::pods(&objects::namespace(0)), written(number));
    let sent = format!("{:016}", epoch.elapsed().as_micros());
    let patch = json!({"metadata": {"annotations": {"bench-sent": sent}}});
    let headers = [("content-type", "application/merge-patch+json")];
    connection
        .run(Method::PATCH, &path, &headers, objects::bytes(&patch))
        .await?;
    Ok(())
}

/// Notes the age of everything received until told to stop.
async fn listen(
    mut body: Incoming,
    epoch: Instant,
    received: Arc<AtomicUsize>,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<Vec<Duration>> {
    let mut marks = Marks::default();
    let mut ages = Vec::new();
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            _ = stopped.changed() => return Ok(ages),
        };
        let Some(frame) = frame else {
            // The server gave this watcher up: what it misses shows in the count.
            return Ok(ages);
        };
        let data: Bytes = match frame {
            Ok(frame) => frame.into_data().unwrap_or_default(),
            Err(error) => bail!("a watch broke: {error}"),
        };
        let now = epoch.elapsed();
        let before = ages.len();
        marks.find(&data, |sent| {
            ages.push(now.saturating_sub(Duration::from_micros(sent)))
        });
        received.fetch_add(ages.len() - before, Ordering::Relaxed);
    }
}

/// Finds the times of writes in a stream of frames, also where one lies across two.
#[derive(Debug, Default)]
struct Marks {
    tail: Vec<u8>,
}

impl Marks {
    /// In JSON an annotation is `"bench-sent":"..."`, in protobuf key and value with tags between.
    const KEY: &[u8] = b"bench-sent";
    const DIGITS: usize = 16;
    /// Longest distance from the key's start to the value's end.
    const SPAN: usize = Self::KEY.len() + 3 + Self::DIGITS;

    fn find(&mut self, data: &[u8], mut found: impl FnMut(u64)) {
        let joined: Vec<u8>;
        let text = match self.tail.is_empty() {
            true => data,
            false => {
                joined = [&self.tail[..], data].concat();
                &joined[..]
            }
        };
        let mut done = 0;
        for at in memmem::find_iter(text, Self::KEY) {
            if at + Self::SPAN > text.len() {
                break;
            }
            let after = &text[at + Self::KEY.len()..at + Self::SPAN];
            let digits = after.iter().position(u8::is_ascii_digit);
            let value = digits.and_then(|start| after.get(start..start + Self::DIGITS));
            let value = value.and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
            if let Some(value) = value {
                found(value);
            }
            done = at + Self::SPAN;
        }
        // What may be the start of a mark whose end is still to come.
        let kept = done.max(text.len().saturating_sub(Self::SPAN - 1));
        let kept = text[kept..].to_vec();
        self.tail = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_is_found_once_however_the_stream_is_cut() {
        let mut stream = Vec::new();
        for sent in [5, 70, 123_456] {
            let event = format!(
                r#"{{"annotations":{{"bench-sent":"{sent:016}"}},"managedFields":[{{"f:bench-sent":{{}}}}]}}"#
            );
            stream.extend_from_slice(event.as_bytes());
        }
        for size in [1, 2, 7, 29, 30, 31, 64, stream.len()] {
            let (mut marks, mut seen) = (Marks::default(), Vec::new());
            stream
                .chunks(size)
                .for_each(|chunk| marks.find(chunk, |sent| seen.push(sent)));
            assert_eq!(seen, [5, 70, 123_456], "frames of {size}");
        }
    }
}
