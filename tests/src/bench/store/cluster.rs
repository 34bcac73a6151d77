//! Servers of one kind as a cluster, started with the flags both know.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::ValueEnum;
use keelson_proto::etcd::etcdserverpb as pb;
use keelson_proto::etcd::etcdserverpb::kv_client::KvClient;
use keelson_proto::etcd::etcdserverpb::maintenance_client::MaintenanceClient;
use nix::sys::signal::Signal;
use tonic::transport::{Channel, Endpoint};

use super::process::{Memory, Process};

/// Time a server may take to serve.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// Time a server may take to end.
const END_LIMIT: Duration = Duration::from_secs(60);
/// Pause between two looks at a server that starts.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// HTTP/2 windows of the client, as wide as etcd's own client has them after its first estimate.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

/// Whose program it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Server {
    KubeStore,
    Etcd,
}

struct Member {
    url: String,
    arguments: Vec<String>,
    log: PathBuf,
    process: Option<Process>,
}

/// A cluster; its processes and its directory end with it.
pub struct Cluster {
    pub server: Server,
    program: PathBuf,
    dir: PathBuf,
    members: Vec<Member>,
}

impl Cluster {
    /// Starts members with empty directories and waits until each serves.
    pub async fn start(server: Server, program: &Path, work: &Path, count: usize) -> anyhow::Result<Self> {
        let dir = work.join(format!("{server:?}-{count}"));
        std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        let mut ports = free_ports(2 * count)?;
        let peers: Vec<String> = (0..count)
            .map(|number| format!("m{number}=http://127.0.0.1:{}", ports[count + number]))
            .collect();
        ports.truncate(count);
        let mut members = Vec::new();
        for (number, port) in ports.iter().enumerate() {
            let url = format!("http://127.0.0.1:{port}");
            let peer = peers[number].split_once('=').map_or("", |(_, url)| url);
            let arguments = [
                format!("--name=m{number}"),
                format!("--data-dir={}", dir.join(format!("m{number}")).display()),
                format!("--listen-client-urls={url}"),
                format!("--advertise-client-urls={url}"),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster={}", peers.join(",")),
                "--initial-cluster-token=bench".to_owned(),
                // Room for the memory part; the default of 2 GiB would refuse it.
                format!("--quota-backend-bytes={}", 8_u64 << 30),
            ];
            members.push(Member {
                url,
                arguments: arguments.to_vec(),
                log: dir.join(format!("m{number}.log")),
                process: None,
            });
        }
        let mut cluster = Self {
            server,
            program: program.to_owned(),
            dir,
            members,
        };
        for number in 0..count {
            cluster.start_member(number)?;
        }
        for number in 0..count {
            cluster.ready(number).await?;
        }
        Ok(cluster)
    }

    /// Starts a member that does not run.
    pub fn start_member(&mut self, number: usize) -> anyhow::Result<()> {
        let member = &mut self.members[number];
        member.process = Some(Process::start(&self.program, &member.arguments, &member.log)?);
        Ok(())
    }

    /// Waits until a member answers a linearizable read.
    pub async fn ready(&self, number: usize) -> anyhow::Result<()> {
        let member = &self.members[number];
        let began = Instant::now();
        loop {
            match answers(&member.url).await {
                Ok(()) => return Ok(()),
                Err(error) if began.elapsed() > READY_LIMIT => {
                    return Err(error).with_context(|| format!("not serving; see {}", member.log.display()));
                }
                Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// Members' addresses.
    pub fn urls(&self) -> Vec<String> {
        self.members.iter().map(|member| member.url.clone()).collect()
    }

    /// CPU of all members so far.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        self.members
            .iter()
            .flat_map(|member| &member.process)
            .map(Process::cpu)
            .sum()
    }

    /// Memory of the first member.
    pub fn memory(&self) -> anyhow::Result<Memory> {
        let process = self.members[0].process.as_ref();
        process.context("the member does not run")?.memory()
    }

    /// The leader's number.
    pub async fn leader(&self) -> anyhow::Result<usize> {
        for (number, member) in self.members.iter().enumerate() {
            let status = status(&member.url).await?;
            let id = status.header.map_or(0, |header| header.member_id);
            if id != 0 && status.leader == id {
                return Ok(number);
            }
        }
        bail!("no member leads")
    }

    /// Signals a member; with `wait`, until it has ended.
    pub async fn end(&mut self, number: usize, signal: Signal, wait: bool) -> anyhow::Result<()> {
        let member = &mut self.members[number];
        let process = member.process.as_mut().context("the member does not run")?;
        process.signal(signal)?;
        if wait {
            process.ended(END_LIMIT).await?;
            member.process = None;
        }
        Ok(())
    }

    /// Waits for a signalled member's end.
    pub async fn ended(&mut self, number: usize) -> anyhow::Result<()> {
        if let Some(process) = &mut self.members[number].process {
            process.ended(END_LIMIT).await?;
        }
        self.members[number].process = None;
        Ok(())
    }

    /// Connections, spread over the members.
    pub async fn connect(&self, count: usize) -> anyhow::Result<Vec<Channel>> {
        let mut channels = Vec::new();
        for number in 0..count {
            channels.push(connect(&self.members[number % self.members.len()].url).await?);
        }
        Ok(channels)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.members.clear();
        // Left behind at worst below the benchmark's own directory, which is removed at the end.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// One connection.
pub async fn connect(url: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(url.to_owned()).context("a server's address")?;
    let endpoint = endpoint
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    endpoint
        .connect()
        .await
        .with_context(|| format!("connect to {url}"))
}

async fn answers(url: &str) -> anyhow::Result<()> {
    let mut kv = KvClient::new(connect(url).await?);
    let request = pb::RangeRequest {
        key: "ready".into(),
        ..Default::default()
    };
    let asked = tokio::time::timeout(Duration::from_secs(10), kv.range(request));
    asked.await.context("a read takes too long")?.context("read")?;
    Ok(())
}

async fn status(url: &str) -> anyhow::Result<pb::StatusResponse> {
    let mut maintenance = MaintenanceClient::new(connect(url).await?);
    let status = maintenance
        .status(pb::StatusRequest {})
        .await
        .context("ask for the status")?;
    Ok(status.into_inner())
}

fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    // All are held until all are known, so that no two are the same.
    let held: Result<Vec<TcpListener>, _> = (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0))).collect();
    let ports = held.context("find free ports")?;
    ports
        .iter()
        .map(|port| Ok(port.local_addr().context("a bound port")?.port()))
        .collect()
}
