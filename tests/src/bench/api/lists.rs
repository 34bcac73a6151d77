//! LIST of all pods in every form, and memory while many read everything at once.

use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use memchr::memmem;

use super::Bench;
use super::connection::{Connection, JSON, length};
use super::cost::per;
use super::load::{millis, percentile};

/// Options of lists.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Lists of each form, one after the other
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only the forms whose name holds this
    #[arg(long, default_value = "")]
    only: String,
}

/// Options of concurrent readers.
#[derive(Args, Clone, Debug)]
pub struct ReaderOptions {
    /// Readers at a time, each with a connection of its own
    #[arg(long, default_value_t = 32)]
    readers: usize,
    /// Lists of each reader
    #[arg(long, default_value_t = 2)]
    rounds: usize,
}

const PODS: &str = "/api/v1/pods";
const WATCH_LIST: &str = "/api/v1/pods?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan\
                          &allowWatchBookmarks=true";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const PROTOBUF_WATCH: &str = "application/vnd.kubernetes.protobuf;stream=watch";
const METADATA: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";

/// How the end of an answer is found.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Body,
    /// After every page of 500.
    Pages,
    /// At the bookmark that ends the initial events.
    Bookmark,
}

const FORMS: &[(&str, &str, &str, End)] = &[
    ("JSON", PODS, JSON, End::Body),
    ("JSON, pages of 500", "/api/v1/pods?limit=500", JSON, End::Pages),
    ("Table", PODS, TABLE, End::Body),
    ("protobuf", PODS, PROTOBUF, End::Body),
    ("metadata JSON", PODS, METADATA, End::Body),
    ("initial events JSON", WATCH_LIST, JSON, End::Bookmark),
    (
        "initial events protobuf",
        WATCH_LIST,
        PROTOBUF_WATCH,
        End::Bookmark,
    ),
];

pub async fn run(bench: &Bench, options: &Options) -> anyhow::Result<()> {
    println!(
        "{:28}{:>10}{:>10}{:>10}{:>16}{:>14}{:>14}",
        "LIST of all pods", "MiB", "p50 ms", "max ms", "server ms/list", "store ms/list", "client ms/list"
    );
    let connection = &bench.connections[0];
    let wanted = FORMS.iter().filter(|(name, ..)| name.contains(&options.only));
    for (name, path, accept, end) in wanted {
        // The first makes what is made once for all; later ones are what readers see.
        read_all(connection, path, accept, *end).await?;
        let before = bench.processes.cpu()?;
        let mut times = Vec::new();
        let mut bytes = 0;
        for _ in 0..options.rounds {
            let began = Instant::now();
            bytes = read_all(connection, path, accept, *end).await?;
            times.push(began.elapsed());
        }
        let cpu = bench.processes.cpu()?.since(&before);
        times.sort_unstable();
        println!(
            "{name:28}{:>10.1}{:>10}{:>10}{:>16}{:>14}{:>14}",
            mib(bytes),
            millis(percentile(&times, 50)),
            millis(percentile(&times, 100)),
            per(cpu.server, options.rounds),
            per(cpu.store, options.rounds),
            per(Some(cpu.own), options.rounds),
        );
    }
    println!("{}", bench.processes.memory_line()?);
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "an answer is far below 2^52 bytes")]
fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

async fn read_all(connection: &Connection, path: &str, accept: &str, end: End) -> anyhow::Result<usize> {
    match end {
        End::Body => length(connection.open(path, accept).await?).await,
        End::Bookmark => until_bookmark(connection.open(path, accept).await?).await,
        End::Pages => {
            let (mut total, mut next) = (0, String::new());
            loop {
                let page = match next.as_str() {
                    "" => path.to_owned(),
                    token => format!("{path}&continue={token}"),
                };
                let (bytes, token) = one_page(connection.open(&page, accept).await?).await?;
                total += bytes;
                match token {
                    Some(token) => next = token,
                    None => return Ok(total),
                }
            }
        }
    }
}

/// A page's length, and the token for the next one, which stands before the items.
async fn one_page(mut body: Incoming) -> anyhow::Result<(usize, Option<String>)> {
    let (mut total, mut token) = (0, None);
    let mut front = Vec::new();
    let mut in_front = true;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        total += data.len();
        if in_front {
            front.extend_from_slice(&data);
            if let Some(items) = memmem::find(&front, b"\"items\":[") {
                token = continue_token(&front[..items]);
                in_front = false;
            }
        }
    }
    Ok((total, token))
}

fn continue_token(front: &[u8]) -> Option<String> {
    const KEY: &[u8] = b"\"continue\":\"";
    let start = memmem::find(front, KEY)? + KEY.len();
    let end = front[start..].iter().position(|byte| *byte == b'"')?;
    Some(String::from_utf8_lossy(&front[start..start + end]).into_owned())
}

async fn until_bookmark(mut body: Incoming) -> anyhow::Result<usize> {
    const MARK: &[u8] = b"k8s.io/initial-events-end";
    let (mut total, mut tail) = (0, Vec::new());
    loop {
        let frame = body
            .frame()
            .await
            .context("the watch ended before its bookmark")?;
        let data = frame?.into_data().unwrap_or_default();
        total += data.len();
        // Across the border of two frames, then within this one.
        let border = tail.len() + data.len().min(MARK.len());
        tail.extend_from_slice(&data[..data.len().min(MARK.len())]);
        if memmem::find(&tail[..border], MARK).is_some() || memmem::find(&data, MARK).is_some() {
            return Ok(total);
        }
        let kept = data.len().saturating_sub(MARK.len());
        tail.clear();
        tail.extend_from_slice(&data[kept..]);
    }
}

/// Between two looks at the server's memory.
const LOOK: Duration = Duration::from_millis(10);

pub async fn readers(bench: &Bench, options: &ReaderOptions) -> anyhow::Result<()> {
    let connections = bench.cluster.connect_many(options.readers).await?;
    let before = bench.processes.memory()?;
    let cpu = bench.processes.cpu()?;
    let began = Instant::now();
    let reading = connections.iter().map(|connection| async move {
        let mut bytes = 0;
        for _ in 0..options.rounds {
            bytes += read_all(connection, PODS, JSON, End::Body).await?;
        }
        anyhow::Ok(bytes)
    });
    let mut reading = std::pin::pin!(futures::future::try_join_all(reading));
    let mut peak = before;
    let bytes: Vec<usize> = loop {
        tokio::select! {
            done = &mut reading => break done?,
            () = tokio::time::sleep(LOOK) => {
                let now = bench.processes.memory()?;
                if now.map(|(anon, _)| anon) > peak.map(|(anon, _)| anon) {
                    peak = now;
                }
            }
        }
    };
    let lists = options.readers * options.rounds;
    let cpu = bench.processes.cpu()?.since(&cpu);
    println!(
        "{} readers, {lists} lists of {:.1} MiB in {:.2} s; server {} ms/list, client {} ms/list",
        options.readers,
        mib(bytes.iter().sum::<usize>() / lists.max(1)),
        began.elapsed().as_secs_f64(),
        per(cpu.server, lists),
        per(Some(cpu.own), lists),
    );
    for (when, memory) in [
        ("before", before),
        ("peak", peak),
        ("after", bench.processes.memory()?),
    ] {
        if let Some((anon, file)) = memory {
            println!(
                "  resident {when}: {:.0} MiB (anonymous {anon:.0}, file {file:.0})",
                anon + file
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_read_out_of_the_front() {
        let front = br#"{"kind":"PodList","metadata":{"resourceVersion":"7","continue":"abc","remainingItemCount":3},"#;
        assert_eq!(continue_token(front).as_deref(), Some("abc"));
        assert_eq!(continue_token(br#"{"metadata":{"resourceVersion":"7"},"#), None);
    }
}
