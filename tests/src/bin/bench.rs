//! Benchmarks: commands, not timed tests. Each can be aimed at any cluster by its kubeconfig.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use keelson_tests::bench::{api, chain, rest, start, store};

/// Measures a cluster.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The API server under load: CPU per operation, latency, throughput, memory
    Api(api::Options),
    /// From `kubectl create deployment` to all pods Running, and from `kubectl delete` to all gone, step by step
    Chain(chain::Options),
    /// Memory and CPU of processes at rest
    Rest(rest::Options),
    /// From nothing (certificates at hand) to /readyz and to the node's Ready
    Start(start::Options),
    /// kube-store beside etcd: speed, CPU, memory, restart, change of leader
    Store(store::Options),
    /// Print where the admin kubeconfig of a local cluster lies
    Where {
        /// The cluster's directory
        #[arg(long, default_value = "/var/lib/keelson/local")]
        dir: PathBuf,
    },
}

fn main() -> ExitCode {
    keelson_base::tls::install_provider();
    let built = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let outcome = match built {
        Ok(runtime) => runtime.block_on(run(Cli::parse().what)),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(what: What) -> anyhow::Result<()> {
    match what {
        What::Api(options) => api::run(&options).await,
        What::Chain(options) => chain::run(&options).await,
        What::Rest(options) => rest::run(&options),
        What::Start(options) => start::run(&options).await,
        What::Store(options) => store::run(&options).await,
        What::Where { dir } => {
            println!("{}", dir.join("admin.conf").display());
            Ok(())
        }
    }
}
