//! kube-controller-manager: the controllers of a cluster in one process, one of which leads.
//!
//! A controller is a file in `controllers/` and a row in `table.rs`. Its core is a pure `reconcile(observed, now) ->
//! Plan`; `lib/controller` executes plans. Controllers share informers (one watch per kind) and run while this
//! process holds the Lease `kube-system/kube-controller-manager`.
//!
//! Left out for now: volumes (attach/detach, PV, PVC, expansion), horizontal pod autoscaling, cloud integration.

pub mod config;
pub mod context;
pub mod controllers;
mod credentials;
mod discovery;
pub mod duration;
mod history;
pub mod limits;
mod node_affinity;
mod owner;
mod pods;
mod revision;
mod scaled;
mod selector;
mod server;
pub mod table;
mod taints;
mod triggers;

use std::sync::Arc;

use keelson_base::Shutdown;
use keelson_base::health::Checks;
use keelson_base::metrics::Registry;
use keelson_client::{Informers, Recorder, election};
use keelson_controller::Metrics;

pub use config::Flags;

use crate::config::Config;
use crate::context::Context;
use crate::credentials::Credentials;

/// Name of the component, of its lease, and of its user agent.
pub const COMPONENT: &str = "kube-controller-manager";

/// Runs until shutdown is set or the lease is lost.
pub async fn run(flags: Flags, shutdown: Shutdown) -> anyhow::Result<()> {
    let config = Arc::new(Config::try_from(flags)?);
    let registry = Registry::default();
    let kubeconfig = keelson_client::load_config(config.kubeconfig.as_deref()).await?;
    let agent = format!("{COMPONENT}/v1.36.0 keelson/{}", env!("CARGO_PKG_VERSION"));
    let client = keelson_client::connect_config(kubeconfig.clone(), &agent)?;
    let informers = Informers::new(client.clone());
    let listening = server::listen(&config, checks(&informers), registry.clone(), shutdown.clone());
    let serving = tokio::spawn(listening.await?);
    let recorder = Recorder::new(client.clone(), COMPONENT, None);
    let context = Context::new(
        config.clone(),
        client.clone(),
        informers,
        recorder.clone(),
        Metrics::new(&registry),
        shutdown.clone(),
    );
    let credentials = Credentials::new(&config, client.clone(), kubeconfig, &agent)?;
    keelson_base::notify::ready();
    let lead = || async move {
        table::run_enabled(&context, &credentials).await;
    };
    match config.leader_election.clone() {
        Some(lease) => {
            let recorder = Some(recorder.for_source(COMPONENT));
            election::run(client, lease, recorder, shutdown.clone(), lead).await?;
        }
        None => lead().await,
    }
    shutdown.set();
    serving.await?;
    Ok(())
}

fn checks(informers: &Informers) -> Checks {
    let informers = informers.clone();
    Checks::default()
        .live("ping", || Ok(()))
        .ready("informer-sync", move || match informers.unsynced() {
            missing if missing.is_empty() => Ok(()),
            missing => Err(format!("not yet listed: {}", missing.join(", "))),
        })
}
