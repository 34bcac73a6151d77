//! kube-rs against a cluster: what it offers, each once, and its reflector through a restart of the API server.
//!
//! ```text
//! client-kube-rs verbs               prints a line per group
//! client-kube-rs restart STOP_FILE   prints "ready" when it follows, and at the end what was compared
//! ```
//! Works in the namespace `$NS` of the cluster of `$KUBECONFIG`; the first outcome that is not as told ends it with an
//! error.

mod restart;
mod verbs;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

/// kube-rs against a cluster.
#[derive(Parser)]
enum Cli {
    /// Every form of request, each once
    Verbs,
    /// The reflector, while the API server is killed and comes back
    Restart {
        /// Writing goes on until this file exists
        stop_file: PathBuf,
    },
}

/// A client and the namespace to work in.
struct World {
    client: kube::Client,
    namespace: String,
}

fn main() -> ExitCode {
    keelson_base::tls::install_provider();
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match built {
        Ok(runtime) => runtime.block_on(run(Cli::parse())),
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

async fn run(cli: Cli) -> anyhow::Result<()> {
    let world = World {
        client: kube::Client::try_default()
            .await
            .context("connect by $KUBECONFIG")?,
        namespace: std::env::var("NS").context("NS must name a namespace")?,
    };
    match cli {
        Cli::Verbs => verbs::run(&world).await,
        Cli::Restart { stop_file } => restart::run(&world, &stop_file).await,
    }
}
