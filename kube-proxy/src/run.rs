//! Watches services, endpoints and this node, and keeps the kernel's tables up to date.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use keelson_base::Shutdown;
use keelson_base::metrics::Registry;
use keelson_client::changes::{Change, changes, namespaced_key};
use keelson_machinery::time::parse_duration;
use kube::runtime::watcher;
use kube::{Api, Client};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::conntrack::{Flow, stale};
use crate::endpoints::choose;
use crate::flags::{Flags, listen_address};
use crate::health::{Checked, Health, ServiceServers};
use crate::kernel::{self, Sysctl};
use crate::limits::{EVENTS_MAX, FLOWS_MAX, RETRY};
use crate::model::{Entry, Family, NodeInfo, ServiceInfo, ServiceName, Slice};
use crate::render::{Dialect, delete_table};
use crate::server::{self, Answer, Handler};
use crate::service_rules::Context;
use crate::table::Table;

/// What the watches tell the loop.
enum Message {
    Service(ServiceName, Option<ServiceInfo>),
    Slice(ServiceName, String, Option<Slice>),
    Node(NodeInfo),
    Synced,
}

/// Kinds whose first list the loop waits for.
const KINDS: usize = 3;
/// Those that another proxy serves are not ours.
const OURS: &str = "!service.kubernetes.io/service-proxy-name";
const OURS_WITH_ADDRESS: &str = "!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless";

/// Runs until shutdown; with `--cleanup`, once.
pub async fn run(flags: Flags, shutdown: Shutdown) -> Result<()> {
    let families = [Family::V4, Family::V6];
    let dialects = families.map(|family| Dialect {
        family,
        masquerade_bit: flags.masquerade_bit,
    });
    if flags.cleanup {
        let text: String = dialects.into_iter().map(delete_table).collect();
        return kernel::nft(&text).await;
    }
    let flags = crate::config::with_file(flags)?;
    let name = node_name(&flags)?;
    let duration = |text: &str| -> Result<u64> {
        parse_duration(text)
            .map(|nanos| nanos.max(0) as u64)
            .map_err(anyhow::Error::msg)
    };
    let pause = Duration::from_nanos(duration(&flags.min_sync_period).context("--nftables-min-sync-period")?);
    kernel::set(&sysctls(&flags, &duration)?);
    let user_agent = concat!("kube-proxy/", env!("CARGO_PKG_VERSION"));
    let client = keelson_client::connect(flags.kubeconfig.as_deref(), user_agent).await?;
    let registry = Registry::default();
    let health = Health::default();
    serve(&flags, &health, &registry, &shutdown).await?;
    keelson_base::notify::ready();

    let (sender, receiver) = mpsc::channel(EVENTS_MAX);
    watch(&client, &name, &sender);
    let proxy = Proxy {
        node_ports: NodePorts::new(&flags),
        context: Context {
            node: NodeInfo {
                name,
                eligible: true,
                ..NodeInfo::default()
            },
            cluster_cidrs: flags.cluster_cidr.clone(),
            masquerade_all: flags.masquerade_all,
        },
        tables: vec![Table::new(dialects[0])],
        v6: Some(Table::new(dialects[1])),
        model: BTreeMap::new(),
        changed: BTreeMap::new(),
        unsynced: KINDS,
        servers: ServiceServers::new(health.clone(), shutdown.clone()),
        health,
        metrics: Metrics::new(&registry),
    };
    proxy.run(receiver, pause, shutdown).await;
    Ok(())
}

fn node_name(flags: &Flags) -> Result<String> {
    if let Some(name) = &flags.hostname_override {
        return Ok(name.trim().to_lowercase());
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").context("cannot read the host's name")?;
    Ok(host.trim().to_lowercase())
}

fn sysctls(flags: &Flags, duration: &impl Fn(&str) -> Result<u64>) -> Result<[Sysctl; 3]> {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let per_core = u64::from(flags.conntrack_max_per_core);
    let max = if per_core == 0 {
        0
    } else {
        (per_core * cores).max(flags.conntrack_min.into())
    };
    let seconds = |text: &str| duration(text).map(|nanos| nanos / 1_000_000_000);
    let established = seconds(&flags.conntrack_tcp_timeout_established)?;
    let close_wait = seconds(&flags.conntrack_tcp_timeout_close_wait)?;
    Ok([
        Sysctl {
            path: "nf_conntrack_max",
            value: max,
            at_least: true,
        },
        Sysctl {
            path: "nf_conntrack_tcp_timeout_established",
            value: established,
            at_least: false,
        },
        Sysctl {
            path: "nf_conntrack_tcp_timeout_close_wait",
            value: close_wait,
            at_least: false,
        },
    ])
}

async fn serve(flags: &Flags, health: &Health, registry: &Registry, shutdown: &Shutdown) -> Result<()> {
    if let Some(address) = listen_address(&flags.healthz_bind_address, 10256)? {
        let health = health.clone();
        let handler: Handler = Arc::new(move |path| health.answer(path));
        server::serve(address, handler, shutdown.clone()).await?;
    }
    if let Some(address) = listen_address(&flags.metrics_bind_address, 10249)? {
        let registry = registry.clone();
        let handler: Handler = Arc::new(move |path| match path {
            "/metrics" => Answer {
                content_type: keelson_base::metrics::CONTENT_TYPE,
                ..Answer::text(registry.render())
            },
            "/proxyMode" => Answer::text("nftables"),
            "/healthz" => Answer::text("ok"),
            _ => Answer::not_found(),
        });
        server::serve(address, handler, shutdown.clone()).await?;
    }
    Ok(())
}

fn watch(client: &Client, node: &str, sender: &mpsc::Sender<Message>) {
    let config = watcher::Config::default;
    let parse = |key: &str| {
        let (namespace, name) = key.split_once('/').unwrap_or(("", key));
        ServiceName {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    };
    let services = changes::<Service>(Api::all(client.clone()), config().labels(OURS), namespaced_key);
    forward(services, sender, move |change| match change {
        Change::Applied(service) => Some(Message::Service(
            parse(&namespaced_key(&service)),
            ServiceInfo::new(&service),
        )),
        Change::Gone(key) => Some(Message::Service(parse(&key), None)),
        Change::Synced => Some(Message::Synced),
    });
    // A slice's key carries its service, which is not known any more when it is gone.
    let key = |slice: &EndpointSlice| {
        let owner = Slice::owner(slice).map(|o| o.to_string()).unwrap_or_default();
        format!("{owner}|{}", slice.metadata.name.as_deref().unwrap_or_default())
    };
    let own = node.to_owned();
    let slices = changes::<EndpointSlice>(Api::all(client.clone()), config().labels(OURS_WITH_ADDRESS), key);
    forward(slices, sender, move |change| match change {
        Change::Applied(slice) => {
            let name = slice.metadata.name.clone()?;
            Some(Message::Slice(
                Slice::owner(&slice)?,
                name,
                Some(Slice::new(&slice, &own)),
            ))
        }
        Change::Gone(key) => {
            let (owner, name) = key.split_once('|')?;
            Some(Message::Slice(parse(owner), name.to_owned(), None))
        }
        Change::Synced => Some(Message::Synced),
    });
    let only = config().fields(&format!("metadata.name={node}"));
    let own = node.to_owned();
    forward(
        changes::<Node>(Api::all(client.clone()), only, namespaced_key),
        sender,
        move |change| match change {
            Change::Applied(node) => Some(Message::Node(NodeInfo::new(&node))),
            Change::Gone(_) => Some(Message::Node(NodeInfo {
                name: own.clone(),
                eligible: false,
                ..NodeInfo::default()
            })),
            Change::Synced => Some(Message::Synced),
        },
    );
}

fn forward<K: keelson_client::Object>(
    mut changes: keelson_client::changes::Changes<K>,
    sender: &mpsc::Sender<Message>,
    message: impl Fn(Change<K>) -> Option<Message> + Send + 'static,
) {
    let sender = sender.clone();
    tokio::spawn(async move {
        while let Some(change) = changes.next().await {
            if let Some(message) = message(change)
                && sender.send(message).await.is_err()
            {
                return;
            }
        }
    });
}

/// Which addresses serve node ports.
struct NodePorts {
    primary: bool,
    ranges: Vec<IpNet>,
    bind_address: Option<IpAddr>,
}

impl NodePorts {
    fn new(flags: &Flags) -> Self {
        let listed = &flags.nodeport_addresses;
        Self {
            primary: listed.is_empty() || listed.iter().any(|a| a == "primary"),
            ranges: listed.iter().filter_map(|a| a.parse().ok()).collect(),
            bind_address: flags.bind_address.filter(|ip| !ip.is_unspecified()),
        }
    }

    fn addresses(&self, node: &NodeInfo) -> Vec<IpAddr> {
        let own: Vec<IpAddr> = self
            .bind_address
            .into_iter()
            .chain(node.addresses.iter().copied())
            .collect();
        if self.primary {
            let first = |family| own.iter().copied().find(|ip| Family::of(*ip) == family);
            return [Family::V4, Family::V6].into_iter().filter_map(first).collect();
        }
        own.into_iter()
            .filter(|ip| self.ranges.iter().any(|r| r.contains(ip)))
            .collect()
    }
}

struct Metrics {
    syncs: Histogram,
    failures: Counter,
}

impl Metrics {
    fn new(registry: &Registry) -> Self {
        let metrics = Self {
            syncs: Histogram::new(exponential_buckets(0.001, 2.0, 15)),
            failures: Counter::default(),
        };
        let syncs = "SyncProxyRules latency in seconds";
        registry.register(
            "kubeproxy_sync_proxy_rules_duration_seconds",
            syncs,
            metrics.syncs.clone(),
        );
        let failures = "Cumulative proxy nftables sync failures";
        registry.register(
            "kubeproxy_sync_proxy_rules_nftables_sync_failures",
            failures,
            metrics.failures.clone(),
        );
        metrics
    }
}

struct Proxy {
    node_ports: NodePorts,
    context: Context,
    tables: Vec<Table>,
    /// The IPv6 table, until there is something to put in it.
    v6: Option<Table>,
    model: BTreeMap<ServiceName, Entry>,
    /// Services that changed since the kernel was last right, with what they were then.
    changed: BTreeMap<ServiceName, Entry>,
    unsynced: usize,
    servers: ServiceServers,
    health: Health,
    metrics: Metrics,
}

impl Proxy {
    async fn run(mut self, mut receiver: mpsc::Receiver<Message>, pause: Duration, shutdown: Shutdown) {
        let mut due: Option<Instant> = None;
        let mut last: Option<Instant> = None;
        loop {
            let message = tokio::select! {
                message = receiver.recv() => message,
                () = until(due) => None,
                () = shutdown.wait() => return,
            };
            if let Some(message) = message {
                self.take_in(message);
                while let Ok(message) = receiver.try_recv() {
                    self.take_in(message);
                }
                let earliest = last.map_or_else(Instant::now, |last| last + pause);
                due = due.or(Some(earliest));
            }
            if self.unsynced > 0 || due.is_none_or(|due| due > Instant::now()) {
                continue;
            }
            last = Some(Instant::now());
            due = match self.sync().await {
                Ok(()) => None,
                Err(error) => {
                    self.metrics.failures.inc();
                    tracing::error!("cannot update the rules; starting over: {error:#}");
                    Some(Instant::now() + RETRY)
                }
            };
        }
    }

    fn take_in(&mut self, message: Message) {
        self.health.behind();
        match message {
            Message::Synced => self.unsynced = self.unsynced.saturating_sub(1),
            Message::Node(node) => {
                self.health.set_eligible(node.eligible);
                // Eligibility is for the health check only, and changes no rule.
                self.context.node = NodeInfo {
                    eligible: true,
                    ..node
                };
            }
            Message::Service(name, info) => self.change(name, |entry| entry.info = info),
            Message::Slice(name, slice_name, slice) => self.change(name, |entry| {
                match slice {
                    Some(slice) => entry.slices.insert(slice_name, slice),
                    None => entry.slices.remove(&slice_name),
                };
            }),
        }
    }

    fn change(&mut self, name: ServiceName, how: impl FnOnce(&mut Entry)) {
        let entry = self.model.entry(name.clone()).or_default();
        self.changed.entry(name.clone()).or_insert_with(|| entry.clone());
        how(entry);
        if entry.info.is_none() && entry.slices.is_empty() {
            self.model.remove(&name);
        }
    }

    async fn sync(&mut self) -> Result<()> {
        let began = Instant::now();
        let v6 = |ip: &IpAddr| ip.is_ipv6();
        if self
            .model
            .values()
            .filter_map(|e| e.info.as_ref())
            .any(|i| i.cluster_ips.iter().any(v6))
        {
            self.tables.extend(self.v6.take());
        }
        let names: BTreeSet<ServiceName> = self.changed.keys().cloned().collect();
        let addresses = self.node_ports.addresses(&self.context.node);
        let update = |table: &mut Table| table.update(&self.model, &names, &self.context, &addresses);
        let text: String = self.tables.iter_mut().map(update).collect();
        if !text.is_empty()
            && let Err(error) = kernel::nft(&text).await
        {
            self.tables.iter_mut().for_each(Table::failed);
            return Err(error);
        }
        // Entries are deleted after the rules lead elsewhere, or packets would make them again.
        let flows: Vec<Flow> = self
            .changed
            .iter()
            .flat_map(|(name, old)| stale(old, self.model.get(name)))
            .take(FLOWS_MAX)
            .collect();
        self.changed.clear();
        if let Err(error) = kernel::delete_flows(&flows).await {
            tracing::warn!("stale UDP flows may remain: {error:#}");
        }
        self.servers.update(self.checked()).await;
        self.health.updated();
        self.metrics.syncs.observe(began.elapsed().as_secs_f64());
        Ok(())
    }

    /// Services whose health is asked per node, with their endpoints here.
    fn checked(&self) -> BTreeMap<ServiceName, Checked> {
        let mut all = BTreeMap::new();
        for (name, entry) in &self.model {
            let Some(info) = entry.info.as_ref().filter(|i| i.health_check_node_port > 0) else {
                continue;
            };
            let local = |port| {
                let endpoints = entry.endpoints(port, Family::of(info.cluster_ips[0]));
                choose(&endpoints, &self.context.node)
                    .local
                    .into_iter()
                    .map(|e| e.ip)
                    .collect::<Vec<_>>()
            };
            let ips: BTreeSet<IpAddr> = info.ports.iter().flat_map(local).collect();
            let checked = Checked {
                port: info.health_check_node_port,
                local_endpoints: ips.len(),
            };
            all.insert(name.clone(), checked);
        }
        all
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
