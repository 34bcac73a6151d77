//! Concurrent clients of a cluster: of keys and transactions, of leases, and watchers.
//!
//! They go on through every fault, turn to another member when one does not answer, and record what they asked and what
//! came back. `calm` ends those that write, `finish` waits until watchers have seen everything and gives the history.

mod keys;
mod leases;
mod watchers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use keelson_store_sim::chance::Chance;
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

use crate::record::{History, Recorder};

/// Clients of keys.
const KEY_CLIENTS: u64 = 5;
/// Clients of leases.
const LEASE_CLIENTS: u64 = 2;
/// How long a client waits for an answer before nobody knows.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a client waits for a connection.
const CONNECT: Duration = Duration::from_millis(500);
/// How long watchers may take to see everything once all is well.
const CATCH_UP: Duration = Duration::from_secs(30);

/// What all clients share.
#[derive(Clone)]
struct Shared {
    recorder: Arc<Recorder>,
    urls: Arc<Vec<String>>,
    /// Writers end when it is true.
    calm: watch::Receiver<bool>,
    /// Watchers end when they have seen this revision.
    goal: watch::Receiver<i64>,
    /// Guards when the key of each lease was first seen to be gone.
    gone: Arc<Mutex<BTreeMap<i64, Instant>>>,
}

/// Clients at work.
pub struct Traffic {
    pub recorder: Arc<Recorder>,
    runtime: Runtime,
    calm: watch::Sender<bool>,
    goal: watch::Sender<i64>,
    gone: Arc<Mutex<BTreeMap<i64, Instant>>>,
    writers: Vec<JoinHandle<()>>,
    watchers: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Starts all clients.
    pub fn start(urls: Vec<String>, seed: u64) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let recorder = Arc::new(Recorder::default());
        let (calm, calmed) = watch::channel(false);
        let (goal, goals) = watch::channel(i64::MAX);
        let gone = Arc::new(Mutex::new(BTreeMap::new()));
        let shared = Shared {
            recorder: recorder.clone(),
            urls: Arc::new(urls),
            calm: calmed,
            goal: goals,
            gone: gone.clone(),
        };
        let mut chance = Chance::new(seed);
        let mut writers = Vec::new();
        for _ in 0..KEY_CLIENTS {
            writers.push(runtime.spawn(keys::run(shared.clone(), chance.fork())));
        }
        for _ in 0..LEASE_CLIENTS {
            writers.push(runtime.spawn(leases::run(shared.clone(), chance.fork())));
        }
        let watchers = watchers::KINDS
            .iter()
            .map(|kind| runtime.spawn(watchers::run(shared.clone(), kind, chance.fork())))
            .collect();
        Ok(Self {
            recorder,
            runtime,
            calm,
            goal,
            gone,
            writers,
            watchers,
        })
    }

    /// Operations from now on are on keys of their own.
    pub fn next_epoch(&self) {
        self.recorder.epoch.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends the writers; what they have begun is recorded.
    pub fn calm(&mut self) -> anyhow::Result<()> {
        self.calm.send_replace(true);
        for writer in std::mem::take(&mut self.writers) {
            self.runtime.block_on(writer).context("a client panicked")?;
        }
        Ok(())
    }

    /// Waits until watchers have seen everything up to a revision, and gives the history.
    pub fn finish(mut self, revision: i64) -> anyhow::Result<History> {
        self.goal.send_replace(revision);
        for watcher in std::mem::take(&mut self.watchers) {
            let ended = self
                .runtime
                .block_on(async { tokio::time::timeout(CATCH_UP, watcher).await });
            match ended {
                Ok(ended) => ended.context("a watcher panicked")?,
                Err(_) => bail!("a watcher has not seen revision {revision} after {CATCH_UP:?}"),
            }
        }
        let gone = self.gone.lock().clone();
        Ok(self.recorder.take(&gone))
    }

    /// Runs one request to its end on the clients' runtime.
    pub fn block_on<T>(&self, request: impl Future<Output = T>) -> T {
        self.runtime.block_on(request)
    }
}

/// A connection to one member.
pub async fn connect(url: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(url.to_owned())?
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(1))
        .keep_alive_timeout(Duration::from_secs(1));
    Ok(tokio::time::timeout(2 * CONNECT, endpoint.connect()).await??)
}

/// A client's connection: kept while it works, made to another member when it does not.
struct Link {
    shared: Shared,
    chance: Chance,
    channel: Option<Channel>,
}

impl Link {
    fn new(shared: Shared, chance: Chance) -> Self {
        Self {
            shared,
            chance,
            channel: None,
        }
    }

    /// A channel to some member; `None` when calm has come.
    async fn channel(&mut self) -> Option<Channel> {
        while !*self.shared.calm.borrow() {
            if let Some(channel) = &self.channel {
                return Some(channel.clone());
            }
            self.channel = self.any().await;
        }
        None
    }

    /// A channel to some member, if that one can be reached.
    async fn any(&mut self) -> Option<Channel> {
        let url = &self.shared.urls[self.chance.place(self.shared.urls.len())];
        match connect(url).await {
            Ok(channel) => Some(channel),
            Err(_) => {
                // A refused connection fails at once.
                tokio::time::sleep(Duration::from_millis(50)).await;
                None
            }
        }
    }

    /// The member does not answer, or another's answers are wanted.
    fn leave(&mut self) {
        self.channel = None;
    }
}
