//! What happens at each of `kube_store::limits`: refused with etcd's text or held back, counted by a metric, and over as
//! soon as there is room; and that a watcher who does not read costs a writer nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use keelson_proto::etcd::etcdserverpb as pb;
use keelson_proto::etcd::etcdserverpb::kv_client::KvClient;
use keelson_proto::etcd::etcdserverpb::watch_client::WatchClient;
use keelson_proto::etcd::etcdserverpb::watch_request::RequestUnion;
use keelson_store_tests::cluster::{Cluster, Plan, eventually};
use keelson_store_tests::programs;
use kube_store::limits::{
    FILES_RESERVED, REQUEST_BYTES_MAX, REQUESTS_WAITING_MAX, STREAMS_PER_CONNECTION_MAX, TXN_OPS_MAX,
    WATCH_QUEUE_EVENTS_MAX, WATCHERS_PER_STREAM_MAX,
};
use nix::sys::signal::Signal;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

/// Files a member may open where connections are counted.
const FILES: usize = 1_000;
const SERVE: Duration = Duration::from_secs(30);
/// How long something that is held back is waited for before that is believed.
const HELD: Duration = Duration::from_millis(500);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(60);

/// Events of one transaction of the writer that is watched.
const EVENTS_PER_TXN: usize = 16;

struct World {
    runtime: tokio::runtime::Runtime,
    cluster: Cluster,
    _dir: tempfile::TempDir,
}

fn world(members: usize) -> anyhow::Result<World> {
    start(members, programs::kube_store()?)
}

fn start(members: usize, program: PathBuf) -> anyhow::Result<World> {
    let dir = tempfile::tempdir()?;
    let mut cluster = Cluster::new(Plan {
        program,
        members,
        dir: dir.path(),
        network: None,
        tls: None,
        flags: Vec::new(),
    })?;
    cluster.start_all()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let world = World {
        runtime,
        cluster,
        _dir: dir,
    };
    eventually(SERVE, || world.runtime.block_on(put(&world.url(), "serves", 1)))
        .with_context(|| world.cluster.tails())?;
    Ok(world)
}

impl World {
    fn url(&self) -> String {
        self.cluster.members[0].client_url.clone()
    }

    fn address(&self) -> String {
        self.url().trim_start_matches("http://").to_owned()
    }

    /// The value of a metric, over a connection of its own.
    fn metric(&self, name: &str) -> anyhow::Result<f64> {
        metric(&mut TcpStream::connect(self.address())?, name)
    }
}

fn metric(stream: &mut TcpStream, name: &str) -> anyhow::Result<f64> {
    let text = get(stream, "/metrics")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.with_context(|| format!("no metric {name}"))?;
    Ok(value.trim().parse()?)
}

/// One HTTP/1.1 request on a connection that stays open.
fn get(stream: &mut TcpStream, path: &str) -> anyhow::Result<String> {
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.context("no length")?.trim().parse()?];
    stream.read_exact(&mut body)?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// Without keep-alive: a member at its limits may take its time.
async fn connect(url: &str) -> anyhow::Result<Channel> {
    Ok(Endpoint::from_shared(url.to_owned())?.connect().await?)
}

async fn put(url: &str, key: &str, bytes: usize) -> anyhow::Result<()> {
    KvClient::new(connect(url).await?)
        .put(request(key, bytes))
        .await?;
    Ok(())
}

fn request(key: &str, bytes: usize) -> pb::PutRequest {
    pb::PutRequest {
        key: key.to_owned().into(),
        value: vec![b'v'; bytes].into(),
        ..Default::default()
    }
}

/// A transaction that puts all keys.
fn txn(keys: impl Iterator<Item = String>, bytes: usize) -> pb::TxnRequest {
    let op = |key: String| pb::RequestOp {
        request: Some(pb::request_op::Request::RequestPut(request(&key, bytes))),
    };
    pb::TxnRequest {
        success: keys.map(op).collect(),
        ..Default::default()
    }
}

fn create(key: &str) -> pb::WatchRequest {
    pb::WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(pb::WatchCreateRequest {
            key: key.to_owned().into(),
            range_end: vec![0].into(),
            ..Default::default()
        })),
    }
}

type Requests = mpsc::Sender<pb::WatchRequest>;

async fn watch(channel: &Channel) -> Result<(Requests, Streaming<pb::WatchResponse>), Status> {
    let (requests, receiver) = mpsc::channel(16);
    let responses = WatchClient::new(channel.clone())
        .watch(ReceiverStream::new(receiver))
        .await?;
    Ok((requests, responses.into_inner()))
}

#[test]
fn requests_and_transactions_have_a_size() -> anyhow::Result<()> {
    let world = world(1)?;
    let url = world.url();
    world.runtime.block_on(async {
        let mut kv = KvClient::new(connect(&url).await?);
        kv.put(request("fits", REQUEST_BYTES_MAX - 512)).await?;
        let refused = kv.put(request("big", REQUEST_BYTES_MAX + 1)).await.unwrap_err();
        ensure!(
            (refused.code(), refused.message())
                == (Code::InvalidArgument, "etcdserver: request is too large"),
            "{refused:?}"
        );
        let keys = |count: usize| (0..count).map(|number| format!("t{number}"));
        kv.txn(txn(keys(TXN_OPS_MAX), 1)).await?;
        let refused = kv.txn(txn(keys(TXN_OPS_MAX + 1), 1)).await.unwrap_err();
        ensure!(
            refused.message() == "etcdserver: too many operations in txn request",
            "{refused:?}"
        );
        Ok(())
    })?;
    for limit in ["request_bytes", "txn_ops"] {
        let name = format!("kube_store_requests_refused_total{{limit=\"{limit}\"}}");
        ensure!(world.metric(&name)? == 1.0, "{limit}");
    }
    Ok(())
}

#[test]
fn requests_wait_only_so_many() -> anyhow::Result<()> {
    let world = world(3)?;
    // Nobody can commit: everything the leader is asked waits.
    let led = |place: usize| {
        let address = world.cluster.members[place]
            .client_url
            .trim_start_matches("http://");
        let is_leader = metric(&mut TcpStream::connect(address)?, "etcd_server_is_leader ");
        anyhow::Ok(is_leader? == 1.0)
    };
    let leader = eventually(SERVE, || {
        (0..3)
            .find(|place| led(*place).unwrap_or(false))
            .context("no leader")
    })?;
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    for place in others {
        world.cluster.signal(place, Signal::SIGSTOP)?;
    }
    let url = world.cluster.members[leader].client_url.clone();
    let refused = world.runtime.block_on(async {
        let kv = KvClient::new(connect(&url).await?);
        let tasks: Vec<_> = (0..REQUESTS_WAITING_MAX + 500)
            .map(|number| {
                let mut kv = kv.clone();
                tokio::spawn(async move { kv.put(request(&format!("w{number}"), 1)).await })
            })
            .collect();
        let mut refused = 0;
        for task in tasks {
            match task.await? {
                Err(status) if status.message() == "etcdserver: too many requests" => {
                    ensure!(status.code() == Code::ResourceExhausted, "{status:?}");
                    refused += 1;
                }
                // Without a majority nothing is written.
                Err(status) => ensure!(status.message().contains("timed out"), "{status:?}"),
                Ok(_) => anyhow::bail!("written without a majority"),
            }
        }
        Ok(refused)
    })?;
    ensure!(refused > 0, "none was refused");
    for place in others {
        world.cluster.signal(place, Signal::SIGCONT)?;
    }
    eventually(SERVE, || world.runtime.block_on(put(&url, "again", 1)))
}

#[test]
fn connections_are_so_many() -> anyhow::Result<()> {
    // With few files to open, so that a test can fill them.
    let scripts = tempfile::tempdir()?;
    let script = scripts.path().join("few-files");
    let text = format!(
        "#!/bin/sh\nulimit -n {FILES}\nexec {} \"$@\"\n",
        programs::kube_store()?.display()
    );
    std::fs::write(&script, text)?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    let world = start(1, script)?;
    let most = FILES - FILES_RESERVED;
    ensure!(world.metric("kube_store_client_connections_max ")? == most as f64);
    let mut first = TcpStream::connect(world.address())?;
    eventually(ANSWER, || {
        let open = metric(&mut first, "etcd_network_client_connections ")?;
        ensure!(open == 1.0, "{open}");
        Ok(())
    })?;
    let mut idle = Vec::new();
    for _ in 1..most {
        idle.push(TcpStream::connect(world.address())?);
    }
    eventually(ANSWER, || {
        let open = metric(&mut first, "etcd_network_client_connections ")?;
        ensure!(open == most as f64, "{open}");
        Ok(())
    })?;
    // One more is not served until another ends; those that are in go on.
    let mut late = TcpStream::connect(world.address())?;
    late.set_read_timeout(Some(HELD))?;
    ensure!(get(&mut late, "/livez").is_err(), "served beyond the limit");
    get(&mut first, "/livez")?;
    drop(idle);
    late.set_read_timeout(Some(ANSWER))?;
    // The request it has sent is answered now.
    let mut answer = [0; 12];
    late.read_exact(&mut answer)?;
    ensure!(answer == *b"HTTP/1.1 200", "{answer:?}");
    Ok(())
}

#[test]
fn streams_of_a_connection_are_so_many() -> anyhow::Result<()> {
    let world = world(1)?;
    let url = world.url();
    world.runtime.block_on(async {
        let channel = connect(&url).await?;
        let mut open = Vec::new();
        // Many at a time: each waits for its headers.
        let mut opening = tokio::task::JoinSet::new();
        for _ in 0..STREAMS_PER_CONNECTION_MAX {
            let channel = channel.clone();
            opening.spawn(async move { watch(&channel).await });
        }
        while let Some(opened) = tokio::time::timeout(ANSWER, opening.join_next()).await? {
            open.push(opened??);
        }
        let one_more = tokio::time::timeout(HELD, watch(&channel)).await;
        ensure!(one_more.is_err(), "served beyond the limit");
        open.pop();
        tokio::time::timeout(ANSWER, watch(&channel)).await??;
        Ok(())
    })
}

#[test]
fn watchers_of_a_stream_are_so_many() -> anyhow::Result<()> {
    let world = world(1)?;
    let url = world.url();
    world.runtime.block_on(async {
        let (requests, mut responses) = watch(&connect(&url).await?).await?;
        let sending = tokio::spawn(async move {
            for _ in 0..=WATCHERS_PER_STREAM_MAX {
                if requests.send(create("one")).await.is_err() {
                    return;
                }
            }
            // The stream stays open until its answers have been read.
            requests.closed().await;
        });
        for _ in 0..WATCHERS_PER_STREAM_MAX {
            let response = tokio::time::timeout(ANSWER, responses.message()).await??;
            let response = response.context("the stream ended")?;
            ensure!(response.created && !response.canceled, "{response:?}");
        }
        let last = tokio::time::timeout(ANSWER, responses.message()).await??;
        let last = last.context("the stream ended")?;
        ensure!(
            last.canceled && last.watch_id == -1 && last.cancel_reason.contains("too many watchers"),
            "{last:?}"
        );
        sending.abort();
        Ok(())
    })?;
    eventually(SERVE, || {
        let left = world.metric("etcd_debugging_mvcc_watcher_total ")?;
        ensure!(left == 0.0, "{left} watchers are left");
        Ok(())
    })
}

#[test]
fn a_watcher_that_does_not_read_costs_a_writer_nothing_and_misses_nothing() -> anyhow::Result<()> {
    let world = world(1)?;
    let url = world.url();
    let puts = 3 * WATCH_QUEUE_EVENTS_MAX;
    world.runtime.block_on(async {
        let mut kv = KvClient::new(connect(&url).await?);
        let mut alone = Duration::ZERO;
        let mut watched = Duration::ZERO;
        let mut streams = Vec::new();
        for round in 0..2 {
            let began = Instant::now();
            for first in (0..puts).step_by(EVENTS_PER_TXN) {
                let keys = (first..first + EVENTS_PER_TXN).map(|number| format!("slow/{number}"));
                kv.txn(txn(keys, 8 << 10)).await?;
            }
            if round == 0 {
                alone = began.elapsed();
                for _ in 0..10 {
                    let (requests, mut responses) = watch(&connect(&url).await?).await?;
                    requests.send(create("slow/")).await?;
                    ensure!(
                        responses
                            .message()
                            .await?
                            .is_some_and(|response| response.created)
                    );
                    streams.push((requests, responses));
                }
            } else {
                watched = began.elapsed();
            }
        }
        // The same work for the member's disk; ten queues that fill and stay full beside it.
        ensure!(
            watched < 2 * alone + Duration::from_secs(1),
            "{alone:?} alone, {watched:?} watched"
        );
        for (_requests, mut responses) in streams {
            let mut next = 0;
            while next < puts {
                let response = tokio::time::timeout(ANSWER, responses.message()).await??;
                for event in response.context("the stream ended")?.events {
                    let key = event.kv.unwrap_or_default().key;
                    ensure!(key == format!("slow/{next}"), "{key:?} came when {next} was due");
                    next += 1;
                }
            }
        }
        Ok(())
    })?;
    ensure!(
        world.metric("etcd_debugging_mvcc_slow_watcher_total ")? > 0.0,
        "no queue was full"
    );
    Ok(())
}
