//! Runs controllers: takes keys from a queue, a bounded number at once, and has each worked on.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use jiff::Timestamp;
use keelson_base::Shutdown;
use keelson_client::Key;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::executor::{Executor, Failure};
use crate::metrics::Metrics;
use crate::plan::Plan;
use crate::queue::Queue;

/// A controller: observes through its caches and decides, without I/O.
pub trait Controller: Send + Sync + 'static {
    /// Upstream's name ("deployment-controller").
    fn name(&self) -> &'static str;

    /// What to do about the object of `key`. `last_failure` is what went wrong the last time, until a plan succeeds.
    fn plan(&self, key: &Key, now: Timestamp, last_failure: Option<&Failure>) -> Plan;
}

/// Runs a controller until shutdown, working on `workers` keys at once.
pub async fn run(
    controller: Arc<dyn Controller>,
    queue: Queue<Key>,
    executor: Executor,
    workers: usize,
    metrics: Metrics,
    shutdown: Shutdown,
) {
    // Guards the failures kept for the next reconcile; one entry per key that fails now.
    let failures: Arc<Mutex<HashMap<Key, Failure>>> = Arc::default();
    let name = controller.name();
    let work = move |key: Key| {
        let (controller, executor, failures) = (controller.clone(), executor.clone(), failures.clone());
        async move {
            let last = failures.lock().get(&key).cloned();
            let plan = controller.plan(&key, Timestamp::now(), last.as_ref());
            if let Some(waiting) = &plan.report.waiting {
                tracing::debug!(controller = name, %key, "waiting: {waiting}");
            }
            let again = plan.retry_after;
            let outcome = executor.execute(plan).await;
            match outcome {
                Ok(()) => {
                    failures.lock().remove(&key);
                    Ok(again)
                }
                Err(failure) => {
                    let error = format!("{:?} {}: {}", failure.verb, failure.kind, failure.message);
                    let expected = failure.code == 409;
                    failures.lock().insert(key, failure);
                    Err(WorkError { error, expected })
                }
            }
        }
    };
    drive(name, queue, workers, metrics, shutdown, work).await;
}

/// Why work on a key has to be repeated.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct WorkError {
    /// For the log.
    pub error: String,
    /// Part of normal life (a conflict); logged at a lower level.
    pub expected: bool,
}

impl From<kube::Error> for WorkError {
    fn from(error: kube::Error) -> Self {
        let expected = matches!(&error, kube::Error::Api(status) if status.code == 409);
        Self {
            error: keelson_base::error::chain(&error),
            expected,
        }
    }
}

/// Works on a queue's keys until shutdown: `work` may ask for the key again after a pause, or fail and be retried.
pub async fn drive<K, F, Fut>(
    name: &'static str,
    queue: Queue<K>,
    workers: usize,
    metrics: Metrics,
    shutdown: Shutdown,
    work: F,
) where
    K: Clone + Eq + Hash + Send + Sync + std::fmt::Debug + 'static,
    F: Fn(K) -> Fut,
    Fut: Future<Output = Result<Option<Duration>, WorkError>> + Send + 'static,
{
    let mut running: JoinSet<()> = JoinSet::new();
    loop {
        while running.len() >= workers {
            running.join_next().await;
        }
        while running.try_join_next().is_some() {}
        let key = tokio::select! {
            key = queue.next() => key,
            () = shutdown.wait() => break,
        };
        let (queue, metrics) = (queue.clone(), metrics.clone());
        let task = work(key.clone());
        running.spawn(async move {
            let start = Instant::now();
            // A panic is one key's: it must not keep the key in work for ever.
            let outcome = AssertUnwindSafe(task).catch_unwind().await.unwrap_or_else(|_| {
                Err(WorkError {
                    error: "panicked; see above".to_owned(),
                    expected: false,
                })
            });
            metrics.worked(name, queue.depth(), start.elapsed(), outcome.is_err());
            match outcome {
                Ok(again) => {
                    queue.forget(&key);
                    if let Some(pause) = again {
                        queue.add_after(key.clone(), pause);
                    }
                }
                Err(failure) => {
                    if failure.expected {
                        tracing::debug!(controller = name, ?key, "to be repeated: {failure}");
                    } else {
                        tracing::warn!(controller = name, ?key, "failed: {failure}");
                    }
                    queue.retry(key.clone());
                }
            }
            queue.done(&key);
        });
    }
    // Writes under way are completed; what they lead to is for the next leader.
    while running.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn work_that_panics_is_repeated() {
        let (queue, shutdown) = (Queue::default(), Shutdown::default());
        queue.add("key");
        let tries = Arc::new(AtomicUsize::new(0));
        let (counted, end) = (tries.clone(), shutdown.clone());
        let metrics = Metrics::new(&keelson_base::metrics::Registry::default());
        drive("test", queue, 1, metrics, shutdown, move |_: &str| {
            let (counted, end) = (counted.clone(), end.clone());
            async move {
                assert!(counted.fetch_add(1, Ordering::SeqCst) > 0, "the first try panics");
                end.set();
                Ok(None)
            }
        })
        .await;
        assert_eq!(tries.load(Ordering::SeqCst), 2);
    }
}
