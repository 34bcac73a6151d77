//! One watch stream: many watchers, one queue, no task of its own (the connection polls it).
//!
//! Events come from the hub into the queue (`Queue`, an `Outlet`). When it is full the hub drops the watcher and the
//! watcher is noted as lagging; once the queue has been sent, the stream reads what the watcher missed from history and
//! lets it join again under the state's lock. Order per watcher: what was queued, then history, then the hub again.
//!
//! A progress request is answered when no watcher of the stream lags, by a marker in the queue put there while the state
//! is locked for reading: everything up to that revision is before it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use futures::task::AtomicWaker;
use keelson_proto::etcd::etcdserverpb as pb;
use keelson_proto::etcd::etcdserverpb::watch_create_request::FilterType;
use keelson_proto::etcd::etcdserverpb::watch_request::RequestUnion;
use keelson_proto::etcd::mvccpb::Event;
use keelson_store_mvcc::ApiError;
use keelson_store_mvcc::auth::Caller;
use keelson_store_mvcc::range::End;
use keelson_store_mvcc::watch::{Events, Interest, Outlet};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::Notify;
use tonic::{Status, Streaming};

use super::status;
use super::watch_codec::Outgoing;
use crate::api::Api;
use crate::limits::{WATCH_QUEUE_BYTES_MAX, WATCH_QUEUE_EVENTS_MAX, WATCHERS_PER_STREAM_MAX};

/// The id of answers that belong to no watcher.
const NO_WATCHER: i64 = -1;
/// Requests taken from the client before events are sent again.
const REQUESTS_PER_POLL: usize = 64;

/// Events, responses and progress markers on their way to the client.
struct Queue {
    inner: Mutex<Inner>,
    waker: AtomicWaker,
    ended: Notify,
    slow: prometheus_client::metrics::counter::Counter,
}

/// Guarded by `Queue::inner`, which is taken last: under the state's lock or alone.
#[derive(Default)]
struct Inner {
    items: VecDeque<Item>,
    events: usize,
    bytes: usize,
    /// Watchers and the revision each has to continue from.
    lagging: BTreeMap<i64, i64>,
    end: Option<Status>,
}

enum Item {
    Events(i64, Arc<Events>),
    Response(pb::WatchResponse),
    /// Everything up to the revision was before this.
    Progress(i64),
}

impl Outlet for Queue {
    fn push(&self, watcher: i64, events: &Arc<Events>) -> bool {
        let mut inner = self.inner.lock();
        let size = events.bytes;
        let full = inner.events + events.list.len() > WATCH_QUEUE_EVENTS_MAX
            || inner.bytes + size > WATCH_QUEUE_BYTES_MAX;
        if full && inner.events > 0 {
            inner.lagging.insert(watcher, events.revision);
            self.slow.inc();
            return false;
        }
        inner.events += events.list.len();
        inner.bytes += size;
        inner.items.push_back(Item::Events(watcher, events.clone()));
        drop(inner);
        self.waker.wake();
        true
    }

    fn lag(&self, watcher: i64, from: i64) {
        self.inner.lock().lagging.insert(watcher, from);
        self.waker.wake();
    }
}

/// Ends a stream from outside.
pub struct Ender(Arc<Queue>);

impl Ender {
    /// Ends it with an error.
    pub fn end(&self, status: Status) {
        self.0.inner.lock().end = Some(status);
        self.0.waker.wake();
    }

    /// Returns when the stream is gone.
    pub async fn ended(&self) {
        self.0.ended.notified().await;
    }
}

struct Watcher {
    interest: Interest,
    start: i64,
    progress_notify: bool,
    fragment: bool,
    /// Whether something was sent since the last periodic progress.
    active: bool,
}

/// The stream of a Watch call.
pub struct WatchStream {
    api: Arc<Api>,
    caller: Caller,
    /// `None` once the client will ask no more; what it watches goes on.
    requests: Option<Streaming<pb::WatchRequest>>,
    queue: Arc<Queue>,
    watchers: BTreeMap<i64, Watcher>,
    next_id: i64,
    /// Made by catching up or by fragmenting; sent before the queue goes on.
    ready: VecDeque<Outgoing>,
    progress_wanted: bool,
    progress_timer: Pin<Box<tokio::time::Sleep>>,
}

impl WatchStream {
    /// A stream for a caller's requests.
    pub fn new(api: Arc<Api>, caller: Caller, requests: Streaming<pb::WatchRequest>) -> Self {
        api.shared.metrics.watch_streams.inc();
        let queue = Arc::new(Queue {
            inner: Mutex::default(),
            waker: AtomicWaker::new(),
            ended: Notify::new(),
            slow: api.shared.metrics.slow_watchers.clone(),
        });
        Self {
            progress_timer: Box::pin(tokio::time::sleep(api.options.progress_interval)),
            api,
            caller,
            requests: Some(requests),
            queue,
            watchers: BTreeMap::new(),
            next_id: 0,
            ready: VecDeque::new(),
            progress_wanted: false,
        }
    }

    /// A handle to end it.
    pub fn ender(&self) -> Ender {
        Ender(self.queue.clone())
    }

    fn outlet(&self) -> Arc<dyn Outlet> {
        self.queue.clone()
    }

    fn request(&mut self, request: pb::WatchRequest) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(create),
            Some(RequestUnion::CancelRequest(cancel)) => self.cancel(cancel.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => {
                self.progress_wanted = true;
                self.answer_progress();
            }
            None => {}
        }
    }

    fn create(&mut self, request: pb::WatchCreateRequest) {
        let revision = self.api.shared.state.read().revision();
        let refused = self.check(&request);
        let id = match refused {
            Ok(id) => id,
            Err(reason) => {
                self.respond(pb::WatchResponse {
                    header: self.api.header(revision),
                    watch_id: NO_WATCHER,
                    created: true,
                    canceled: true,
                    cancel_reason: reason,
                    ..Default::default()
                });
                return;
            }
        };
        let filters = |filter: FilterType| request.filters.contains(&(filter as i32));
        let interest = Interest {
            no_put: filters(FilterType::Noput),
            no_delete: filters(FilterType::Nodelete),
            prev_kv: request.prev_kv,
            // An empty key stands for the first one.
            key: if request.key.is_empty() {
                bytes::Bytes::from_static(&[0])
            } else {
                request.key
            },
            range_end: request.range_end,
        };
        self.respond(pb::WatchResponse {
            header: self.api.header(revision),
            watch_id: id,
            created: true,
            ..Default::default()
        });
        let mut state = self.api.shared.state.write();
        let current = state.revision();
        // A client goes on from the revision it was told, which others may have passed meanwhile.
        let start = if request.start_revision > 0 {
            request.start_revision
        } else {
            revision + 1
        };
        if start > current {
            state.hub.join(&interest, id, self.outlet());
        } else {
            self.queue.lag(id, start);
        }
        drop(state);
        self.api.shared.metrics.watchers.inc();
        self.watchers.insert(
            id,
            Watcher {
                interest,
                start,
                progress_notify: request.progress_notify,
                fragment: request.fragment,
                active: true,
            },
        );
    }

    /// The new watcher's id, or why there is none.
    fn check(&mut self, request: &pb::WatchCreateRequest) -> Result<i64, String> {
        if self.watchers.len() >= WATCHERS_PER_STREAM_MAX {
            return Err("kube-store: too many watchers on this stream".to_owned());
        }
        let allowed =
            self.api
                .shared
                .state
                .read()
                .auth()
                .check_range(&self.caller, &request.key, &request.range_end);
        // A reason is text alone, so etcd gives the whole status in it.
        allowed.map_err(|error| format!("rpc error: code = {:?} desc = {}", error.code(), error.text()))?;
        if let End::Before(end) = End::parse(&request.range_end)
            && end <= &request.key[..]
        {
            return Err("mvcc: watcher range is empty".to_owned());
        }
        if request.watch_id != 0 {
            if self.watchers.contains_key(&request.watch_id) {
                return Err("mvcc: duplicate watch ID provided on the WatchStream".to_owned());
            }
            return Ok(request.watch_id);
        }
        while self.watchers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        Ok(self.next_id - 1)
    }

    fn cancel(&mut self, id: i64) {
        if self.remove(id) {
            let header = self.api.header_now();
            self.respond(pb::WatchResponse {
                header,
                watch_id: id,
                canceled: true,
                ..Default::default()
            });
        }
    }

    fn remove(&mut self, id: i64) -> bool {
        let Some(watcher) = self.watchers.remove(&id) else {
            return false;
        };
        self.api
            .shared
            .state
            .write()
            .hub
            .leave(&watcher.interest, id, &self.outlet());
        self.queue.inner.lock().lagging.remove(&id);
        self.api.shared.metrics.watchers.dec();
        true
    }

    fn respond(&self, response: pb::WatchResponse) {
        self.queue.inner.lock().items.push_back(Item::Response(response));
    }

    /// Marks progress in the queue if every watcher has been given everything.
    fn answer_progress(&mut self) {
        if !self.progress_wanted {
            return;
        }
        let state = self.api.shared.state.read();
        let mut inner = self.queue.inner.lock();
        if inner.lagging.is_empty() {
            let revision = state.hub.revision();
            inner.items.push_back(Item::Progress(revision));
            self.progress_wanted = false;
        }
    }

    /// Progress for watchers that asked for it and have had nothing to see lately.
    fn periodic_progress(&mut self) {
        let quiet: Vec<i64> = {
            let inner = self.queue.inner.lock();
            let lags = |id: &i64| inner.lagging.contains_key(id);
            self.watchers
                .iter()
                .filter(|(id, watcher)| watcher.progress_notify && !watcher.active && !lags(id))
                .map(|(id, _)| *id)
                .collect()
        };
        let state = self.api.shared.state.read();
        let header = self.api.header(state.hub.revision());
        let mut inner = self.queue.inner.lock();
        for id in quiet {
            if !inner.lagging.contains_key(&id) {
                inner.items.push_back(Item::Response(pb::WatchResponse {
                    header,
                    watch_id: id,
                    ..Default::default()
                }));
            }
        }
        drop(inner);
        drop(state);
        for watcher in self.watchers.values_mut() {
            watcher.active = false;
        }
    }

    /// Reads some of what one lagging watcher missed; false when none lags.
    fn catch_up(&mut self) -> bool {
        let next = self
            .queue
            .inner
            .lock()
            .lagging
            .first_key_value()
            .map(|(id, from)| (*id, *from));
        let Some((id, from)) = next else { return false };
        let Some(watcher) = self.watchers.get(&id) else {
            self.queue.inner.lock().lagging.remove(&id);
            return true;
        };
        let interest = watcher.interest.clone();
        // A watch that starts in the future missed nothing before that, so compaction up to there does not end it.
        let from = from.max(watcher.start);
        let missed = self.api.shared.state.read().missed(&interest, from);
        match missed {
            Ok(Ok(missed)) => {
                for events in &missed.batches {
                    self.emit(id, events);
                }
                let mut state = self.api.shared.state.write();
                let mut inner = self.queue.inner.lock();
                if state.revision() == missed.upto {
                    inner.lagging.remove(&id);
                    drop(inner);
                    state.hub.join(&interest, id, self.outlet());
                } else {
                    inner.lagging.insert(id, missed.upto + 1);
                }
            }
            Ok(Err(ApiError::Compacted)) => {
                let compacted = self.api.shared.state.read().compacted();
                self.remove(id);
                self.ready.push_back(Outgoing::Response(pb::WatchResponse {
                    // etcd's: what the watch was at is not known any more.
                    header: self.api.header(0),
                    watch_id: id,
                    canceled: true,
                    compact_revision: compacted,
                    ..Default::default()
                }));
            }
            Ok(Err(error)) => self.queue.inner.lock().end = Some(status(error)),
            Err(error) => {
                tracing::error!(%error, "a watcher cannot read history");
                self.queue.inner.lock().end = Some(status(ApiError::Corrupt));
            }
        }
        true
    }

    /// Makes a watcher's response, in pieces if it is long and the client takes pieces.
    fn emit(&mut self, id: i64, events: &Arc<Events>) {
        let Some(watcher) = self.watchers.get_mut(&id) else {
            return;
        };
        if events.revision < watcher.start {
            return;
        }
        watcher.active = true;
        let head = pb::WatchResponse {
            header: self.api.header(events.revision),
            watch_id: id,
            ..Default::default()
        };
        let limit = self.api.options.request_bytes_max;
        let long = || head.encoded_len() + events.encoded().len() >= limit;
        if !watcher.fragment || events.bytes < limit || !long() {
            let events = events.clone();
            self.ready.push_back(Outgoing::Events { head, events });
            return;
        }
        let mut pieces: Vec<Vec<Event>> = vec![Vec::new()];
        let mut bytes = 0;
        for event in events.list.iter().cloned() {
            let length = event.encoded_len();
            if bytes + length > limit && bytes > 0 {
                pieces.push(Vec::new());
                bytes = 0;
            }
            bytes += length;
            pieces.last_mut().expect("starts with one piece").push(event);
        }
        let last = pieces.len() - 1;
        for (number, events) in pieces.into_iter().enumerate() {
            self.ready.push_back(Outgoing::Response(pb::WatchResponse {
                fragment: number != last,
                events,
                ..head.clone()
            }));
        }
    }

    fn next_item(&mut self) -> Option<Outgoing> {
        loop {
            if let Some(response) = self.ready.pop_front() {
                return Some(response);
            }
            let item = {
                let mut inner = self.queue.inner.lock();
                let item = inner.items.pop_front();
                if let Some(Item::Events(_, events)) = &item {
                    inner.events -= events.list.len();
                    inner.bytes -= events.bytes;
                }
                item
            };
            match item {
                Some(Item::Events(id, events)) => self.emit(id, &events),
                Some(Item::Response(response)) => return Some(Outgoing::Response(response)),
                Some(Item::Progress(revision)) => {
                    return Some(Outgoing::Response(pb::WatchResponse {
                        header: self.api.header(revision),
                        watch_id: NO_WATCHER,
                        ..Default::default()
                    }));
                }
                None if self.catch_up() => self.answer_progress(),
                None => return None,
            }
        }
    }
}

impl Stream for WatchStream {
    type Item = Result<Outgoing, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        this.queue.waker.register(context.waker());
        for taken in 1..=REQUESTS_PER_POLL {
            if taken == REQUESTS_PER_POLL {
                // More may wait, and nobody would wake us for them.
                context.waker().wake_by_ref();
                break;
            }
            let Some(requests) = &mut this.requests else { break };
            match Pin::new(requests).poll_next(context) {
                Poll::Ready(Some(Ok(request))) => this.request(request),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => this.requests = None,
                Poll::Pending => break,
            }
        }
        while this.progress_timer.as_mut().poll(context).is_ready() {
            this.periodic_progress();
            let next = tokio::time::Instant::now() + this.api.options.progress_interval;
            this.progress_timer.as_mut().reset(next);
        }
        if let Some(end) = this.queue.inner.lock().end.take() {
            return Poll::Ready(Some(Err(end)));
        }
        match this.next_item() {
            Some(response) => Poll::Ready(Some(Ok(response))),
            None => Poll::Pending,
        }
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        let metrics = &self.api.shared.metrics;
        let interests: BTreeSet<&Interest> =
            self.watchers.values().map(|watcher| &watcher.interest).collect();
        if !interests.is_empty() {
            let mut state = self.api.shared.state.write();
            state.hub.leave_all(interests, &self.outlet());
        }
        let watchers = i64::try_from(self.watchers.len()).unwrap_or(i64::MAX);
        metrics.watchers.dec_by(watchers);
        metrics.watch_streams.dec();
        self.queue.ended.notify_one();
    }
}
