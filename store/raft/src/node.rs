//! The node: RawNode with its storage, and the order in which its output must be handled.

use raft::eraftpb::{ConfChangeV2, ConfState, Entry, HardState, Message, MessageType, Snapshot};
use raft::{RawNode, SnapshotStatus, StateRole};

use crate::log::{Log, LogError, LogStorage, SnapshotBase};

/// Messages to one follower that may be under way at once.
const INFLIGHT_MESSAGES_MAX: usize = 256;
/// Bytes of entries in one message.
const MESSAGE_BYTES_MAX: u64 = 1 << 20;
/// Bytes of entries the leader has taken and not yet committed; more are refused.
const UNCOMMITTED_BYTES_MAX: u64 = 256 << 20;
/// Bytes of committed entries handed out at once.
const COMMITTED_BYTES_MAX: u64 = 8 << 20;

/// What a node needs to know about itself.
#[derive(Debug, Clone)]
pub struct Config {
    pub id: u64,
    pub election_ticks: usize,
    pub heartbeat_ticks: usize,
    pub pre_vote: bool,
    /// Where election jitter comes from.
    pub seed: u64,
}

/// A member's part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Leader,
    Candidate,
    Follower,
}

/// Why a proposal was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    #[error("there is no leader, or it is handing over")]
    NoLeader,
    #[error("too much is waiting to be committed")]
    Busy,
}

/// Why a message was not taken; the sender is at fault.
#[derive(Debug, thiserror::Error)]
#[error("a Raft message cannot be taken: {what}")]
pub struct StepError {
    what: String,
}

/// What to do, in this order: send `before`, make `snapshot`, `entries` and `hard_state` durable, call
/// `Node::persisted`, send `after`, apply `committed` and then what `persisted` gave.
#[derive(Debug)]
pub struct Ready {
    inner: raft::Ready,
    pub before: Vec<Message>,
    pub after: Vec<Message>,
    pub hard_state: Option<HardState>,
    /// A snapshot from the leader replaces all state; its file has been received already.
    pub snapshot: Option<SnapshotBase>,
    pub committed: Vec<Entry>,
    /// Read requests that may be answered once this index is applied: their contexts.
    pub reads: Vec<(u64, u64)>,
    pub must_sync: bool,
}

impl Ready {
    /// Entries to make durable.
    pub fn entries(&self) -> &[Entry] {
        self.inner.entries()
    }
}

/// What becomes possible once a `Ready` is durable.
#[derive(Debug, Default)]
pub struct Light {
    pub messages: Vec<Message>,
    pub committed: Vec<Entry>,
}

/// A Raft member.
pub struct Node<L: Log> {
    raw: RawNode<LogStorage<L>>,
    seed: u64,
    election_ticks: usize,
}

impl<L: Log> Node<L> {
    /// A node that has applied everything up to `applied` and whose log starts after `base`.
    pub fn new(
        config: &Config,
        log: L,
        hard_state: HardState,
        applied: u64,
        conf_state: ConfState,
        base: SnapshotBase,
    ) -> Result<Self, LogError> {
        let storage = LogStorage::new(log, hard_state, conf_state, base)?;
        let settings = raft::Config {
            id: config.id,
            election_tick: config.election_ticks,
            heartbeat_tick: config.heartbeat_ticks,
            applied,
            max_size_per_msg: MESSAGE_BYTES_MAX,
            max_inflight_msgs: INFLIGHT_MESSAGES_MAX,
            check_quorum: true,
            pre_vote: config.pre_vote,
            max_uncommitted_size: UNCOMMITTED_BYTES_MAX,
            max_committed_size_per_ready: COMMITTED_BYTES_MAX,
            ..Default::default()
        };
        let raw = RawNode::new(&settings, storage, &crate::bridge::logger()).map_err(|error| LogError {
            what: error.to_string(),
        })?;
        let mut node = Self {
            raw,
            seed: config.seed,
            election_ticks: config.election_ticks,
        };
        node.jitter();
        Ok(node)
    }

    /// This member's id.
    pub fn id(&self) -> u64 {
        self.raw.raft.id
    }

    /// The current term.
    pub fn term(&self) -> u64 {
        self.raw.raft.term
    }

    /// The leader's id; 0 when there is none.
    pub fn leader(&self) -> u64 {
        self.raw.raft.leader_id
    }

    /// This member's part.
    pub fn role(&self) -> Role {
        match self.raw.raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
            StateRole::Follower => Role::Follower,
        }
    }

    /// The highest index known to be committed.
    pub fn committed(&self) -> u64 {
        self.raw.raft.raft_log.committed
    }

    /// What must not be forgotten, with the commit index of this moment.
    pub fn hard_state(&self) -> HardState {
        self.raw.raft.hard_state()
    }

    /// The configuration in force.
    pub fn conf_state(&self) -> ConfState {
        self.raw.raft.prs().conf().to_conf_state()
    }

    /// The log, which the owner writes.
    pub fn log(&self) -> &L {
        &self.raw.raft.raft_log.store.log
    }

    /// The log, to write.
    pub fn log_mut(&mut self) -> &mut L {
        &mut self.raw.raft.raft_log.store.log
    }

    /// On the leader: how far a member's log matches, and whether it was heard of lately.
    pub fn progress(&self, id: u64) -> Option<(u64, bool)> {
        let progress = self.raw.raft.prs().get(id)?;
        Some((progress.matched, progress.recent_active))
    }

    /// One tick of the clock.
    pub fn tick(&mut self) {
        self.raw.tick();
        self.jitter();
    }

    /// Starts an election at once: for the only voter of a cluster, which need not wait.
    pub fn campaign(&mut self) {
        // An error only says that a campaign is impossible now; ticks will try again.
        let _ = self.raw.campaign();
        self.jitter();
    }

    /// Takes a message from another member.
    pub fn step(&mut self, message: Message) -> Result<(), StepError> {
        let outcome = self.raw.step(message);
        self.jitter();
        match outcome {
            // A forwarded proposal that cannot be taken is lost; its proposer waits for its answer and gives up.
            Ok(()) | Err(raft::Error::ProposalDropped | raft::Error::StepPeerNotFound) => Ok(()),
            Err(error) => Err(StepError {
                what: error.to_string(),
            }),
        }
    }

    /// Whether there is a leader that takes proposals, as far as this member knows.
    pub fn takes_proposals(&self) -> bool {
        self.check_leader().is_ok()
    }

    /// Proposes an entry; on a follower it is sent to the leader.
    pub fn propose(&mut self, data: Vec<u8>) -> Result<(), ProposeError> {
        self.check_leader()?;
        self.raw
            .propose(Vec::new(), data)
            .map_err(|error| self.refused(&error))
    }

    /// Proposes a change of configuration; `context` travels with it.
    pub fn propose_change(&mut self, context: Vec<u8>, mut change: ConfChangeV2) -> Result<(), ProposeError> {
        self.check_leader()?;
        change.context.clone_from(&context);
        self.raw
            .propose_conf_change(context, change)
            .map_err(|error| self.refused(&error))
    }

    fn check_leader(&self) -> Result<(), ProposeError> {
        let transferring = self.raw.raft.lead_transferee.is_some();
        if self.leader() == 0 || transferring {
            Err(ProposeError::NoLeader)
        } else {
            Ok(())
        }
    }

    fn refused(&self, error: &raft::Error) -> ProposeError {
        match error {
            raft::Error::ProposalDropped if self.role() == Role::Leader => ProposeError::Busy,
            _ => ProposeError::NoLeader,
        }
    }

    /// Asks up to which index a linearizable read must wait; the answer comes in `Ready::reads` with this context, or
    /// never (there was no leader): ask again.
    pub fn read_index(&mut self, context: u64) {
        self.raw.read_index(context.to_be_bytes().to_vec());
    }

    /// Hands leadership over.
    pub fn transfer_leader(&mut self, to: u64) {
        self.raw.transfer_leader(to);
    }

    /// Whom leadership is being handed to.
    pub fn transferring(&self) -> Option<u64> {
        self.raw.raft.lead_transferee
    }

    /// A member cannot be reached.
    pub fn report_unreachable(&mut self, id: u64) {
        self.raw.report_unreachable(id);
    }

    /// A snapshot was delivered, or not.
    pub fn report_snapshot(&mut self, id: u64, delivered: bool) {
        let status = if delivered {
            SnapshotStatus::Finish
        } else {
            SnapshotStatus::Failure
        };
        self.raw.report_snapshot(id, status);
    }

    /// Whether a follower waits for a newer snapshot than there is; asking resets it.
    pub fn take_snapshot_wanted(&mut self) -> bool {
        self.raw.raft.raft_log.store.snapshot_wanted.take()
    }

    /// The newest snapshot that can be sent.
    pub fn snapshot(&self) -> &SnapshotBase {
        &self.raw.raft.raft_log.store.snapshot
    }

    /// A newer snapshot is durable; entries up to `compact` are about to leave the log.
    pub fn set_snapshot(&mut self, base: SnapshotBase, compact: u64) -> Result<(), LogError> {
        let storage = &mut self.raw.raft.raft_log.store;
        if compact > storage.truncated.0 {
            let term = raft::Storage::term(storage, compact).map_err(|error| LogError {
                what: error.to_string(),
            })?;
            storage.truncated = (compact, term);
        }
        storage.snapshot = base;
        Ok(())
    }

    /// What there is to do; `None` when nothing.
    pub fn ready(&mut self) -> Result<Option<Ready>, LogError> {
        if let Some(what) = self.raw.raft.raft_log.store.failure.take() {
            return Err(LogError { what });
        }
        if !self.raw.has_ready() {
            return Ok(None);
        }
        let mut inner = self.raw.ready();
        let reads = inner.take_read_states();
        let reads = reads.into_iter().filter_map(|state| {
            let context = <[u8; 8]>::try_from(&state.request_ctx[..]).ok()?;
            Some((u64::from_be_bytes(context), state.index))
        });
        Ok(Some(Ready {
            before: inner.take_messages(),
            after: inner.take_persisted_messages(),
            hard_state: inner.hs().cloned(),
            snapshot: base_of(inner.snapshot()),
            committed: inner.take_committed_entries(),
            reads: reads.collect(),
            must_sync: inner.must_sync(),
            inner,
        }))
    }

    /// A `Ready` is durable (its snapshot included, with the log reset behind it).
    pub fn persisted(&mut self, mut ready: Ready) -> Light {
        let storage = &mut self.raw.raft.raft_log.store;
        if let Some(base) = ready.snapshot.take() {
            storage.forget_cache();
            storage.truncated = (base.index, base.term);
            storage.conf_state = base.conf_state.clone();
            storage.snapshot = base;
        }
        if let Some(state) = ready.hard_state.take() {
            storage.hard_state = state;
        }
        let entries = ready.inner.take_entries();
        storage.append(entries);
        let mut light = self.raw.advance_append(ready.inner);
        Light {
            messages: light.take_messages(),
            committed: light.take_committed_entries(),
        }
    }

    /// Everything up to `index` is applied.
    pub fn applied(&mut self, index: u64) {
        self.raw.advance_apply_to(index);
    }

    /// A committed change of configuration takes effect; gives the new one. An impossible change has none.
    pub fn apply_change(&mut self, change: &ConfChangeV2) -> Option<ConfState> {
        let applied = self.raw.apply_conf_change(change).ok();
        if let Some(conf_state) = &applied {
            self.raw.raft.raft_log.store.conf_state = conf_state.clone();
            let stays = self.raw.raft.prs().get(self.raw.raft.id).is_some();
            if self.role() == Role::Leader && !stays {
                // RawNode cannot lead without being a member. The others learn what is committed before it steps down.
                self.raw.raft.ping();
                let term = self.raw.raft.term;
                self.raw.raft.become_follower(term, 0);
            }
        }
        applied
    }

    /// The message that tells a follower to take the snapshot it has received.
    pub fn is_snapshot(message: &Message) -> bool {
        message.get_msg_type() == MessageType::MsgSnapshot
    }

    /// Replaces raft-rs' own randomness, so that runs can be replayed.
    fn jitter(&mut self) {
        let raft = &mut self.raw.raft;
        let mut mixed = self.seed ^ raft.id.rotate_left(17) ^ raft.term.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let spread = usize::try_from((mixed >> 33) % self.election_ticks as u64).unwrap_or(0);
        raft.set_randomized_election_timeout(self.election_ticks + spread);
    }
}

fn base_of(snapshot: &Snapshot) -> Option<SnapshotBase> {
    let metadata = snapshot.metadata.as_ref().filter(|metadata| metadata.index > 0)?;
    Some(SnapshotBase {
        index: metadata.index,
        term: metadata.term,
        conf_state: metadata.conf_state.clone().unwrap_or_default(),
        has_file: true,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Default)]
    struct MemoryLog {
        entries: BTreeMap<u64, Entry>,
    }

    impl Log for MemoryLog {
        fn first_index(&self) -> u64 {
            2
        }

        fn last_index(&self) -> u64 {
            self.entries.keys().next_back().copied().unwrap_or(1)
        }

        fn read(&self, low: u64, high: u64, _: u64) -> Result<Vec<Entry>, LogError> {
            Ok(self
                .entries
                .range(low..high)
                .map(|(_, entry)| entry.clone())
                .collect())
        }
    }

    fn node(id: u64) -> Node<MemoryLog> {
        let config = Config {
            id,
            election_ticks: 10,
            heartbeat_ticks: 1,
            pre_vote: true,
            seed: 7,
        };
        let conf_state = ConfState {
            voters: vec![1, 2, 3],
            ..Default::default()
        };
        let hard_state = HardState {
            term: 1,
            commit: 1,
            ..Default::default()
        };
        let base = SnapshotBase {
            index: 1,
            term: 1,
            conf_state: conf_state.clone(),
            has_file: false,
        };
        Node::new(&config, MemoryLog::default(), hard_state, 1, conf_state, base).unwrap()
    }

    /// Runs a node until it has nothing to do; gives what it sends and commits.
    fn work(node: &mut Node<MemoryLog>) -> (Vec<Message>, Vec<Entry>) {
        let (mut sent, mut committed) = (Vec::new(), Vec::new());
        while let Some(mut ready) = node.ready().unwrap() {
            sent.append(&mut ready.before);
            for entry in ready.entries().to_vec() {
                node.log_mut().entries.split_off(&entry.index);
                node.log_mut().entries.insert(entry.index, entry);
            }
            let after = std::mem::take(&mut ready.after);
            committed.append(&mut ready.committed);
            let light = node.persisted(ready);
            sent.extend(after);
            sent.extend(light.messages);
            committed.extend(light.committed);
            if let Some(last) = committed.last() {
                node.applied(last.index);
            }
        }
        (sent, committed)
    }

    #[test]
    fn three_nodes_elect_the_same_leader_on_every_run_and_commit() {
        let run = || {
            let mut nodes: BTreeMap<u64, _> = (1..4).map(|id| (id, node(id))).collect();
            let mut committed: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
            let mut proposed = false;
            for _ in 0..60 {
                for node in nodes.values_mut() {
                    node.tick();
                }
                for _ in 0..10 {
                    let mut messages = Vec::new();
                    for (id, node) in &mut nodes {
                        let (sent, entries) = work(node);
                        messages.extend(sent);
                        let data = entries
                            .into_iter()
                            .map(|entry| entry.data)
                            .filter(|data| !data.is_empty());
                        committed.entry(*id).or_default().extend(data);
                    }
                    for message in messages {
                        nodes.get_mut(&message.to).unwrap().step(message).unwrap();
                    }
                }
                let follower = nodes
                    .values_mut()
                    .find(|node| node.leader() != 0 && node.role() == Role::Follower);
                if let (false, Some(follower)) = (proposed, follower) {
                    follower.propose(b"x".to_vec()).unwrap();
                    proposed = true;
                }
            }
            assert!(
                committed.values().all(|data| data == &[b"x".to_vec()]),
                "{committed:?}"
            );
            nodes[&1].leader()
        };
        assert_eq!(run(), run());
    }
}
