//! Other members: one long-lived stream to each, requests for the leader, snapshots in pieces.
//!
//! A stream starts with `Hello`, which names cluster, sender and receiver, and its answer; a member of another cluster,
//! or one that was removed, is refused there with a text that says so. Messages to a member that cannot be reached are
//! dropped: Raft repeats what matters.

mod client;
pub mod frame;
mod server;
mod snapshot;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keelson_proto::etcd::etcdserverpb as pb;
use keelson_store_mvcc::ApiError;
use keelson_store_raft::{Message, Node};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::api::{Leader, Result as ApiResult};
use crate::limits::PEER_QUEUE_MESSAGES_MAX;
use crate::member::{Input, Shared, Transport};

pub use client::{Dialer, introduce};
pub use frame::{Hello, Purpose, Welcome};
pub use server::serve;

/// Who a member is, to its peers.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    pub cluster_id: u64,
    pub member_id: u64,
}

/// What goes to a peer.
enum Outgoing {
    Raft(Box<Message>),
    Ask(frame::Ask, oneshot::Sender<frame::Told>),
}

/// All peers of a member; clones share them.
#[derive(Clone)]
pub struct Peers {
    inner: Arc<Inner>,
}

struct Inner {
    identity: Identity,
    dialer: Dialer,
    inputs: std::sync::mpsc::Sender<Input>,
    shared: Arc<Shared>,
    snapshots: PathBuf,
    /// Guards the peers' queues; held for a look-up.
    links: Mutex<BTreeMap<u64, Link>>,
    next_ask: AtomicU64,
    runtime: tokio::runtime::Handle,
}

struct Link {
    urls: Vec<String>,
    queue: mpsc::Sender<Outgoing>,
}

impl Peers {
    /// Peers of a member; `known` are addresses from the flags, used until the members are known from the log.
    pub fn new(
        identity: Identity,
        dialer: Dialer,
        inputs: std::sync::mpsc::Sender<Input>,
        shared: Arc<Shared>,
        snapshots: PathBuf,
        known: &[pb::Member],
    ) -> Self {
        let peers = Self {
            inner: Arc::new(Inner {
                identity,
                dialer,
                inputs,
                shared: shared.clone(),
                snapshots,
                links: Mutex::default(),
                next_ask: AtomicU64::new(1),
                runtime: tokio::runtime::Handle::current(),
            }),
        };
        peers.update(known, false);
        let follow = peers.clone();
        let mut members = shared.members.subscribe();
        tokio::spawn(async move {
            loop {
                let now = members.borrow_and_update().clone();
                if !now.is_empty() {
                    follow.update(&now, true);
                }
                if members.changed().await.is_err() {
                    return;
                }
            }
        });
        peers
    }

    /// Opens and closes streams so that there is one to each other member.
    fn update(&self, members: &[pb::Member], complete: bool) {
        let mut links = self.inner.links.lock();
        if complete {
            // A removed member is told so by the answer to its next message's stream.
            links.retain(|id, _| members.iter().any(|member| member.id == *id));
        }
        for member in members
            .iter()
            .filter(|member| member.id != self.inner.identity.member_id)
        {
            if links
                .get(&member.id)
                .is_some_and(|link| link.urls == member.peer_ur_ls)
            {
                continue;
            }
            let (queue, received) = mpsc::channel(PEER_QUEUE_MESSAGES_MAX);
            links.insert(
                member.id,
                Link {
                    urls: member.peer_ur_ls.clone(),
                    queue,
                },
            );
            let inner = self.inner.clone();
            let (id, urls) = (member.id, member.peer_ur_ls.clone());
            self.inner.runtime.spawn(client::run(inner, id, urls, received));
        }
    }

    async fn ask(&self, leader: u64, ask: frame::Ask) -> ApiResult<frame::Told> {
        let (answer, answered) = oneshot::channel();
        let queue = self
            .inner
            .links
            .lock()
            .get(&leader)
            .map(|link| link.queue.clone());
        let queue = queue.ok_or(ApiError::NoLeader)?;
        let id = self.inner.next_ask.fetch_add(1, Ordering::Relaxed);
        let ask = frame::Ask { id, ..ask };
        queue
            .try_send(Outgoing::Ask(ask, answer))
            .map_err(|_| ApiError::Unhealthy)?;
        let patience = Duration::from_secs(2);
        let told = tokio::time::timeout(patience, answered).await;
        match told {
            Ok(Ok(told)) if told.not_leader => Err(ApiError::NotLeader),
            Ok(Ok(told)) => Ok(told),
            _ => Err(ApiError::Unhealthy),
        }
    }
}

impl Transport for Peers {
    fn send(&self, messages: Vec<Message>) {
        if messages.is_empty() {
            return;
        }
        let links = self.inner.links.lock();
        for message in messages {
            let to = message.to;
            let Some(link) = links.get(&to) else { continue };
            if Node::<NoLog>::is_snapshot(&message) {
                let (inner, urls) = (self.inner.clone(), link.urls.clone());
                self.inner.runtime.spawn(snapshot::send(inner, urls, message));
                continue;
            }
            if link.queue.try_send(Outgoing::Raft(Box::new(message))).is_err() {
                self.inner.shared.metrics.peer_messages_dropped.inc();
                let _ = self.inner.inputs.send(Input::Unreachable(to));
            }
        }
    }
}

/// Only to name `Node`'s functions that need no log.
struct NoLog;

impl keelson_store_raft::Log for NoLog {
    fn first_index(&self) -> u64 {
        1
    }

    fn last_index(&self) -> u64 {
        0
    }

    fn read(
        &self,
        _: u64,
        _: u64,
        _: u64,
    ) -> Result<Vec<keelson_store_raft::Entry>, keelson_store_raft::LogError> {
        Ok(Vec::new())
    }
}

#[tonic::async_trait]
impl Leader for Peers {
    async fn lease_renew(&self, leader: u64, id: i64) -> ApiResult<Option<i64>> {
        let told = self
            .ask(leader, frame::Ask::lease(frame::AskKind::LeaseRenew, id))
            .await?;
        Ok(told.known.then_some(told.seconds))
    }

    async fn lease_remaining(&self, leader: u64, id: i64) -> ApiResult<Option<i64>> {
        let told = self
            .ask(leader, frame::Ask::lease(frame::AskKind::LeaseRemaining, id))
            .await?;
        Ok(told.known.then_some(told.seconds))
    }

    async fn progress(&self, leader: u64) -> ApiResult<Vec<(u64, u64, bool)>> {
        let told = self
            .ask(leader, frame::Ask::lease(frame::AskKind::Progress, 0))
            .await?;
        let progress = told.progress.iter();
        Ok(progress
            .map(|member| (member.id, member.index, member.active))
            .collect())
    }
}
