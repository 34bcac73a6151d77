//! What a member does with its inputs: propose, append, send, apply, answer.

use std::time::Instant;

use bytes::Bytes;
use keelson_proto::etcd::etcdserverpb as pb;
use keelson_store_disk::snapshot;
use keelson_store_disk::wal::WalBatch;
use keelson_store_mvcc::command::{Command, Op, Response};
use keelson_store_mvcc::{ApiError, Mvcc};
use keelson_store_raft::{Entry, EntryType, Ready, SnapshotBase};

use super::{Fatal, Keeper, Member, Proposal, Read, ReadBatch, Settings, Shared, Stalled, Transport, WalLog};
use crate::limits::{
    APPLY_BATCH_ENTRIES, DISK_RETRY_MS, LEASE_RETRY_MS, LEASES_REVOKED_PER_TICK, SNAPSHOT_LOG_BYTES,
};

impl Member {
    /// Puts the parts together; `open` has read them.
    pub(super) fn assemble(
        settings: Settings,
        node: keelson_store_raft::Node<WalLog>,
        shared: std::sync::Arc<Shared>,
        transport: Box<dyn Transport>,
        keeper: Box<dyn Keeper>,
        disk: std::sync::Arc<dyn keelson_store_disk::Disk>,
        snapshot_dir: std::path::PathBuf,
        now_ms: u64,
    ) -> Self {
        let applied = shared.state.read().applied().0;
        let next_read = settings.seed;
        let mut member = Self {
            settings,
            node,
            shared,
            transport,
            keeper,
            disk,
            snapshot_dir,
            pending: Default::default(),
            unproposed: Default::default(),
            changes: Vec::new(),
            reads: Default::default(),
            new_reads: Vec::new(),
            next_read,
            lessor: Default::default(),
            led_term: None,
            applied,
            now_ms,
            snapshotting: false,
            snapshot_bytes: 0,
            transfers: Vec::new(),
            fatal: None,
            slow_append: false,
            stalled: None,
        };
        let conf = member.node.conf_state();
        if conf.voters == [member.node.id()] && conf.voters_outgoing.is_empty() {
            // The only voter needs nobody's consent and no timeout.
            member.node.campaign();
        }
        member
    }

    pub(super) fn propose(&mut self, id: u64, proposal: Proposal) {
        // Raft must not be given anything while a `Ready` is not on disk.
        if self.stalled.is_some() || !self.node.takes_proposals() {
            self.unproposed.push_back((id, proposal));
            return;
        }
        let outcome = match proposal {
            Proposal::Command(data) => self.node.propose(data),
            Proposal::Change(change) => self.propose_change(&change),
        };
        if outcome.is_err()
            && let Some(pending) = self.pending.remove(&id)
        {
            let _ = pending.answer.send(Err(ApiError::RequestTooManyRequests));
        }
    }

    /// Does everything there is to do. An error is fatal.
    pub fn process(&mut self) -> Result<(), Fatal> {
        if let Some(fatal) = self.fatal.take() {
            return Err(fatal);
        }
        if let Some(stalled) = self.stalled.take() {
            self.resume(stalled)?;
        }
        if self.stalled.is_none() {
            self.start_reads();
            self.work()?;
        }
        self.publish();
        Ok(())
    }

    fn work(&mut self) -> Result<(), Fatal> {
        loop {
            while let Some(mut ready) = self.node.ready()? {
                self.keep_commit(&ready.committed)?;
                self.transport.send(std::mem::take(&mut ready.before));
                self.handle(ready)?;
                if self.stalled.is_some() {
                    return Ok(());
                }
            }
            self.note_role();
            if self.node.leader() != 0 && self.node.transferring().is_none() && !self.unproposed.is_empty() {
                for (id, proposal) in std::mem::take(&mut self.unproposed) {
                    self.propose(id, proposal);
                }
                continue;
            }
            break;
        }
        self.maybe_snapshot();
        Ok(())
    }

    /// Tries again what found the disk full.
    fn resume(&mut self, stalled: Stalled) -> Result<(), Fatal> {
        if self.now_ms < stalled.retry_at_ms {
            self.stalled = Some(stalled);
            return Ok(());
        }
        self.handle(stalled.ready)
    }

    /// What a `Ready` wants durable, and then what follows from that.
    fn handle(&mut self, mut ready: Ready) -> Result<(), Fatal> {
        match self.store(&ready) {
            Ok(()) => {}
            Err(Fatal::Disk(error)) if error.is_full() => {
                if !self.shared.set_disk_full(true) {
                    tracing::error!(%error, "the disk is full: writes are refused until there is room");
                }
                self.stalled = Some(Stalled {
                    ready,
                    retry_at_ms: self.now_ms + DISK_RETRY_MS,
                });
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        if self.shared.set_disk_full(false) {
            tracing::info!("the disk has room again: writes are taken");
        }
        let after = std::mem::take(&mut ready.after);
        let committed = std::mem::take(&mut ready.committed);
        for (context, index) in std::mem::take(&mut ready.reads) {
            if let Some(batch) = self.reads.iter_mut().find(|batch| batch.context == context) {
                batch.index.get_or_insert(index);
            }
        }
        let installed = ready.snapshot.is_some();
        let light = self.node.persisted(ready);
        if installed {
            self.node.applied(self.applied);
        }
        self.keep_commit(&light.committed)?;
        self.transport.send(after);
        self.transport.send(light.messages);
        self.apply(committed)?;
        self.apply(light.committed)?;
        self.answer_reads();
        Ok(())
    }

    /// Elsewhere the commit index may be forgotten in a crash. Not that of a change of membership: a member it removes
    /// goes as soon as it is told, and those left could not commit it again without that one.
    fn keep_commit(&mut self, committed: &[Entry]) -> Result<(), Fatal> {
        let changes = committed
            .iter()
            .any(|entry| entry.get_entry_type() == EntryType::EntryConfChangeV2);
        let Some(last) = committed.last().filter(|_| changes) else {
            return Ok(());
        };
        // Raft may know of more that is committed, whose entries are not written yet.
        let mut state = self.node.hard_state();
        state.commit = state.commit.min(last.index);
        let mut batch = WalBatch::default();
        batch.state(keelson_store_raft::encode(&state).into());
        match self.node.log_mut().wal.append(&batch) {
            // Written with the next batch, once there is room.
            Err(error) if error.is_full() => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    fn store(&mut self, ready: &Ready) -> Result<(), Fatal> {
        if let Some(base) = &ready.snapshot {
            self.install(base, ready)?;
        }
        self.append(ready)
    }

    /// One write and one fsync for everything in the `Ready`.
    fn append(&mut self, ready: &Ready) -> Result<(), Fatal> {
        if ready.entries().is_empty() && !(ready.must_sync && ready.hard_state.is_some()) {
            return Ok(());
        }
        let mut batch = WalBatch::default();
        for entry in ready.entries() {
            let length = keelson_store_raft::encoded_len(entry);
            batch.entry(entry.index, length, |buffer| {
                keelson_store_raft::encode_to(entry, buffer)
            });
        }
        if let Some(state) = &ready.hard_state {
            batch.state(keelson_store_raft::encode(state).into());
        }
        let started = Instant::now();
        self.node.log_mut().wal.append(&batch)?;
        let took = started.elapsed();
        self.shared.metrics.wal_fsync.observe(took.as_secs_f64());
        let election_ms = self.settings.election_ticks as u128 * u128::from(self.settings.tick_ms);
        self.slow_append = took.as_millis() * 2 > election_ms;
        Ok(())
    }

    /// Replaces log and state by a received snapshot.
    fn install(&mut self, base: &SnapshotBase, ready: &Ready) -> Result<(), Fatal> {
        tracing::info!(
            index = base.index,
            term = base.term,
            "taking over a snapshot from the leader"
        );
        let state = ready.hard_state.as_ref().map(keelson_store_raft::encode);
        let state = state.map_or_else(|| self.node.log().wal.state().clone(), Bytes::from);
        self.node.log_mut().wal.reset(state, base.index)?;
        self.keeper.restore(base)?;
        self.applied = base.index;
        snapshot::purge(self.disk.as_ref(), &self.snapshot_dir)?;
        Ok(())
    }

    fn apply(&mut self, entries: Vec<Entry>) -> Result<(), Fatal> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut entries = entries.into_iter().peekable();
        let mut answers = Vec::new();
        while entries.peek().is_some() {
            let shared = self.shared.clone();
            let mut state = shared.state.write();
            for entry in entries.by_ref().take(APPLY_BATCH_ENTRIES) {
                let index = entry.index;
                let (id, outcome) = self.apply_one(&mut state, entry)?;
                self.applied = index;
                if let Some(pending) = self.pending.remove(&id) {
                    answers.push((pending.answer, outcome));
                }
            }
            let urgent = state.flush_is_urgent();
            let wake = state.flush_is_due() || state.is_compacting();
            shared.note(&state);
            drop(state);
            for (answer, outcome) in answers.drain(..) {
                let _ = answer.send(outcome);
            }
            if urgent {
                self.keeper.wait();
            } else if wake {
                self.keeper.wake();
            }
        }
        self.node.applied(self.applied);
        self.shared.applied.send_replace(self.applied);
        Ok(())
    }

    fn apply_one(
        &mut self,
        state: &mut Mvcc,
        entry: Entry,
    ) -> Result<(u64, Result<Response, ApiError>), Fatal> {
        let (index, term) = (entry.index, entry.term);
        if index <= state.applied().0 {
            return Ok((0, Err(ApiError::Stopped)));
        }
        let wrong = |what: String| Fatal::Command { index, what };
        match entry.get_entry_type() {
            EntryType::EntryNormal if entry.data.is_empty() => {
                state.advance(index, term);
                Ok((0, Ok(Response::Done(state.revision()))))
            }
            EntryType::EntryNormal => {
                let command = Command::decode(entry.data.into()).map_err(|error| wrong(error.to_string()))?;
                let id = command.id;
                let revoked = match &command.op {
                    Some(Op::LeaseRevoke(request)) => Some(request.id),
                    _ => None,
                };
                let outcome = state.apply(index, term, command)?;
                self.note_lease(&outcome, revoked.filter(|_| outcome.is_ok()));
                Ok((id, outcome))
            }
            EntryType::EntryConfChange => {
                Err(wrong("it is a configuration change of the old kind".to_owned()))
            }
            EntryType::EntryConfChangeV2 => self.apply_change(state, &entry),
        }
    }

    fn note_lease(&mut self, outcome: &Result<Response, ApiError>, revoked: Option<i64>) {
        match (outcome, revoked) {
            (Ok(Response::LeaseGrant(granted)), _) => self.lessor.renew(granted.id, granted.ttl, self.now_ms),
            (_, Some(id)) => self.lessor.forget(id),
            _ => {}
        }
    }

    pub(super) fn expire_leases(&mut self) {
        // A leader of an earlier term, or none any more, must not decide: its proposal would go to the new leader.
        let leads = self.is_leader() && self.led_term == Some(self.node.term());
        if !leads || self.stalled.is_some() || self.node.transferring().is_some() {
            return;
        }
        for id in self
            .lessor
            .expired(self.now_ms, LEASES_REVOKED_PER_TICK, LEASE_RETRY_MS)
        {
            if !self.shared.state.read().leases().exists(id) {
                self.lessor.forget(id);
                continue;
            }
            let command = Command {
                op: Some(Op::LeaseRevoke(pb::LeaseRevokeRequest { id })),
                ..Default::default()
            };
            // Nobody waits; a lost proposal is repeated after `LEASE_RETRY_MS`.
            let _ = self.node.propose(prost::Message::encode_to_vec(&command));
        }
    }

    fn note_role(&mut self) {
        let leading = self.is_leader();
        let led_term = leading.then(|| self.node.term());
        if leading && led_term != self.led_term {
            let extend_ms = self.settings.election_ticks as u64 * self.settings.tick_ms;
            let shared = self.shared.clone();
            self.lessor
                .promote(shared.state.read().leases(), self.now_ms, extend_ms);
            tracing::info!(term = self.node.term(), "this member leads");
        }
        if !leading && self.led_term.is_some() {
            self.lessor.demote();
            tracing::info!(
                term = self.node.term(),
                leader = self.node.leader(),
                "this member no longer leads"
            );
        }
        self.led_term = led_term;
        if leading && self.slow_append && self.node.transferring().is_none() {
            self.slow_append = false;
            let to = self.best_follower();
            if to != 0 {
                tracing::warn!(
                    to = format!("{to:x}"),
                    "the disk is slow: handing leadership over"
                );
                self.node.transfer_leader(to);
            }
        }
    }

    fn start_reads(&mut self) {
        if self.new_reads.is_empty() {
            return;
        }
        let context = self.next_read;
        self.next_read = self.next_read.wrapping_add(1);
        self.reads.push_back(ReadBatch {
            context,
            reads: std::mem::take(&mut self.new_reads),
            index: None,
            asked_ms: self.now_ms,
            deadline_ms: self.now_ms + self.request_timeout_ms(),
        });
        self.node.read_index(context);
    }

    /// A request for the read index may be lost or come too early for a new leader.
    pub(super) fn retry_reads(&mut self) {
        if self.stalled.is_some() {
            return;
        }
        let (now, after) = (self.now_ms, 5 * self.settings.tick_ms);
        let mut again = Vec::new();
        for batch in &mut self.reads {
            if batch.index.is_none() && now >= batch.asked_ms + after {
                batch.asked_ms = now;
                again.push(batch.context);
            }
        }
        for context in again {
            self.node.read_index(context);
        }
    }

    fn answer_reads(&mut self) {
        let applied = self.applied;
        let answerable = |batch: &ReadBatch| batch.index.is_some_and(|index| index <= applied);
        if !self.reads.iter().any(answerable) {
            return;
        }
        for batch in std::mem::take(&mut self.reads) {
            if answerable(&batch) {
                for read in batch.reads {
                    // Whoever asked may have gone.
                    let _ = match read {
                        Read::State(answer) => answer.send(Ok(())).is_ok(),
                        Read::Renewal(id, answer) => answer.send(self.renew(id)).is_ok(),
                        Read::Remaining(id, answer) => answer.send(self.remaining(id)).is_ok(),
                    };
                }
            } else {
                self.reads.push_back(batch);
            }
        }
    }

    fn maybe_snapshot(&mut self) {
        if self.snapshotting {
            return;
        }
        let base = self.node.snapshot().index;
        let wanted = self.node.take_snapshot_wanted();
        let grown = self.node.log().wal.bytes() >= SNAPSHOT_LOG_BYTES.max(self.snapshot_bytes)
            && self.applied >= base + self.settings.snapshot_count;
        if (wanted || grown) && self.applied > base {
            self.snapshotting = true;
            self.keeper.snapshot();
        }
    }

    pub(super) fn snapshot_done(&mut self, outcome: Result<SnapshotBase, String>) {
        self.snapshotting = false;
        let base = match outcome {
            Ok(base) => base,
            Err(error) => {
                tracing::warn!(error, "a snapshot could not be written; the log is kept");
                return;
            }
        };
        if base.index <= self.node.snapshot().index {
            return;
        }
        let path = snapshot::path(&self.snapshot_dir, base.term, base.index);
        let size = self.disk.open(&path, false).and_then(|file| file.len());
        self.snapshot_bytes = size.unwrap_or(0);
        let compact = base.index.saturating_sub(self.settings.catch_up_entries);
        let done = self
            .node
            .set_snapshot(base, compact)
            .map_err(Fatal::from)
            .and_then(|()| Ok(self.node.log_mut().wal.compact(compact)?))
            .and_then(|()| Ok(snapshot::purge(self.disk.as_ref(), &self.snapshot_dir)?));
        if let Err(error) = done {
            tracing::warn!(%error, "old log or snapshot files could not be removed");
        }
    }

    /// Tells everyone outside what this member is now.
    fn publish(&mut self) {
        let status = super::shared::Status {
            term: self.node.term(),
            leader: self.node.leader(),
            // Not before it has applied what earlier leaders committed: a sole voter's state is read without asking.
            leading: self.is_leader() && self.led_term == Some(self.node.term()),
            committed: self.node.committed(),
            applied: self.applied,
            last_index: keelson_store_raft::Log::last_index(self.node.log()),
        };
        self.shared.publish(status, self.pending.len());
    }
}
