//! One member: Raft node, log and state, driven by whoever holds it. No threads, no sockets, no clock.
//!
//! `Member::process` does, in this order, what safety needs: send what may go before durability, append and fsync, send
//! the rest, apply, answer. `driver` runs it on a thread of its own; a simulation runs many of them in one thread.

mod change;
pub mod genesis;
pub mod open;
pub mod shared;
mod wal_log;
mod work;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use keelson_store_disk::{Disk, DiskError};
use keelson_store_mvcc::ApiError;
use keelson_store_mvcc::backend::ReadError;
use keelson_store_mvcc::command::{Command, MemberChange, Response};
use keelson_store_mvcc::lessor::Lessor;
use keelson_store_raft::{LogError, Message, MessageType, Node, Ready, Role, SnapshotBase};
use tokio::sync::oneshot;

pub use genesis::Genesis;
pub use shared::Shared;
use wal_log::WalLog;

/// The answer to a proposal.
pub type Answer = oneshot::Sender<Result<Response, ApiError>>;
/// The answer to a read: the state may be read now.
pub type ReadAnswer = oneshot::Sender<Result<(), ApiError>>;
/// The answer to a keep-alive (the TTL) or to a question for a lease's seconds left; `None` when it is unknown or, for a
/// keep-alive, has expired.
pub type LeaseAnswer = oneshot::Sender<Result<Option<i64>, ApiError>>;

/// What a member cannot survive; the process ends and a restart repairs or refuses.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(
        "the log ends at entry {last}, but this member has acknowledged entry {acknowledged}: its disk is an old copy. \
         Remove this member with `etcdctl member remove`, add it again, and start it with an empty data directory and \
         --initial-cluster-state=existing"
    )]
    OldDisk { last: u64, acknowledged: u64 },
    #[error(
        "entry {index} of the log is not a command: {what}; the member runs another version or its log is damaged"
    )]
    Command { index: u64, what: String },
}

/// What a member is asked.
pub enum Input {
    Propose(Command, Answer),
    ProposeChange(MemberChange, Answer),
    /// A linearizable read.
    Read(ReadAnswer),
    Message(Box<Message>),
    Unreachable(u64),
    SnapshotSent(u64, bool),
    /// Keeps a lease alive. An error when not leading.
    LeaseRenew(i64, LeaseAnswer),
    /// Remaining seconds of a lease. An error when not leading.
    LeaseRemaining(i64, LeaseAnswer),
    /// Hands leadership over; answered when it has moved.
    Transfer(u64, oneshot::Sender<Result<(), ApiError>>),
    /// A snapshot of the state was written.
    SnapshotDone(Result<SnapshotBase, String>),
    /// How far each member's log is: id, index, whether heard of lately. Empty when not leading.
    Progress(oneshot::Sender<Vec<(u64, u64, bool)>>),
    Stop(oneshot::Sender<()>),
}

/// Where messages to other members go.
pub trait Transport: Send {
    /// Sends, or drops: Raft repeats what matters.
    fn send(&self, messages: Vec<Message>);
}

/// Work that is done beside the member, in its own time.
pub trait Keeper: Send {
    /// Records wait to be written to the engine, or a compaction to be carried out.
    fn wake(&self);
    /// Waits until the engine has caught up: writers are far ahead of it.
    fn wait(&self);
    /// A snapshot is wanted; its end comes back as `Input::SnapshotDone`.
    fn snapshot(&self);
    /// The state is being replaced by the snapshot at this base: loads it and puts it into `Shared`.
    fn restore(&self, base: &SnapshotBase) -> Result<(), Fatal>;
}

/// A member's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    pub id: u64,
    pub election_ticks: usize,
    pub heartbeat_ticks: usize,
    pub tick_ms: u64,
    pub pre_vote: bool,
    pub seed: u64,
    /// Entries after which a snapshot may be taken.
    pub snapshot_count: u64,
    /// Entries kept behind a snapshot for followers that are a little behind.
    pub catch_up_entries: u64,
}

struct Pending {
    answer: Answer,
    deadline_ms: u64,
}

/// A leadership transfer that is waited for: the member to lead, until when (ms), and who asked.
type Transfer = (u64, u64, oneshot::Sender<Result<(), ApiError>>);

/// What waits until this member is known to have applied all that was committed when it was asked.
enum Read {
    State(ReadAnswer),
    /// The leader of that moment has applied every revocation its log holds, and nobody leads beside it: a lease that
    /// is renewed then cannot be ended by what was decided before.
    Renewal(i64, LeaseAnswer),
    Remaining(i64, LeaseAnswer),
}

impl Read {
    fn refuse(self, error: ApiError) {
        // Whoever asked may have gone.
        let _ = match self {
            Self::State(answer) => answer.send(Err(error)).is_ok(),
            Self::Renewal(_, answer) | Self::Remaining(_, answer) => answer.send(Err(error)).is_ok(),
        };
    }
}

struct ReadBatch {
    context: u64,
    reads: Vec<Read>,
    /// The index to wait for, once known.
    index: Option<u64>,
    asked_ms: u64,
    deadline_ms: u64,
}

/// Raft's output that found the disk full.
struct Stalled {
    ready: Ready,
    retry_at_ms: u64,
}

/// One member.
pub struct Member {
    settings: Settings,
    node: Node<WalLog>,
    shared: Arc<Shared>,
    transport: Box<dyn Transport>,
    keeper: Box<dyn Keeper>,
    disk: Arc<dyn Disk>,
    snapshot_dir: PathBuf,
    pending: BTreeMap<u64, Pending>,
    /// Proposals that came while there was no leader.
    unproposed: VecDeque<(u64, Proposal)>,
    /// Changes of membership not yet answered, and the leader each was last proposed to.
    changes: Vec<(MemberChange, u64)>,
    reads: VecDeque<ReadBatch>,
    new_reads: Vec<Read>,
    /// Context of the next batch. It starts at random: an answer to the same member before it was restarted must not
    /// be taken for one to a later question.
    next_read: u64,
    lessor: Lessor,
    /// The term this member leads in, as `lessor` knows.
    led_term: Option<u64>,
    applied: u64,
    now_ms: u64,
    snapshotting: bool,
    snapshot_bytes: u64,
    transfers: Vec<Transfer>,
    fatal: Option<Fatal>,
    /// When the log last took long to write.
    slow_append: bool,
    /// What waits for room on the disk. Until then the node takes nothing: to the others, this member is away.
    stalled: Option<Stalled>,
}

enum Proposal {
    Command(Vec<u8>),
    Change(MemberChange),
}

impl Member {
    /// Takes one input; nothing goes out before `process`.
    pub fn take(&mut self, input: Input) {
        match input {
            Input::Propose(command, answer) => {
                let id = command.id;
                self.wait_for(id, answer);
                let data = prost::Message::encode_to_vec(&command);
                self.propose(id, Proposal::Command(data));
            }
            Input::ProposeChange(change, answer) => {
                let id = change.id;
                self.wait_for(id, answer);
                self.changes.push((change.clone(), 0));
                self.propose(id, Proposal::Change(change));
            }
            Input::Read(answer) => self.new_reads.push(Read::State(answer)),
            Input::Message(_) | Input::Unreachable(_) | Input::SnapshotSent(..) if self.stalled.is_some() => {
            }
            Input::Message(message) => {
                if self.lost_log(&message) || self.removes_leader(&message) {
                    return;
                }
                if let Err(error) = self.node.step(*message) {
                    tracing::warn!(%error, "dropped a message from a peer");
                }
            }
            Input::Unreachable(id) => self.node.report_unreachable(id),
            Input::SnapshotSent(id, delivered) => self.node.report_snapshot(id, delivered),
            Input::LeaseRenew(id, answer) if self.is_leader() => {
                self.new_reads.push(Read::Renewal(id, answer));
            }
            Input::LeaseRemaining(id, answer) if self.is_leader() => {
                self.new_reads.push(Read::Remaining(id, answer));
            }
            Input::LeaseRenew(_, answer) | Input::LeaseRemaining(_, answer) => {
                let _ = answer.send(Err(ApiError::NotLeader));
            }
            Input::Transfer(to, answer) => self.transfer(to, answer),
            Input::SnapshotDone(outcome) => self.snapshot_done(outcome),
            Input::Progress(answer) => {
                let _ = answer.send(self.progress());
            }
            Input::Stop(done) => {
                self.refuse_all(ApiError::Stopped);
                let _ = done.send(());
            }
        }
    }

    /// Moves the member's clock; `ticks` of the configured length have passed.
    pub fn tick(&mut self, now_ms: u64, ticks: u64) {
        self.now_ms = now_ms;
        for _ in 0..ticks {
            if self.stalled.is_none() {
                self.node.tick();
            }
        }
        self.expire_waiting();
        self.expire_leases();
        self.retry_reads();
        self.finish_transfers();
        self.repeat_changes();
    }

    /// The clock without a tick.
    pub fn set_now(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// Whether the member leads.
    pub fn is_leader(&self) -> bool {
        self.node.role() == Role::Leader
    }

    /// A leader tells only what this member has acknowledged; if it is not in the log, the disk is older than that, and
    /// voting on with it could lose what others were told is safe.
    fn lost_log(&mut self, message: &Message) -> bool {
        let last = keelson_store_raft::Log::last_index(self.node.log());
        let lost = message.get_msg_type() == MessageType::MsgHeartbeat
            && message.term >= self.node.term()
            && message.commit > last.max(self.applied);
        if lost {
            self.fatal = Some(Fatal::OldDisk {
                last,
                acknowledged: message.commit,
            });
        }
        lost
    }

    fn wait_for(&mut self, id: u64, answer: Answer) {
        let deadline_ms = self.now_ms + self.request_timeout_ms();
        self.pending.insert(id, Pending { answer, deadline_ms });
    }

    /// etcd's: five seconds and two election timeouts.
    fn request_timeout_ms(&self) -> u64 {
        5_000 + 2 * self.settings.election_ticks as u64 * self.settings.tick_ms
    }

    fn progress(&self) -> Vec<(u64, u64, bool)> {
        if !self.is_leader() {
            return Vec::new();
        }
        let own = self.node.id();
        let conf = self.node.conf_state();
        let ids = conf.voters.iter().chain(&conf.learners);
        ids.filter_map(|id| {
            self.node
                .progress(*id)
                // A leader has always heard of itself; Raft notes that with the first check of its quorum only.
                .map(|(index, active)| (*id, index, active || *id == own))
        })
        .collect()
    }

    fn remaining(&self, id: i64) -> Result<Option<i64>, ApiError> {
        if self.lessor.is_leading() {
            Ok(self.lessor.remaining_s(id, self.now_ms))
        } else {
            Err(ApiError::NotLeader)
        }
    }

    fn renew(&mut self, id: i64) -> Result<Option<i64>, ApiError> {
        if !self.lessor.is_leading() {
            return Err(ApiError::NotLeader);
        }
        // An expired lease is being revoked; keeping it alive would race with that.
        if self
            .lessor
            .remaining_s(id, self.now_ms)
            .is_none_or(|left| left <= 0)
        {
            return Ok(None);
        }
        let ttl = self.shared.state.read().leases().get(id).map(|lease| lease.ttl_s);
        if let Some(ttl) = ttl {
            self.lessor.renew(id, ttl, self.now_ms);
        }
        Ok(ttl)
    }

    fn transfer(&mut self, to: u64, answer: oneshot::Sender<Result<(), ApiError>>) {
        if !self.is_leader() || self.stalled.is_some() {
            let _ = answer.send(Err(ApiError::NotLeader));
            return;
        }
        // 0: whoever is furthest.
        let to = if to == 0 { self.best_follower() } else { to };
        let conf = self.node.conf_state();
        if to == 0 || !conf.voters.contains(&to) {
            let _ = answer.send(Err(ApiError::BadLeaderTransferee));
            return;
        }
        if to == self.node.id() {
            let _ = answer.send(Ok(()));
            return;
        }
        self.node.transfer_leader(to);
        let election_ms = self.settings.election_ticks as u64 * self.settings.tick_ms;
        self.transfers.push((to, self.now_ms + 2 * election_ms, answer));
    }

    fn best_follower(&self) -> u64 {
        let conf = self.node.conf_state();
        let others = self.progress().into_iter();
        let others =
            others.filter(|(id, _, active)| *id != self.node.id() && *active && conf.voters.contains(id));
        others
            .max_by_key(|(_, index, _)| *index)
            .map_or(0, |(id, _, _)| id)
    }

    fn finish_transfers(&mut self) {
        let leader = self.node.leader();
        let now = self.now_ms;
        for (to, deadline, answer) in std::mem::take(&mut self.transfers) {
            if leader == to {
                let _ = answer.send(Ok(()));
            } else if now >= deadline {
                let _ = answer.send(Err(ApiError::TimeoutDueToLeaderFail));
            } else {
                self.transfers.push((to, deadline, answer));
            }
        }
    }

    fn expire_waiting(&mut self) {
        let now = self.now_ms;
        let late: Vec<u64> = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.deadline_ms <= now || pending.answer.is_closed())
            .map(|(id, _)| *id)
            .collect();
        let error = if self.node.leader() == 0 {
            ApiError::TimeoutDueToLeaderFail
        } else {
            ApiError::Timeout
        };
        for id in late {
            self.unproposed.retain(|(waiting, _)| *waiting != id);
            if let Some(pending) = self.pending.remove(&id) {
                let _ = pending.answer.send(Err(error));
            }
        }
        while self.reads.front().is_some_and(|batch| batch.deadline_ms <= now) {
            for read in self.reads.pop_front().into_iter().flat_map(|batch| batch.reads) {
                read.refuse(error);
            }
        }
    }

    fn refuse_all(&mut self, error: ApiError) {
        self.unproposed.clear();
        for (_, pending) in std::mem::take(&mut self.pending) {
            let _ = pending.answer.send(Err(error));
        }
        let batches = std::mem::take(&mut self.reads)
            .into_iter()
            .flat_map(|batch| batch.reads);
        for read in batches.chain(std::mem::take(&mut self.new_reads)) {
            read.refuse(error);
        }
    }
}
