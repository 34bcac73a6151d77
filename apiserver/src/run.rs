//! From the command line to a running server, and its end.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use keelson_base::Shutdown;
use keelson_base::health::Checks;
use keelson_base::tls::{ClientAuth, ServerTls};
use tokio::net::TcpListener;

use crate::allocators::Allocators;
use crate::auth_files::AuthFiles;
use crate::bootstrap;
use crate::cache::Progress;
use crate::cache::feed::Feed;
use crate::cache::reader::CacheReader;
use crate::discovery::Discovery;
use crate::filters::InFlight;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::registry::Registry;
use crate::server::{RequestOptions, Server};
use crate::storage::endpoints::EndpointOptions;
use crate::storage::keys::Keys;
use crate::storage::leases::Leases;
use crate::storage::{Etcd, compact};
use crate::streams::Kubelets;
use crate::subresources::token::TokenOptions;
use crate::{auth, connection, tls};

/// Runs until shutdown.
///
/// # Errors
/// What keeps the server from starting, with the flag or file at fault.
pub async fn run(options: Options, shutdown: Shutdown) -> anyhow::Result<()> {
    let address = SocketAddr::new(options.serving.bind_address, options.serving.secure_port);
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}: check --bind-address and --secure-port"))?;
    serve(options, listener, shutdown).await
}

/// Runs on a listener until shutdown.
///
/// # Errors
/// As `run`.
pub async fn serve(options: Options, listener: TcpListener, shutdown: Shutdown) -> anyhow::Result<()> {
    let server_tls = ServerTls {
        cert: options.serving.tls_cert_file.clone(),
        key: options.serving.tls_private_key_file.clone(),
        client_ca: None::<(std::path::PathBuf, ClientAuth)>,
    }
    .config_with_verifier(&["h2", "http/1.1"], tls::any_certificate())
    .context("--tls-cert-file and --tls-private-key-file")?;
    let done = bootstrap::Done::default();
    let server = build(&options, &done, &shutdown)?;
    tokio::spawn(server.feed.clone().run(shutdown.clone()));
    let made = tokio::spawn(bootstrap::run(server.clone(), identity(&options), done));
    if !options.store.etcd_compaction_interval.is_zero() {
        let interval = options.store.etcd_compaction_interval;
        tokio::spawn(compact::run(server.store.clone(), interval, shutdown.clone()));
    }
    tracing::info!(address = %listener.local_addr()?, "serving");
    keelson_base::notify::ready();
    let streams = options.serving.http2_max_streams_per_connection;
    connection::serve(server, listener, server_tls, streams, shutdown).await;
    // It takes this server out of the endpoints; a panic in it was logged.
    let _ = made.await;
    Ok(())
}

fn identity(options: &Options) -> bootstrap::Identity {
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    bootstrap::Identity {
        place: bootstrap::kubernetes_service::Place {
            address: advertised(options),
            port: options.serving.secure_port,
            node_port: options.serving.kubernetes_service_node_port,
        },
        hostname: hostname.trim().to_owned(),
        authentication: bootstrap::authentication_config::data(&options.authn),
    }
}

fn build(options: &Options, done: &bootstrap::Done, shutdown: &Shutdown) -> anyhow::Result<Arc<Server>> {
    let own = options
        .store
        .etcd_certfile
        .clone()
        .zip(options.store.etcd_keyfile.clone());
    let store = Etcd::new(&EndpointOptions {
        servers: options.store.etcd_servers.clone(),
        ca: options.store.etcd_cafile.clone(),
        cert_key: own,
    })?;
    let keys = Keys::new(&options.store.etcd_prefix);
    let progress = Progress::start(store.clone(), &keys.other("progress"));
    let registry = Arc::new(Registry::new(&progress));
    let feed = Arc::new(Feed::new(
        store.clone(),
        keys.root(),
        registry.routes(),
        progress.clone(),
    ));
    let reader = Arc::new(CacheReader::new(registry.caches()));
    let auth_files = AuthFiles::new(options);
    let auth = auth::build(options, &reader)?;
    let admission = auth::admission(options)?;
    let address = SocketAddr::new(advertised(options), options.serving.secure_port).to_string();
    let allocators = Allocators::new(options, &keys)?;
    let checks = checks(&feed, done);
    Ok(Arc::new(Server {
        options: RequestOptions {
            request_timeout: options.request_timeout,
        },
        discovery: Discovery::new(&registry, &address, auth::oidc(options, &auth, &address)),
        store,
        keys,
        progress,
        feed,
        registry,
        reader,
        auth,
        auth_files,
        admission,
        leases: Leases::new(options.event_ttl.as_secs().cast_signed()),
        in_flight: InFlight::new(
            options.max_requests_inflight,
            options.max_mutating_requests_inflight,
        ),
        allocators,
        checks,
        metrics: Metrics::default(),
        tokens: TokenOptions::new(options),
        kubelets: Kubelets::new(&options.kubelet)?,
        shutdown: shutdown.clone(),
    }))
}

/// The address others reach us at: the flag's, the one we listen on, or the one the default route leaves from.
pub fn advertised(options: &Options) -> std::net::IpAddr {
    let listening = Some(options.serving.bind_address).filter(|address| !address.is_unspecified());
    options
        .serving
        .advertise_address
        .or(listening)
        .unwrap_or_else(|| {
            let route = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
                // Nothing is sent: connecting a datagram socket only looks up the route.
                socket.connect("192.0.2.1:9")?;
                socket.local_addr()
            });
            route.map_or(std::net::Ipv4Addr::LOCALHOST.into(), |address| address.ip())
        })
}

/// Readiness: the caches are full and the server's own objects exist.
fn checks(feed: &Arc<Feed>, done: &bootstrap::Done) -> Checks {
    let (etcd, informers, hooks) = (feed.clone(), feed.clone(), done.clone());
    Checks::default()
        .live("etcd", move || match etcd.is_connected() {
            true => Ok(()),
            false => Err("the store does not answer".to_owned()),
        })
        .ready("informer-sync", move || match informers.is_ready() {
            true => Ok(()),
            false => Err("the caches are being filled".to_owned()),
        })
        .ready("poststarthook/rbac/bootstrap-roles", move || {
            match hooks.is_done() {
                true => Ok(()),
                false => Err("the server's own objects are not there yet".to_owned()),
            }
        })
}
