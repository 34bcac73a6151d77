//! kube-store beside etcd: the same client, the same flags, one machine, in turns.
//!
//! Both servers run on loopback without TLS, with empty directories on the disk of `--dir`. CPU is the servers' own
//! (user and system, all members together), memory what the kernel counts as theirs. Everything is bounded: each part
//! by seconds or by a count. A figure is the median of `--rounds` turns; the servers take turns within a round.

mod bulk;
mod cluster;
mod frames;
mod leader;
mod load;
mod process;
mod steady;
mod table;
mod watchers;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};

use cluster::{Cluster, Server};
use table::Table;

/// Options of the store benchmark.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The kube-store program
    #[arg(long, default_value = "target/release/kube-store")]
    ours: PathBuf,
    /// The etcd program (tests/reference/fetch.sh etcd)
    #[arg(long, default_value = "target/reference/etcd/usr/bin/etcd")]
    etcd: PathBuf,
    /// A directory on a real disk; a directory is made in it and removed
    #[arg(long, default_value = "target")]
    dir: PathBuf,
    /// What to measure
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "puts,txn,range,watch,bulk,stop,kill"
    )]
    parts: Vec<Part>,
    /// Which servers
    #[arg(long, value_enum, value_delimiter = ',', default_value = "kube-store,etcd")]
    servers: Vec<Server>,
    /// Members, for the parts that compare rates
    #[arg(long, default_value_t = 1)]
    members: usize,
    /// Numbers of clients
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256")]
    clients: Vec<usize>,
    /// Sizes of values
    #[arg(long, value_delimiter = ',', default_value = "256,1024")]
    bytes: Vec<usize>,
    /// Connections the clients share at most; fewer clients have one each
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Seconds of one turn
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Turns of each server; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Watchers on the one prefix
    #[arg(long, default_value_t = 1000)]
    watchers: u32,
    /// Keys of the memory and restart part
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Times the leader is stopped or killed
    #[arg(long, default_value_t = 20)]
    stops: usize,
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Puts in a closed loop, then at equal offered load
    Puts,
    /// The API server's transaction
    Txn,
    /// One key, and ten thousand
    Range,
    /// Watchers at 50 writes/s, then faster
    Watch,
    /// Memory with many keys, and the restart with them
    Bulk,
    /// The leader gets SIGTERM
    Stop,
    /// The leader gets SIGKILL
    Kill,
}

/// Runs the parts and prints the table.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    let work = options.dir.join(format!("bench-store-{}", std::process::id()));
    std::fs::create_dir_all(&work).with_context(|| format!("create {}", work.display()))?;
    let mut table = Table::default();
    let outcome = run_parts(options, &work, &mut table).await;
    table.print();
    // The servers have ended with `run_parts`.
    std::fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))?;
    outcome
}

async fn run_parts(options: &Options, work: &std::path::Path, table: &mut Table) -> anyhow::Result<()> {
    let wants = |part| options.parts.contains(&part);
    if [Part::Puts, Part::Txn, Part::Range].into_iter().any(wants) {
        steady::run(options, work, table).await?;
    }
    if wants(Part::Watch) {
        watchers::run(options, work, table).await?;
    }
    if wants(Part::Bulk) {
        bulk::run(options, work, table).await?;
    }
    for (part, signal) in [
        (Part::Stop, nix::sys::signal::Signal::SIGTERM),
        (Part::Kill, nix::sys::signal::Signal::SIGKILL),
    ] {
        if wants(part) {
            leader::run(options, work, table, signal).await?;
        }
    }
    Ok(())
}

impl Options {
    fn program(&self, server: Server) -> &std::path::Path {
        match server {
            Server::KubeStore => &self.ours,
            Server::Etcd => &self.etcd,
        }
    }

    async fn start(&self, server: Server, work: &std::path::Path, members: usize) -> anyhow::Result<Cluster> {
        Cluster::start(server, self.program(server), work, members).await
    }
}
