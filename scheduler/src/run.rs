//! Puts the process together: configuration, client, health server, election, scheduling loop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use keelson_base::Shutdown;
use keelson_base::health::{self, Checks};
use keelson_base::metrics::Registry;
use keelson_base::tls::ServerTls;
use keelson_client::election;
use keelson_machinery::time::parse_duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::config::File;
use crate::driver::{self, Surroundings};
use crate::flags::Flags;
use crate::metrics::Metrics;
use crate::recorder::Recorder;
use crate::scheduler::Scheduler;

/// Runs kube-scheduler until shutdown.
pub async fn run(flags: Flags, shutdown: Shutdown) -> Result<()> {
    let file = flags
        .config
        .as_deref()
        .map(File::read)
        .transpose()?
        .unwrap_or_default();
    let profiles = file.profiles()?;
    let kubeconfig = match file.client_connection.kubeconfig.as_str() {
        "" => flags.kubeconfig.clone(),
        path => Some(path.into()),
    };
    let user_agent = concat!("kube-scheduler/", env!("CARGO_PKG_VERSION"));
    let client = keelson_client::connect(kubeconfig.as_deref(), user_agent).await?;
    let registry = Registry::default();
    let metrics = Metrics::new(&registry);
    let synced = Arc::new(AtomicBool::new(false));
    serve_health(&flags, &synced, registry, &shutdown).await?;
    keelson_base::notify::ready();

    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let recorder = Recorder::start(client.clone(), host.trim().to_owned());
    let around = Surroundings {
        client: client.clone(),
        recorder,
        metrics,
        synced,
    };
    let scheduler = Scheduler::new(profiles, file.backoff());
    if !file.leader_election.leader_elect.unwrap_or(flags.leader_elect) {
        driver::run(scheduler, around, std::future::ready(()), shutdown).await;
        return Ok(());
    }
    // The loop runs from the start, so that a follower's state is warm; only decisions wait for the lease.
    let (won, lead) = oneshot::channel::<()>();
    let looping = driver::run(scheduler, around, async { _ = lead.await }, shutdown.clone());
    let waiting = shutdown.clone();
    let lead = || async move {
        _ = won.send(());
        waiting.wait().await;
    };
    let config = election_config(&flags, &file)?;
    let recorder = keelson_client::Recorder::new(client.clone(), "default-scheduler", None);
    let mut electing = std::pin::pin!(election::run(client, config, Some(recorder), shutdown, lead));
    tokio::select! {
        result = &mut electing => result?,
        // The loop ends at shutdown; the lease is then given back, so that a successor need not wait for its end.
        () = looping => electing.await?,
    }
    Ok(())
}

fn election_config(flags: &Flags, file: &File) -> Result<election::Config> {
    let file = &file.leader_election;
    let duration = |in_file: &Option<String>, flag: &str| -> Result<Duration> {
        let text = in_file.as_deref().unwrap_or(flag);
        let nanos = parse_duration(text)
            .map_err(anyhow::Error::msg)
            .context("leader election")?;
        Ok(Duration::from_nanos(nanos.max(0) as u64))
    };
    let namespace = file
        .resource_namespace
        .as_deref()
        .unwrap_or(&flags.leader_elect_resource_namespace);
    let name = file
        .resource_name
        .as_deref()
        .unwrap_or(&flags.leader_elect_resource_name);
    Ok(election::Config {
        lease_duration: duration(&file.lease_duration, &flags.leader_elect_lease_duration)?,
        renew_deadline: duration(&file.renew_deadline, &flags.leader_elect_renew_deadline)?,
        retry_period: duration(&file.retry_period, &flags.leader_elect_retry_period)?,
        ..election::Config::new(namespace, name)
    })
}

async fn serve_health(
    flags: &Flags,
    synced: &Arc<AtomicBool>,
    registry: Registry,
    shutdown: &Shutdown,
) -> Result<()> {
    if flags.secure_port == 0 {
        return Ok(());
    }
    let tls = match (&flags.tls_cert_file, &flags.tls_private_key_file) {
        (Some(cert), Some(key)) => ServerTls {
            cert: cert.clone(),
            key: key.clone(),
            client_ca: None,
        }
        .config(&["h2", "http/1.1"])?,
        _ => keelson_base::self_signed::config(&["localhost"])?,
    };
    let address = SocketAddr::new(flags.bind_address, flags.secure_port);
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    let synced = synced.clone();
    let checks = Checks::default()
        .live("ping", || Ok(()))
        .ready("informer-sync", move || {
            if synced.load(Ordering::Relaxed) {
                Ok(())
            } else {
                Err("caches are not synced".to_owned())
            }
        });
    tokio::spawn(health::serve(
        listener,
        Some(tls),
        checks,
        registry,
        shutdown.clone(),
    ));
    Ok(())
}
