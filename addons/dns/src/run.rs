//! Puts the process together: watches into the zone, sockets, publication.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result};
use hickory_proto::rr::Name;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use keelson_base::Shutdown;
use keelson_base::health::{self, Checks};
use keelson_base::metrics::Registry;
use keelson_client::changes::{Change, changes, namespaced_key};
use kube::runtime::watcher;
use kube::{Api, Client};
use parking_lot::RwLock;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Notify;

use crate::flags::Flags;
use crate::forward::Forwarder;
use crate::limits::PUBLISH_RETRY;
use crate::publish::{NAMESPACE, Publication, SERVICE};
use crate::server::{self, Server};
use crate::zone::{Key, ServiceFacts, SliceFacts, Zone};

/// Kinds whose first list must be there before anything is answered.
const KINDS: usize = 3;

/// Runs until shutdown.
pub async fn run(flags: Flags, shutdown: Shutdown) -> Result<()> {
    let node = match flags.node_name.clone() {
        Some(name) => name,
        None => {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
                .context("cannot read the host's name")?;
            host.trim().to_lowercase()
        }
    };
    let domain = format!("{}.", flags.cluster_domain.trim_end_matches('.'));
    let domain = Name::from_ascii(&domain).with_context(|| format!("--cluster-domain {domain}"))?;
    let user_agent = concat!("cluster-dns/", env!("CARGO_PKG_VERSION"));
    let client = keelson_client::connect(flags.kubeconfig.as_deref(), user_agent).await?;
    let watched = Watched::default();
    watched.start(&client, &format!("{SERVICE}-{node}"));

    let registry = Registry::default();
    let addresses: Vec<SocketAddr> = std::iter::once(SocketAddr::new(flags.node_ip, flags.port))
        .chain(flags.listen_address.clone())
        .collect();
    let own: HashSet<_> = addresses
        .iter()
        .map(|a| a.ip())
        .chain([flags.cluster_dns])
        .collect();
    let forwarder = Forwarder::new(flags.resolv_conf.clone(), own);
    let mut clients = flags.allow_from.clone();
    clients.push(flags.node_ip.into());
    let server = Server::new(watched.zone.clone(), domain, forwarder, clients, &registry);
    let server = Arc::new(server);
    let mut sockets = Vec::new();
    for address in addresses {
        let context = || format!("cannot listen on {address}");
        let udp = UdpSocket::bind(address).await.with_context(context)?;
        sockets.push((udp, TcpListener::bind(address).await.with_context(context)?));
    }
    serve_health(&flags, &watched, registry, &shutdown).await?;

    // An answer from an empty zone would be wrong, and kept by clients.
    tokio::select! {
        () = watched.wait() => {}
        () = shutdown.wait() => return Ok(()),
    }
    let now = seconds_since_epoch();
    server.serial.store(now, Ordering::Relaxed);
    for (udp, tcp) in sockets {
        tokio::spawn(server::udp(server.clone(), udp, shutdown.clone()));
        tokio::spawn(server::tcp(server.clone(), tcp, shutdown.clone()));
    }
    keelson_base::notify::ready();
    let publication = Publication {
        node,
        address: flags.node_ip,
        cluster_ip: flags.cluster_dns,
        port: flags.port,
        metrics_port: flags.metrics_port,
    };
    if flags.no_publish {
        shutdown.wait().await;
        return Ok(());
    }
    keep_published(&client, &publication, &watched.unpublished, &shutdown).await;
    Ok(())
}

fn seconds_since_epoch() -> u32 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(1, |d| d.as_secs() as u32)
}

async fn serve_health(
    flags: &Flags,
    watched: &Watched,
    registry: Registry,
    shutdown: &Shutdown,
) -> Result<()> {
    if flags.metrics_port == 0 {
        return Ok(());
    }
    let address = SocketAddr::new(flags.node_ip, flags.metrics_port);
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    let ready = watched.ready.clone();
    let checks = Checks::default()
        .live("ping", || Ok(()))
        .ready("synced", move || {
            if ready.load(Ordering::Relaxed) {
                Ok(())
            } else {
                Err("the first lists are not complete".to_owned())
            }
        });
    tokio::spawn(health::serve(listener, None, checks, registry, shutdown.clone()));
    Ok(())
}

/// Publishes now, whenever someone took it away, and again after a failure; withdraws at the end.
async fn keep_published(
    client: &Client,
    publication: &Publication,
    unpublished: &Notify,
    shutdown: &Shutdown,
) {
    loop {
        let failed = match publication.publish(client).await {
            Ok(()) => false,
            Err(error) => {
                tracing::warn!("cannot publish this node's DNS; trying again: {error:#}");
                true
            }
        };
        tokio::select! {
            () = unpublished.notified() => {}
            () = tokio::time::sleep(PUBLISH_RETRY), if failed => {}
            () = shutdown.wait() => break,
        }
    }
    if let Err(error) = publication.withdraw(client).await {
        tracing::warn!(
            error = keelson_base::error::chain(&error),
            "this node's EndpointSlice stays behind"
        );
    }
}

/// The zone and what keeps it up to date.
#[derive(Clone, Default)]
struct Watched {
    zone: Arc<RwLock<Zone>>,
    synced: Arc<AtomicUsize>,
    ready: Arc<AtomicBool>,
    became_ready: Arc<Notify>,
    /// Our Service or EndpointSlice was deleted.
    unpublished: Arc<Notify>,
}

impl Watched {
    async fn wait(&self) {
        let notified = self.became_ready.notified();
        if !self.ready.load(Ordering::Acquire) {
            notified.await;
        }
    }

    fn start(&self, client: &Client, own_slice: &str) {
        let config = watcher::Config::default;
        let own_service = format!("{NAMESPACE}/{SERVICE}");
        let services = changes::<Service>(Api::all(client.clone()), config(), namespaced_key);
        self.follow(services, move |watched, change| match change {
            Ok(service) => {
                let facts = ServiceFacts::new(&service);
                watched
                    .zone
                    .write()
                    .set_service(key(&namespaced_key(&service)), facts);
            }
            Err(gone) => {
                watched.zone.write().set_service(key(&gone), None);
                if gone == own_service {
                    watched.unpublished.notify_one();
                }
            }
        });
        // A slice's key carries its service, which is not known any more when it is gone.
        let slice_key = |slice: &EndpointSlice| {
            let (namespace, name) = SliceFacts::owner(slice).unwrap_or_default();
            format!(
                "{namespace}/{name}|{}",
                slice.metadata.name.as_deref().unwrap_or_default()
            )
        };
        let own_slice = format!(
            "{own_service}|{own_slice}",
            own_service = format_args!("{NAMESPACE}/{SERVICE}")
        );
        let slices = changes::<EndpointSlice>(Api::all(client.clone()), config(), slice_key);
        self.follow(slices, move |watched, change| {
            let (id, facts) = match change {
                Ok(slice) => (slice_key(&slice), Some(SliceFacts::new(&slice))),
                Err(gone) => (gone, None),
            };
            let gone = facts.is_none();
            if let Some((owner, name)) = id.split_once('|') {
                watched.zone.write().set_slice(key(owner), name, facts);
            }
            if gone && id == own_slice {
                watched.unpublished.notify_one();
            }
        });
        let namespaces = changes::<Namespace>(Api::all(client.clone()), config(), namespaced_key);
        self.follow(namespaces, |watched, change| {
            let (id, present) = match change {
                Ok(namespace) => (namespaced_key(&namespace), true),
                Err(gone) => (gone, false),
            };
            watched.zone.write().set_namespace(&key(&id).1, present);
        });
    }

    fn follow<K: keelson_client::Object>(
        &self,
        mut changes: keelson_client::changes::Changes<K>,
        take: impl Fn(&Self, Result<K, String>) + Send + 'static,
    ) {
        let watched = self.clone();
        tokio::spawn(async move {
            while let Some(change) = changes.next().await {
                match change {
                    Change::Applied(object) => take(&watched, Ok(object)),
                    Change::Gone(key) => take(&watched, Err(key)),
                    Change::Synced => {
                        if watched.synced.fetch_add(1, Ordering::AcqRel) + 1 == KINDS {
                            watched.ready.store(true, Ordering::Release);
                            watched.became_ready.notify_waiters();
                        }
                    }
                }
            }
        });
    }
}

fn key(text: &str) -> Key {
    let (namespace, name) = text.split_once('/').unwrap_or(("", text));
    (namespace.into(), name.into())
}
