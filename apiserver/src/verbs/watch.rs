//! WATCH: the cache's changes, selected and framed, as long as the client listens.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use http::StatusCode;
use jiff::Timestamp;
use keelson_machinery::Status;
use rand::Rng;
use tokio::time::{Instant, Sleep};

use super::Target;
use super::list_options::ListOptions;
use crate::cache::entry::Event;
use crate::cache::{Selection, Subscription};
use crate::context::Context;
use crate::forms::watch::{Framer, content_type};
use crate::limits::FRAME_BYTES;
use crate::registry::Served;
use crate::server::Server;
use crate::wire::body::{self, Body, Response};
use crate::wire::negotiate::Shape;

/// Between bookmarks, as upstream.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// A watch without `timeoutSeconds` lives this long, up to twice, as upstream.
const LIFE_S_MIN: u64 = 1_800;
/// The last bookmark comes this long before the end.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);

pub async fn serve(server: &Arc<Server>, context: &Context, target: &Target) -> Result<Response, Status> {
    let options = ListOptions::parse(&context.query, target, true)?;
    let from = start(server, &options).await?;
    let subscription = target
        .served
        .hub
        .cache
        .watch(from, &options.selection)
        .map_err(|beyond| {
            let asked = from.unwrap_or(0);
            Status::expired(format!("too old resource version: {asked} ({})", beyond.floor))
        });
    let framer = Framer::new(target.form, target.view);
    let stream = match subscription {
        Ok(subscription) => Watch::stream(target.served.clone(), subscription, framer, &options),
        // As upstream: the stream opens, and says that it cannot go on.
        Err(status) => {
            let frame = framer.error(&status);
            let mut response = body::response(StatusCode::OK, content_type(target.form), Body::whole(frame));
            *response.status_mut() = StatusCode::OK;
            return Ok(response);
        }
    };
    Ok(body::response(
        StatusCode::OK,
        content_type(target.form),
        Body::stream(stream),
    ))
}

/// The revision to watch from; `None`: from the state now.
async fn start(server: &Server, options: &ListOptions) -> Result<Option<i64>, Status> {
    match (options.send_initial_events, options.revision) {
        (Some(true), None) | (None | Some(false), None) => {
            server.progress.wait_current().await?;
        }
        (_, Some(0)) => {}
        (Some(true), Some(revision)) => server.progress.wait_for(revision).await?,
        (_, Some(revision)) => return Ok(Some(revision)),
    }
    match options.send_initial_events {
        // "From now on": everything up to the present is known to the client, or of no interest.
        Some(false) => Ok(Some(server.progress.revision())),
        _ => Ok(None),
    }
}

/// One running watch.
struct Watch {
    served: Arc<Served>,
    selection: Selection,
    subscription: Subscription,
    /// Objects of the initial state that were sent.
    shown: usize,
    framer: Framer,
    bookmarks: bool,
    /// Whether the end of the initial events is still to be said.
    initial_end: bool,
    /// The newest revision the client has been told of.
    told: i64,
    next_bookmark: std::pin::Pin<Box<Sleep>>,
    end: Instant,
    is_table: bool,
}

impl Watch {
    fn stream(
        served: Arc<Served>,
        mut subscription: Subscription,
        framer: Framer,
        options: &ListOptions,
    ) -> impl Stream<Item = Bytes> + Send + use<> {
        let life = options
            .timeout_s
            .filter(|seconds| *seconds > 0)
            .unwrap_or_else(|| rand::rng().random_range(LIFE_S_MIN..2 * LIFE_S_MIN));
        let end = Instant::now() + Duration::from_secs(life);
        // Popped from the back.
        subscription.backlog.reverse();
        let watch = Self {
            served,
            selection: options.selection.clone(),
            told: subscription.revision,
            subscription,
            shown: 0,
            is_table: framer.shape() == Shape::Table,
            framer,
            bookmarks: options.bookmarks,
            initial_end: options.bookmarks && options.send_initial_events == Some(true),
            next_bookmark: Box::pin(tokio::time::sleep_until(next_bookmark(end))),
            end,
        };
        futures::stream::unfold(watch, |mut watch| async move {
            let frame = watch.next().await?;
            Some((frame, watch))
        })
    }

    /// The next bytes to send: at least one frame, more where more are at hand.
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_table {
            self.framer.set_now(Timestamp::now());
        }
        if let Some(ready) = self.ready() {
            return Some(ready);
        }
        loop {
            tokio::select! {
                biased;
                event = self.subscription.events.recv() => {
                    let event = event?;
                    if let Some(frame) = self.frame(&event) {
                        return Some(self.with_more(frame));
                    }
                }
                () = self.next_bookmark.as_mut() => {
                    if Instant::now() >= self.end {
                        return None;
                    }
                    self.next_bookmark.as_mut().reset(next_bookmark(self.end));
                    if self.bookmarks
                        && let Some(frame) = self.bookmark()
                    {
                        return Some(frame);
                    }
                }
            }
        }
    }

    /// What the watch starts with, a frame's worth at a time.
    fn ready(&mut self) -> Option<Bytes> {
        let mut gathered = BytesMut::new();
        while gathered.len() < FRAME_BYTES
            && let Some(entry) = self.subscription.initial.get(self.shown)
        {
            gathered.reserve(FRAME_BYTES.min(entry.json.len()));
            if let Err(status) = self.framer.initial(&self.served, entry, &mut gathered) {
                return Some(self.framer.error(&status));
            }
            self.shown += 1;
        }
        if self.shown == self.subscription.initial.len() && gathered.len() < FRAME_BYTES {
            // The last reader of a state lets it go.
            self.subscription.initial = Arc::default();
            self.shown = 0;
            if std::mem::take(&mut self.initial_end)
                && let Ok(frame) = self
                    .framer
                    .bookmark(&self.served, self.subscription.revision, true)
            {
                gathered.extend_from_slice(&frame);
            }
            while gathered.len() < FRAME_BYTES
                && let Some(event) = self.subscription.backlog.pop()
            {
                if let Some(frame) = self.frame(&event) {
                    gathered.extend_from_slice(&frame);
                }
            }
        }
        (!gathered.is_empty()).then(|| gathered.freeze())
    }

    fn frame(&mut self, event: &Event) -> Option<Bytes> {
        if event.revision <= self.subscription.revision {
            return None;
        }
        self.told = self.told.max(event.revision);
        let kind = self.selection.event(event)?;
        let frame = self.framer.event(&self.served, event, kind);
        frame.unwrap_or_else(|status| Some(self.framer.error(&status)))
    }

    /// Adds what is queued already; a single frame stays the shared one.
    fn with_more(&mut self, first: Bytes) -> Bytes {
        let mut gathered: Option<BytesMut> = None;
        let mut length = first.len();
        while length < FRAME_BYTES
            && let Ok(event) = self.subscription.events.try_recv()
        {
            if let Some(frame) = self.frame(&event) {
                length += frame.len();
                gathered
                    .get_or_insert_with(|| BytesMut::from(&first[..]))
                    .extend_from_slice(&frame);
            }
        }
        gathered.map_or(first, BytesMut::freeze)
    }

    /// Tells how far the stream has come: everything up to the revision read first is in the queue or was sent.
    fn bookmark(&mut self) -> Option<Bytes> {
        let revision = self.subscription.cache_revision();
        let mut gathered = BytesMut::new();
        while let Ok(event) = self.subscription.events.try_recv() {
            if let Some(frame) = self.frame(&event) {
                gathered.extend_from_slice(&frame);
            }
        }
        self.told = self.told.max(revision);
        let frame = self.framer.bookmark(&self.served, self.told, false).ok()?;
        gathered.extend_from_slice(&frame);
        Some(gathered.freeze())
    }
}

/// The next minute, the last moments before the end, or the end.
fn next_bookmark(end: Instant) -> Instant {
    let now = Instant::now();
    let last = end.checked_sub(LAST_BOOKMARK).unwrap_or(now);
    match now < last {
        true => last.min(now + BOOKMARK_INTERVAL),
        false => end,
    }
}
