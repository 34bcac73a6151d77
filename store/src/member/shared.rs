//! What a member's thread shares with everyone who serves requests.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use keelson_proto::etcd::etcdserverpb as pb;
use keelson_store_mvcc::Mvcc;
use keelson_store_raft::ConfState;
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::metrics::Metrics;

/// A member's part in Raft, as of its last step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Status {
    pub term: u64,
    /// 0: none.
    pub leader: u64,
    pub leading: bool,
    pub committed: u64,
    pub applied: u64,
    pub last_index: u64,
}

/// Shared between the member's thread, its keeper, and the services.
pub struct Shared {
    /// The replicated state. Written by the member's thread per batch and by the keeper for moments; readers hold it
    /// for an index walk. Taken alone, never while another lock of the store is held.
    pub state: RwLock<Mvcc>,
    pub metrics: Metrics,
    pub cluster_id: u64,
    pub member_id: u64,
    pub members: watch::Sender<Vec<pb::Member>>,
    /// The last applied index.
    pub applied: watch::Sender<u64>,
    /// The leader's id; 0 for none.
    pub leader: watch::Sender<u64>,
    /// A compaction has dropped its records.
    pub compacted: tokio::sync::Notify,
    /// This member was removed from the cluster.
    pub removed: watch::Sender<bool>,
    term: AtomicU64,
    committed: AtomicU64,
    last_index: AtomicU64,
    waiting: AtomicUsize,
    leading: AtomicBool,
    sole_voter: AtomicBool,
    learner: AtomicBool,
    disk_full: AtomicBool,
    /// What every request asks of the state, without its lock: see `note`.
    auth_enabled: AtomicBool,
    bytes_in_use: AtomicU64,
}

impl Shared {
    /// Around a state just opened.
    pub fn new(state: Mvcc, cluster_id: u64, member_id: u64, conf: &ConfState) -> Self {
        let members = state.members().list();
        let applied = state.applied().0;
        let shared = Self {
            state: RwLock::new(state),
            metrics: Metrics::default(),
            cluster_id,
            member_id,
            members: watch::Sender::new(members),
            applied: watch::Sender::new(applied),
            leader: watch::Sender::new(0),
            compacted: tokio::sync::Notify::new(),
            removed: watch::Sender::new(false),
            term: AtomicU64::new(0),
            committed: AtomicU64::new(0),
            last_index: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            leading: AtomicBool::new(false),
            sole_voter: AtomicBool::new(false),
            learner: AtomicBool::new(false),
            disk_full: AtomicBool::new(false),
            auth_enabled: AtomicBool::new(false),
            bytes_in_use: AtomicU64::new(0),
        };
        shared.set_conf(conf, member_id);
        shared.note(&shared.state.read());
        shared
    }

    /// The configuration changed.
    pub fn set_conf(&self, conf: &ConfState, id: u64) {
        let sole = conf.voters == [id] && conf.voters_outgoing.is_empty();
        self.sole_voter.store(sole, Ordering::SeqCst);
        self.learner.store(conf.learners.contains(&id), Ordering::SeqCst);
    }

    /// Whether a read of the applied state is linearizable without asking anyone: the only voter answers every write,
    /// and only after it applied it.
    pub fn reads_are_linearizable(&self) -> bool {
        self.sole_voter.load(Ordering::SeqCst) && self.leading.load(Ordering::SeqCst)
    }

    /// Whoever changed the state notes what every request asks of it, before it lets go of the lock.
    pub fn note(&self, state: &Mvcc) {
        self.auth_enabled.store(state.auth().enabled(), Ordering::SeqCst);
        self.bytes_in_use.store(state.bytes_in_use(), Ordering::Relaxed);
    }

    /// Whether requests must say whose they are.
    pub fn auth_enabled(&self) -> bool {
        self.auth_enabled.load(Ordering::SeqCst)
    }

    /// Bytes of live data, about.
    pub fn bytes_in_use(&self) -> u64 {
        self.bytes_in_use.load(Ordering::Relaxed)
    }

    /// The term as of the member's last step.
    pub fn term(&self) -> u64 {
        self.term.load(Ordering::Relaxed)
    }

    /// Whether this member does not vote.
    pub fn is_learner(&self) -> bool {
        self.learner.load(Ordering::SeqCst)
    }

    /// Notes that the disk is full or not; gives what was noted before.
    pub fn set_disk_full(&self, full: bool) -> bool {
        if self.disk_full.load(Ordering::Relaxed) == full {
            return full;
        }
        self.disk_full.swap(full, Ordering::SeqCst)
    }

    /// Whether writes must be refused.
    pub fn disk_full(&self) -> bool {
        self.disk_full.load(Ordering::Relaxed)
    }

    /// Proposals not yet answered.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The member's thread tells its status.
    pub fn publish(&self, status: Status, waiting: usize) {
        self.term.store(status.term, Ordering::Relaxed);
        self.committed.store(status.committed, Ordering::Relaxed);
        self.last_index.store(status.last_index, Ordering::Relaxed);
        self.waiting.store(waiting, Ordering::Relaxed);
        self.leading.store(status.leading, Ordering::SeqCst);
        self.leader.send_if_modified(|leader| {
            let changed = *leader != status.leader;
            if changed {
                self.metrics.leader_changes.inc();
            }
            *leader = status.leader;
            changed
        });
    }

    /// The status as of the member's last step.
    pub fn status(&self) -> Status {
        Status {
            term: self.term.load(Ordering::Relaxed),
            leader: *self.leader.borrow(),
            leading: self.leading.load(Ordering::SeqCst),
            committed: self.committed.load(Ordering::Relaxed),
            applied: *self.applied.borrow(),
            last_index: self.last_index.load(Ordering::Relaxed),
        }
    }
}
