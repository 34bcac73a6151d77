//! The API server under load: CPU per operation, latency, throughput, memory; aimed by kubeconfig at any cluster.
//!
//! The client stays cheap, so that a machine shared with the server still measures the server: raw HTTP/2 over TLS,
//! bodies counted and thrown away, nothing parsed but what a step needs to go on.

mod connection;
mod cost;
mod fill;
mod lists;
mod load;
mod objects;
mod requests;
mod watchers;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use connection::Cluster;
use cost::Processes;

/// Options of the API server's benchmark.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Kubeconfig of the cluster, with a client certificate
    #[arg(long, env = "KUBECONFIG", global = true, default_value = "admin.conf")]
    kubeconfig: PathBuf,
    /// Process of the API server, on this machine; without it neither CPU nor memory is shown
    #[arg(long, global = true)]
    pid: Option<u32>,
    /// Process of the store, on this machine
    #[arg(long, global = true)]
    store_pid: Option<u32>,
    /// Connections that requests are spread over
    #[arg(long, global = true, default_value_t = 4)]
    connections: usize,
    #[command(subcommand)]
    step: Step,
}

#[derive(Clone, Debug, Subcommand)]
enum Step {
    /// Resident memory now
    Memory,
    /// Store pods until there are so many
    Fill(fill::Options),
    /// Create, get, patch and apply
    Requests(requests::Options),
    /// Lists of all pods in every form
    Lists(lists::Options),
    /// Memory while many read everything at once
    Readers(lists::ReaderOptions),
    /// From a write to all of many watchers
    Watchers(watchers::Options),
}

/// Runs one step and prints what it measured.
///
/// # Errors
/// What cannot be reached, or was refused by the server.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    let cluster = Cluster::load(&options.kubeconfig).await?;
    let processes = Processes {
        server: options.pid,
        store: options.store_pid,
    };
    let bench = Bench {
        connections: cluster.connect_many(options.connections).await?,
        cluster,
        processes,
    };
    match &options.step {
        Step::Memory => {
            println!("{}", bench.processes.memory_line()?);
            Ok(())
        }
        Step::Fill(options) => fill::run(&bench, options).await,
        Step::Requests(options) => requests::run(&bench, options).await,
        Step::Lists(options) => lists::run(&bench, options).await,
        Step::Readers(options) => lists::readers(&bench, options).await,
        Step::Watchers(options) => watchers::run(&bench, options).await,
    }
}

/// What every step works with.
struct Bench {
    cluster: Cluster,
    connections: Vec<connection::Connection>,
    processes: Processes,
}
