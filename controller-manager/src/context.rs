//! What a controller is started with, and how it is run.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use keelson_base::Shutdown;
use keelson_client::{Cache, Informer, Informers, Key, Object, Progress, Recorder};
use keelson_controller::runtime::WorkError;
use keelson_controller::{Controller, Executor, Metrics, Queue, drive, run};
use kube::Client;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::limits;

/// One controller's surroundings. Informers and metrics are shared by all; the client is its own when controllers
/// have service accounts.
pub struct Context {
    /// The process's configuration.
    pub config: Arc<Config>,
    /// For the controller's own requests.
    pub client: Client,
    /// Writes Events; take `for_source`.
    pub recorder: Recorder,
    /// Set when the process ends.
    pub shutdown: Shutdown,
    informers: Informers,
    metrics: Metrics,
    /// Caches this controller asked for; it starts when they are filled.
    needs: Mutex<Vec<watch::Receiver<Progress>>>,
    /// All controllers' tasks, awaited at the end.
    tasks: Arc<Mutex<JoinSet<()>>>,
    /// Called with the namespace of whatever the garbage collector's watches see go.
    gone: Arc<Mutex<Vec<GoneHandler>>>,
}

type GoneHandler = Box<dyn Fn(&str) + Send + Sync>;

impl Context {
    /// The context of no controller in particular.
    pub fn new(
        config: Arc<Config>,
        client: Client,
        informers: Informers,
        recorder: Recorder,
        metrics: Metrics,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            config,
            client,
            recorder,
            shutdown,
            informers,
            metrics,
            needs: Mutex::default(),
            tasks: Arc::default(),
            gone: Arc::default(),
        }
    }

    /// The context of one controller, acting through `client`.
    pub fn of_controller(&self, client: Client) -> Self {
        Self {
            config: self.config.clone(),
            client,
            recorder: self.recorder.clone(),
            shutdown: self.shutdown.clone(),
            informers: self.informers.clone(),
            metrics: self.metrics.clone(),
            needs: Mutex::default(),
            tasks: self.tasks.clone(),
            gone: self.gone.clone(),
        }
    }

    /// The shared cache of a kind; the controller will wait for it.
    pub fn informer<K: Object>(&self) -> Informer<K> {
        let informer = self.informers.get::<K>();
        self.needs.lock().push(informer.follow());
        informer
    }

    /// A cache of part of a kind, for this controller alone.
    pub fn filtered<K: Object>(
        &self,
        api: kube::Api<K>,
        config: kube::runtime::watcher::Config,
    ) -> Informer<K> {
        let informer = keelson_client::informer(api, config);
        self.needs.lock().push(informer.follow());
        informer
    }

    /// Calls `handler` with the namespace of every object that goes, of any kind. Silent without the garbage collector.
    pub fn on_gone(&self, handler: impl Fn(&str) + Send + Sync + 'static) {
        self.gone.lock().push(Box::new(handler));
    }

    /// Tells the handlers of `on_gone`.
    pub fn teller_of_gone(&self) -> impl Fn(&str) + Send + Sync + 'static {
        let gone = self.gone.clone();
        move |namespace: &str| gone.lock().iter().for_each(|handler| handler(namespace))
    }

    /// A client for watches, under the process's own identity.
    pub fn watch_client(&self) -> Client {
        self.informers.client().clone()
    }

    /// An executor whose Events come from `source`.
    pub fn executor(&self, source: &str) -> Executor {
        let recorder = self.recorder.for_source(source);
        Executor::new(self.client.clone(), self.informers.clone(), recorder)
    }

    /// Runs a controller in the background once its caches are filled.
    pub fn run(&self, controller: Arc<dyn Controller>, queue: Queue<Key>, source: &str, workers: usize) {
        let (executor, metrics) = (self.executor(source), self.metrics.clone());
        let shutdown = self.shutdown.clone();
        self.spawn_synced(run(controller, queue, executor, workers, metrics, shutdown));
    }

    /// Runs work that is no plan (it asks the server as it goes) in the background.
    pub fn drive<K, F, Fut>(&self, name: &'static str, queue: Queue<K>, workers: usize, work: F)
    where
        K: Clone + Eq + std::hash::Hash + Send + Sync + std::fmt::Debug + 'static,
        F: Fn(K) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<Duration>, WorkError>> + Send + 'static,
    {
        let (metrics, shutdown) = (self.metrics.clone(), self.shutdown.clone());
        self.spawn_synced(drive(name, queue, workers, metrics, shutdown, work));
    }

    /// Runs a task in the background once the controller's caches are filled.
    pub fn spawn_synced(&self, task: impl Future<Output = ()> + Send + 'static) {
        let needs = self.needs.lock().clone();
        let shutdown = self.shutdown.clone();
        self.tasks.lock().spawn(async move {
            let filled = async {
                for mut progress in needs {
                    // An error means the informer is gone, and with it the process.
                    let _ = progress.wait_for(|p| p.synced).await;
                }
            };
            tokio::select! {
                () = filled => task.await,
                () = shutdown.wait() => {}
            }
        });
    }

    /// Returns when every controller has ended after shutdown.
    pub async fn ended(&self) {
        self.shutdown.wait().await;
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        let all = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(limits::END_WAIT, all).await.is_err() {
            tracing::warn!("some controllers did not end in time; their writes may be cut off");
        }
    }
}
