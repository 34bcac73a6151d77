//! Watchers over the wire: they resume at any member after what they have seen, and record every delivery.

use std::time::{Duration, Instant};

use bytes::Bytes;
use keelson_proto::etcd::etcdserverpb as pb;
use keelson_proto::etcd::etcdserverpb::watch_client::WatchClient;
use keelson_proto::etcd::etcdserverpb::watch_create_request::FilterType;
use keelson_proto::etcd::etcdserverpb::watch_request::RequestUnion;
use keelson_proto::etcd::mvccpb::Event;
use keelson_store_mvcc::watch::Interest;
use keelson_store_sim::chance::Chance;
use keelson_store_sim::watching::{Delivery, Watcher};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::{Link, PATIENCE, Shared, leases};

/// How often progress is asked for.
const PROGRESS: Duration = Duration::from_millis(200);

/// A kind of watcher: what it watches, and from where (0: from now).
pub(super) struct Kind {
    key: &'static str,
    range_end: &'static str,
    no_put: bool,
    no_delete: bool,
    prev_kv: bool,
    fragment: bool,
    from: i64,
}

const PLAIN: Kind = Kind {
    key: "k/",
    range_end: "k0",
    no_put: false,
    no_delete: false,
    prev_kv: false,
    fragment: false,
    from: 1,
};

/// One watcher of each runs.
pub(super) const KINDS: [Kind; 6] = [
    PLAIN,
    Kind {
        from: 0,
        prev_kv: true,
        ..PLAIN
    },
    Kind {
        no_put: true,
        ..PLAIN
    },
    Kind {
        no_delete: true,
        fragment: true,
        ..PLAIN
    },
    Kind {
        key: "k/0/0",
        range_end: "",
        ..PLAIN
    },
    // Leases' keys: when one is seen to be gone is noted.
    Kind {
        key: "l/",
        range_end: "l0",
        ..PLAIN
    },
];

/// What a watcher has seen.
struct Record {
    deliveries: Vec<Delivery>,
    from: i64,
    next: i64,
    /// The start of a transaction that comes in pieces.
    piece: Vec<Event>,
}

pub(super) async fn run(shared: Shared, kind: &'static Kind, chance: Chance) {
    let mut record = Record {
        deliveries: Vec::new(),
        from: kind.from,
        next: kind.from,
        piece: Vec::new(),
    };
    let mut link = Link::new(shared.clone(), chance);
    while record.next <= *shared.goal.borrow() {
        let Some(channel) = link.any().await else { continue };
        // Its end says nothing: the member has stopped, or lost its leader.
        let _ = follow(&shared, channel, kind, &mut record).await;
    }
    let interest = Interest {
        key: Bytes::from_static(kind.key.as_bytes()),
        range_end: Bytes::from_static(kind.range_end.as_bytes()),
        no_put: kind.no_put,
        no_delete: kind.no_delete,
        prev_kv: kind.prev_kv,
    };
    let mut watcher = Watcher::new(interest, record.from);
    watcher.deliveries = record.deliveries;
    shared.recorder.watcher(watcher);
}

/// One stream, until it breaks or the goal is reached.
async fn follow(shared: &Shared, channel: Channel, kind: &Kind, record: &mut Record) -> Result<(), Status> {
    let (requests, receiver) = mpsc::channel(4);
    let ask = |union| pb::WatchRequest {
        request_union: Some(union),
    };
    let mut filters = Vec::new();
    filters.extend(kind.no_put.then_some(FilterType::Noput as i32));
    filters.extend(kind.no_delete.then_some(FilterType::Nodelete as i32));
    let create = pb::WatchCreateRequest {
        key: kind.key.into(),
        range_end: kind.range_end.into(),
        start_revision: record.next,
        filters,
        prev_kv: kind.prev_kv,
        fragment: kind.fragment,
        ..Default::default()
    };
    let closed = |_| Status::cancelled("the stream has ended");
    requests
        .send(ask(RequestUnion::CreateRequest(create)))
        .await
        .map_err(closed)?;
    let mut request = Request::new(ReceiverStream::new(receiver));
    // A member that has lost its leader ends the stream, so that another is asked.
    request
        .metadata_mut()
        .insert("hasleader", tonic::metadata::MetadataValue::from_static("true"));
    let opened = tokio::time::timeout(PATIENCE, WatchClient::new(channel).watch(request)).await;
    let mut responses = opened
        .map_err(|_| Status::deadline_exceeded("no stream"))??
        .into_inner();
    record.piece.clear();
    let mut pace = tokio::time::interval(PROGRESS);
    let mut goal = shared.goal.clone();
    while record.next <= *goal.borrow_and_update() {
        tokio::select! {
            response = responses.message() => match response? {
                Some(response) => record.take(shared, response)?,
                None => return Ok(()),
            },
            _ = pace.tick() => {
                let progress = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
                requests.send(ask(progress)).await.map_err(closed)?;
            }
            _ = goal.changed() => {}
        }
    }
    Ok(())
}

impl Record {
    fn take(&mut self, shared: &Shared, response: pb::WatchResponse) -> Result<(), Status> {
        let revision = response.header.map_or(0, |header| header.revision);
        if response.canceled {
            shared
                .recorder
                .unexpected(format!("a watch was cancelled: {response:?}"));
            return Err(Status::cancelled(response.cancel_reason));
        }
        if response.created {
            if self.next == 0 {
                (self.from, self.next) = (revision + 1, revision + 1);
            }
            return Ok(());
        }
        if response.events.is_empty() {
            self.deliveries.push(Delivery::Progress(revision));
            self.next = self.next.max(revision + 1);
            return Ok(());
        }
        for event in &response.events {
            note_end(shared, event);
        }
        self.piece.extend(response.events);
        if !response.fragment {
            self.deliver();
        }
        Ok(())
    }

    /// Whole transactions: a response may have several, never a part of one.
    fn deliver(&mut self) {
        let at = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        let events = std::mem::take(&mut self.piece);
        for transaction in events.chunk_by(|a, b| at(a) == at(b)) {
            let revision = at(&transaction[0]);
            self.deliveries
                .push(Delivery::Events(revision, transaction.to_vec()));
            self.next = self.next.max(revision + 1);
        }
    }
}

fn note_end(shared: &Shared, event: &Event) {
    let key = event.kv.as_ref().map_or(&[][..], |kv| &kv.key[..]);
    if let Some(id) = leases::id(key).filter(|_| event.r#type == 1) {
        shared.gone.lock().entry(id).or_insert_with(Instant::now);
    }
}
