//! One client's connection, with all its streams in one task.
//!
//! hyper wants to start a task per stream. Here the connection's own task polls its streams first and then the
//! connection, so that what many streams have to send (one event for many watchers, the answers to one batch of writes)
//! leaves in one write, and a request costs no task of its own. What takes long must not run in a stream: see
//! `service::range`.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use keelson_base::Shutdown;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Services;
use crate::limits::STREAMS_PER_CONNECTION_MAX;
use crate::service::Connection;

/// HTTP/2 windows: a list of objects should not wait for window updates.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// etcd's defaults.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(7200);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Time streams have to end once the server stops. Watches do not end by themselves.
const END_PATIENCE: Duration = Duration::from_millis(500);

/// Serves a connection until it ends, or the server does.
pub async fn serve<S>(stream: S, services: Arc<Services>, connection: Connection, shutdown: Shutdown)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = Arc::new(connection);
    let service = service_fn(move |request| {
        let (services, connection) = (services.clone(), connection.clone());
        async move { Ok::<_, Infallible>(services.answer(request, &connection).await) }
    });
    let started = Started::default();
    let mut builder = hyper_util::server::conn::auto::Builder::new(started.clone());
    builder
        .http2()
        .timer(TokioTimer::new())
        // gRPC has no use for it.
        .auto_date_header(false)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    builder.http1().timer(TokioTimer::new());
    let served = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    let mut streams = FuturesUnordered::new();
    let outcome = tokio::select! {
        biased;
        outcome = together(served.as_mut(), &mut streams, &started) => outcome,
        () = shutdown.wait() => {
            served.as_mut().graceful_shutdown();
            let rest = together(served.as_mut(), &mut streams, &started);
            tokio::time::timeout(END_PATIENCE, rest).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a client connection ended");
    }
}

type StreamFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Streams the connection has started and nobody has polled yet.
#[derive(Clone, Default)]
struct Started(Arc<Mutex<Vec<StreamFuture>>>);

impl<F> Executor<F> for Started
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.0.lock().push(Box::pin(stream));
    }
}

/// Polls streams and their connection until the connection ends.
async fn together<C: Future>(
    mut connection: Pin<&mut C>,
    streams: &mut FuturesUnordered<StreamFuture>,
    started: &Started,
) -> C::Output {
    poll_fn(|context| {
        loop {
            // Streams first: the connection then sends what all of them have.
            while let Poll::Ready(Some(())) = streams.poll_next_unpin(context) {}
            if let Poll::Ready(outcome) = connection.as_mut().poll(context) {
                return Poll::Ready(outcome);
            }
            let new = std::mem::take(&mut *started.0.lock());
            if new.is_empty() {
                return Poll::Pending;
            }
            streams.extend(new);
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Streams that become ready together are all polled before the connection is, and none is forgotten.
    #[tokio::test]
    async fn streams_are_polled_before_their_connection() {
        const STREAMS: usize = 100;
        let started = Started::default();
        let ready = Arc::new(AtomicUsize::new(0));
        let (go, gone) = tokio::sync::watch::channel(false);
        for _ in 0..STREAMS {
            let (ready, mut gone) = (ready.clone(), gone.clone());
            started.execute(async move {
                let waited = gone.wait_for(|gone| *gone).await.is_ok();
                ready.fetch_add(usize::from(waited), Ordering::SeqCst);
            });
        }
        let mut seen = Vec::new();
        let connection = poll_fn(|context| {
            seen.push(ready.load(Ordering::SeqCst));
            if ready.load(Ordering::SeqCst) == STREAMS {
                return Poll::Ready(());
            }
            go.send_replace(true);
            context.waker().wake_by_ref();
            Poll::Pending
        });
        let connection = std::pin::pin!(connection);
        together(connection, &mut FuturesUnordered::new(), &started).await;
        assert_eq!((seen.first(), seen.last()), (Some(&0), Some(&STREAMS)));
        assert!(
            seen.len() <= 3,
            "the connection was polled between its streams: {seen:?}"
        );
    }
}
