//! Puts the kubelet together and runs it until shutdown.

use crate::config::Config;
use crate::cri::Cri;
use crate::host::{Host, Settings};
use crate::images::Images;
use crate::metrics::Metrics;
use crate::node::{lease, machine, object, register};
use crate::objects::Objects;
use crate::pods::Pods;
use crate::runtime::resources::NodeLimits;
use crate::runtime::security;
use crate::runtime_events::{self, News};
use crate::status::sender::StatusSender;
use crate::volumes::{Volumes, tokens::Tokens};
use crate::{cgroups::Cgroups, client_certificate, garbage, images, limits, log_rotation, static_pods};
use anyhow::Context;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use keelson_base::{Shutdown, metrics::Registry};
use keelson_client::{Event, EventType, Recorder, informer};
use kube::Api;
use kube::runtime::watcher;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Semaphore;

const USER_AGENT: &str = concat!("kubelet/v1.36.0+keelson.", env!("CARGO_PKG_VERSION"));

/// Runs until shutdown; containers go on running after it.
pub async fn run(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    let metrics = Metrics::new(Registry::default());
    let cri = Cri::new(&config.runtime_endpoint, metrics.clone()).map_err(anyhow::Error::msg)?;
    let Some(runtime) = connect_runtime(&cri, &shutdown).await else {
        return Ok(());
    };
    let kubeconfig = config.kubeconfig.as_deref();
    tokio::select! {
        made = client_certificate::ensure(&config) => made?,
        () = shutdown.wait() => return Ok(()),
    }
    let client = keelson_client::connect(kubeconfig, USER_AGENT)
        .await
        .context("cannot connect to the API server")?;
    let facts = facts(&config, &runtime);
    let (host, pods_slot) = assemble(
        &config,
        &facts,
        cri,
        client.clone(),
        metrics,
        &runtime.runtime_name,
    )?;
    let found = runtime_events::list(&host.cri)
        .await
        .context("cannot list what the container runtime has")?;
    let pods = Pods::new(host.clone(), &found);
    // Set once, right here; the slot only breaks the cycle between volumes and workers.
    let _ = pods_slot.set(pods.clone());

    let name = config.node_name.clone();
    host.event(
        register::reference(&name),
        EventType::Normal,
        "Starting",
        "Starting kubelet.",
    );
    if config.register {
        tokio::select! {
            () = register::register(&client, &facts) => {}
            () = shutdown.wait() => return Ok(()),
        }
    }
    let schedule = register::Schedule {
        look_every: config.status_look_every,
        report_every: config.status_report_every,
    };
    tokio::spawn(register::keep(host.clone(), facts, schedule));
    tokio::spawn(lease::keep(
        client.clone(),
        host.node.clone(),
        name.clone(),
        config.lease_duration_s,
    ));
    crate::server::start(&config, host.clone(), pods.clone(), shutdown.clone()).await?;

    tokio::select! {
        () = feed(&host, &pods) => {}
        () = shutdown.wait() => return Ok(()),
    }
    start_chores(&config, &host, &pods);
    keelson_base::notify::ready();
    tracing::info!(node = %name, runtime = %runtime.runtime_name, version = %runtime.runtime_version, "kubelet runs");
    shutdown.wait().await;
    Ok(())
}

/// Feeds the workers from the watch of this node's pods and from the runtime; returns when the first list is in.
async fn feed(host: &Arc<Host>, pods: &Arc<Pods>) {
    // Environment and host ports depend on services and on the node.
    host.services.synced().await;
    host.node.synced().await;
    let own = watcher::Config::default().fields(&format!("spec.nodeName={}", host.settings.node_name));
    let watched = informer::<Pod>(Api::all(host.client.clone()), own);
    let feed = pods.clone();
    watched.on(move |event| match event {
        Event::Added(pod) | Event::Modified { new: pod, .. } => feed.put(pod),
        Event::Deleted(pod) => feed.gone(pod),
    });
    let listener = pods.clone();
    tokio::spawn(runtime_events::follow(
        host.cri.clone(),
        Arc::new(move |news: News| listener.hear(news)),
    ));
    watched.synced().await;
}

/// What goes on beside the pods.
fn start_chores(config: &Config, host: &Arc<Host>, pods: &Arc<Pods>) {
    tokio::spawn(garbage::collect(host.clone(), pods.clone()));
    tokio::spawn(log_rotation::run(host.clone()));
    tokio::spawn(images::collect::run(host.clone()));
    if let Some(path) = config.static_pods.clone() {
        tokio::spawn(static_pods::follow(path, host.clone(), pods.clone()));
    }
    if config.rotate_certificates {
        let (dir, node) = (config.cert_dir.clone(), config.node_name.clone());
        tokio::spawn(client_certificate::renew(host.client.clone(), dir, node));
    }
}

/// Waits for the runtime, which may be starting beside us; none when the shutdown came first.
async fn connect_runtime(cri: &Cri, shutdown: &Shutdown) -> Option<keelson_proto::cri::v1::VersionResponse> {
    let mut pause = Duration::from_millis(50);
    loop {
        match cri.version().await {
            Ok(version) => return Some(version),
            Err(status) => {
                tracing::warn!(error = %crate::cri::describe(&status), "container runtime not reachable; retrying")
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.wait() => return None,
        }
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

fn facts(config: &Config, runtime: &keelson_proto::cri::v1::VersionResponse) -> object::Facts {
    object::Facts {
        name: config.node_name.clone(),
        hostname: config.hostname.clone(),
        addresses: config.node_ips.clone(),
        machine: machine::read(),
        fs: machine::filesystem(std::path::Path::new("/")),
        max_pods: config.max_pods,
        port: config.server.port,
        runtime_version: format!("{}://{}", runtime.runtime_name, runtime.runtime_version),
        kubelet_version: keelson_base::version::FULL.into(),
        labels: config.labels.clone(),
        taints: config.taints.clone(),
        schedulable: true,
        pod_cidr: config.pod_cidr.clone(),
        reserved: config.reserved.clone(),
    }
}

type PodsSlot = Arc<OnceLock<Arc<Pods>>>;

fn assemble(
    config: &Config,
    facts: &object::Facts,
    cri: Cri,
    client: kube::Client,
    metrics: Metrics,
    runtime_name: &str,
) -> anyhow::Result<(Arc<Host>, PodsSlot)> {
    let cgroups = Cgroups::detect(&config.cgroup_root, config.cgroups_per_qos);
    cgroups.prepare().context("cannot make the cgroups of pods")?;
    std::fs::create_dir_all(config.root_dir.join("pods"))
        .with_context(|| format!("cannot make {}", config.root_dir.display()))?;
    let slot: PodsSlot = Arc::default();
    let told = slot.clone();
    let objects = Arc::new(Objects::new(
        client.clone(),
        Arc::new(move |uids| {
            if let Some(pods) = told.get() {
                pods.volumes_changed(uids);
            }
        }),
    ));
    let own = watcher::Config::default().fields(&format!("metadata.name={}", config.node_name));
    let host = Host {
        settings: Settings {
            node_name: config.node_name.clone(),
            hostname: config.hostname.clone(),
            root_dir: config.root_dir.clone(),
            pod_logs_dir: config.pod_logs_dir.clone(),
            dns: config.dns.clone(),
            limits: NodeLimits {
                memory_bytes: facts.machine.memory_bytes,
                oom_score_adj_min: facts.machine.oom_score_adj,
                cpu_cfs_quota: config.cpu_cfs_quota,
            },
            security: security::Defaults {
                seccomp_default: config.seccomp_default,
                seccomp_root: config.root_dir.join("seccomp").display().to_string(),
            },
            host_ips: config.node_ips.clone(),
            allocatable: object::allocatable(facts),
            max_pods: config.max_pods,
            log_bytes_max: config.log_bytes_max,
            log_files_max: config.log_files_max,
            runtime_name: runtime_name.to_owned(),
            image_marks: config.image_marks,
        },
        images: Images::new(cri.clone()),
        volumes: Volumes::new(
            config.root_dir.clone(),
            objects.clone(),
            Tokens::new(client.clone()),
        ),
        sender: StatusSender::new(client.clone()),
        recorder: Recorder::new(client.clone(), "kubelet", Some(&config.node_name)),
        services: informer::<Service>(Api::all(client.clone()), watcher::Config::default()),
        node: informer::<Node>(Api::all(client.clone()), own),
        starts: Semaphore::new(limits::POD_STARTS_MAX),
        removals: Semaphore::new(limits::REMOVALS_MAX),
        cri,
        client,
        objects,
        cgroups,
        metrics,
    };
    Ok((Arc::new(host), slot))
}
