//! Starts a member's parts in order, and ends them in order.

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use keelson_base::Shutdown;
use keelson_base::metrics::Registry;
use keelson_store_disk::lock::DirLock;
use keelson_store_disk::sled_engine::SledEngine;
use keelson_store_disk::{Disk, DiskError, Engine, RealDisk};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::api::Api;
use crate::config::Config;
use crate::member::open::{Engines, Layout, Opened};
use crate::member::{Input, Shared, open};
use crate::peer::{Dialer, Identity, Peers};
use crate::server::{self, Services};
use crate::{birth, driver, keeper, tasks};

/// Time leadership may take to move at the end.
const TRANSFER_PATIENCE: Duration = Duration::from_secs(2);

/// sled's engines in directories.
#[derive(Debug, Default, Clone, Copy)]
pub struct SledEngines;

impl Engines for SledEngines {
    fn open(&self, path: &Path) -> Result<Arc<dyn Engine>, DiskError> {
        Ok(Arc::new(SledEngine::open(path)?))
    }

    fn discard(&self, path: &Path) -> Result<(), DiskError> {
        SledEngine::discard(path)
    }

    fn list(&self, dir: &Path) -> Vec<String> {
        RealDisk.list(dir).unwrap_or_default()
    }
}

/// The directories a configuration means.
pub fn layout(config: &Config) -> Layout {
    let mut layout = Layout::new(&config.data_dir);
    if let Some(wal) = &config.wal_dir {
        layout.wal.clone_from(wal);
    }
    layout
}

/// Runs a member until shutdown.
#[expect(
    clippy::too_many_lines,
    reason = "the one place that knows every layer; to be split by listener"
)]
pub async fn run(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    disk.create_dir(&config.data_dir)
        .with_context(|| format!("cannot create --data-dir {}", config.data_dir.display()))?;
    let _lock = DirLock::take(&config.data_dir)?;
    let layout = layout(&config);
    let dialer = Dialer::new(config.dialer_tls()?);
    if !layout.has_member(disk.as_ref()) {
        let genesis = birth::genesis(&config, &dialer).await?;
        open::create(&disk, &layout, &genesis)?;
    }
    remove_unfinished(&layout.snap);
    let engines: Arc<dyn Engines> = Arc::new(SledEngines);
    let opened = {
        let (disk, engines, layout) = (disk.clone(), engines.clone(), layout.clone());
        tokio::task::spawn_blocking(move || open::open(&disk, engines.as_ref(), &layout)).await??
    };
    let identity = Identity {
        cluster_id: opened.genesis.cluster_id,
        member_id: opened.genesis.member_id,
    };
    birth::check_neighbours(&config, &dialer, identity.cluster_id).await?;
    tracing::info!(
        cluster = format!("{:x}", identity.cluster_id),
        member = format!("{:x}", identity.member_id),
        applied = opened.state.applied().0,
        revision = opened.state.revision(),
        "opened the data directory"
    );
    let conf = opened.conf_state();
    let opened_peers = opened.genesis.peers.clone();
    let Opened {
        wal,
        state,
        generation,
        base,
        ..
    } = opened;
    let shared = Arc::new(Shared::new(state, identity.cluster_id, identity.member_id, &conf));
    let (inputs, received) = mpsc::channel();
    let work = keeper::Work::new(shared.clone(), disk.clone(), layout.clone())?;
    let keeper = keeper::spawn(work, engines, generation, inputs.clone())?;
    let listeners = Listeners::bind(&config).await?;
    let known = if shared.members.borrow().is_empty() {
        opened_peers
    } else {
        Vec::new()
    };
    let peers = Peers::new(
        identity,
        dialer,
        inputs.clone(),
        shared.clone(),
        layout.snap.clone(),
        &known,
    );
    let seed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos() as u64;
    let member = Opened::into_member(
        config.settings(identity.member_id, seed),
        wal,
        base,
        &layout,
        shared.clone(),
        Box::new(peers.clone()),
        Box::new(keeper.clone()),
        disk.clone(),
        0,
    )?;
    let tick = Duration::from_millis(config.heartbeat_ms);
    let (ended, mut end) = oneshot::channel();
    std::thread::Builder::new()
        .name("member".to_owned())
        .spawn(move || {
            let _ = ended.send(driver::run(member, &received, tick));
        })?;
    let registry = Registry::default();
    shared.metrics.register(&registry);
    let api = Arc::new(Api::new(
        shared.clone(),
        config.options.clone(),
        keeper.clone(),
        inputs.clone(),
        Box::new(peers.clone()),
        seed,
    ));
    let services = Services::new(api.clone(), registry, layout.snap.clone(), config.bcrypt_cost);
    let serving = Shutdown::default();
    listeners.serve(&config, services, peers, &serving)?;
    tasks::start(&api, &config, &layout, disk);
    let mut leaders = shared.leader.subscribe();
    let mut removed = shared.removed.subscribe();
    let mut told_ready = false;
    let outcome = loop {
        tokio::select! {
            () = shutdown.wait() => break Ok(()),
            ended = &mut end => break match ended {
                Ok(Err(fatal)) => Err(anyhow::Error::new(fatal)),
                _ => Err(anyhow::anyhow!("the member's thread has ended")),
            },
            _ = leaders.wait_for(|leader| *leader != 0), if !told_ready => {
                told_ready = true;
                tracing::info!("ready to serve client requests");
                keelson_base::notify::ready();
            }
            _ = removed.wait_for(|removed| *removed) => {
                tracing::warn!("this member was removed from the cluster and stops");
                break Ok(());
            }
        }
    };
    if outcome.is_ok() {
        hand_over(&shared, &inputs).await;
    }
    serving.set();
    let (done, stopped) = oneshot::channel();
    if inputs.send(Input::Stop(done)).is_ok() {
        let _ = tokio::time::timeout(TRANSFER_PATIENCE, stopped).await;
    }
    if outcome.is_ok() {
        tokio::task::spawn_blocking(move || keeper.finish()).await?;
    }
    outcome
}

/// A leader that ends lets another lead first, so that writes pause for a round trip and not for an election.
async fn hand_over(shared: &Shared, inputs: &mpsc::Sender<Input>) {
    if !shared.status().leading || shared.reads_are_linearizable() {
        return;
    }
    let (answer, answered) = oneshot::channel();
    if inputs.send(Input::Transfer(0, answer)).is_ok() {
        match tokio::time::timeout(TRANSFER_PATIENCE, answered).await {
            Ok(Ok(Ok(()))) => tracing::info!("handed leadership over"),
            _ => tracing::warn!("could not hand leadership over"),
        }
    }
}

/// Removes what clients' snapshots left behind when the process was killed. A part of a peer's snapshot is continued.
fn remove_unfinished(snapshots: &Path) {
    for name in RealDisk.list(snapshots).unwrap_or_default() {
        if name.starts_with("client-") {
            let _ = std::fs::remove_file(snapshots.join(name));
        }
    }
}

/// Bound ports.
struct Listeners {
    clients: Vec<(String, TcpListener)>,
    peers: Vec<(String, TcpListener)>,
    metrics: Vec<(String, TcpListener)>,
}

impl Listeners {
    async fn bind(config: &Config) -> anyhow::Result<Self> {
        async fn all(urls: &[String], flag: &str) -> anyhow::Result<Vec<(String, TcpListener)>> {
            let mut bound = Vec::new();
            for url in urls {
                let address = url.split("://").nth(1).unwrap_or("").trim_end_matches('/');
                let listener = TcpListener::bind(address).await;
                let listener = listener.with_context(|| format!("cannot listen on {url} (--{flag})"))?;
                bound.push((url.clone(), listener));
            }
            Ok(bound)
        }
        Ok(Self {
            clients: all(&config.client_urls, "listen-client-urls").await?,
            peers: all(&config.peer_urls, "listen-peer-urls").await?,
            metrics: all(&config.metrics_urls, "listen-metrics-urls").await?,
        })
    }

    fn serve(
        self,
        config: &Config,
        services: Services,
        peers: Peers,
        shutdown: &Shutdown,
    ) -> anyhow::Result<()> {
        let tls = |url: &str, tls: &Option<keelson_base::tls::ServerTls>, alpn: &[&str]| {
            let wanted = tls.as_ref().filter(|_| url.starts_with("https"));
            wanted.map(|tls| tls.config(alpn)).transpose()
        };
        for (url, listener) in self.clients {
            let tls = tls(&url, &config.client_tls, &["h2", "http/1.1"])?;
            tracing::info!(url, "serving clients");
            tokio::spawn(server::serve(listener, tls, services.clone(), shutdown.clone()));
        }
        for (url, listener) in self.metrics {
            let tls = tls(&url, &config.client_tls, &["h2", "http/1.1"])?;
            tokio::spawn(server::serve(
                listener,
                tls,
                services.clone().metrics_only(),
                shutdown.clone(),
            ));
        }
        for (url, listener) in self.peers {
            let tls = tls(&url, &config.peer_tls, &[])?;
            tracing::info!(url, "serving peers");
            tokio::spawn(crate::peer::serve(listener, tls, peers.clone(), shutdown.clone()));
        }
        Ok(())
    }
}

/// Where a data directory is looked for by commands that take one.
pub fn data_dir(dir: &Path) -> PathBuf {
    if dir.ends_with("member") {
        dir.parent().unwrap_or(dir).to_owned()
    } else {
        dir.to_owned()
    }
}
