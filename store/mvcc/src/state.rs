//! The replicated state and `apply`, its only way to change.

use std::sync::Arc;

use bytes::Bytes;
use keelson_store_disk::Engine;

use crate::alarm::Alarms;
use crate::auth::AuthStore;
use crate::backend::{self, Backend, FlushJob, Meta, ReadError, ReclaimJob};
use crate::block::Record;
use crate::command::{Command, MemberChange, Op, Response};
use crate::error::Failure;
use crate::history::{BlockInfo, History};
use crate::key_index::{KeyIndex, Version};
use crate::lease::Leases;
use crate::limits::{FLUSH_BYTES, UNFLUSHED_BYTES_MAX};
use crate::members::Members;
use crate::rows::{Dirty, Table};
use crate::watch::Hub;
use crate::{ApiError, Revision};

/// All replicated state of one member.
pub struct Mvcc {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) index: KeyIndex,
    pub(crate) history: History,
    pub(crate) leases: Leases,
    pub(crate) auth: AuthStore,
    pub(crate) alarms: Alarms,
    pub(crate) members: Members,
    pub(crate) dirty: Dirty,
    /// Watchers that are up to date; not replicated.
    pub hub: Hub,
    pub(crate) revision: i64,
    pub(crate) last: Revision,
    pub(crate) compacted: i64,
    /// Whether records below `compacted` may still wait to be dropped.
    pub(crate) compacting: bool,
    applied_index: u64,
    applied_term: u64,
    conf_state: Bytes,
}

impl Mvcc {
    /// Reads the state from an engine and checks all of it. An empty engine is the state before the first command.
    pub fn open(engine: Arc<dyn Engine>) -> Result<Self, ReadError> {
        let meta = backend::read_meta(engine.as_ref())?;
        let mut state = Self {
            engine: engine.clone(),
            index: KeyIndex::default(),
            history: History::default(),
            leases: Leases::default(),
            auth: AuthStore::default(),
            alarms: Alarms::default(),
            members: Members::default(),
            dirty: Dirty::default(),
            hub: Hub::default(),
            revision: 1,
            last: Revision::new(1, 0),
            compacted: 0,
            compacting: false,
            applied_index: 0,
            applied_term: 0,
            conf_state: Bytes::new(),
        };
        let meta = meta.unwrap_or_default();
        let mut rows = Vec::new();
        backend::read_all(
            engine.as_ref(),
            &meta,
            |table, key, value| {
                rows.push((table, key.to_vec(), value));
                Ok(())
            },
            |first, bytes, records, dead| state.restore_block(first, bytes, records, dead),
        )?;
        for (table, key, value) in rows {
            state
                .restore_row(table, &key, value)
                .map_err(ReadError::damaged)?;
        }
        state.leases.forget_ended();
        state.revision = meta.revision.max(1);
        state.last = Revision::new(state.revision, u32::MAX);
        state.compacted = meta.compacted;
        state.compacting = meta.compacted > 0;
        state.applied_index = meta.applied_index;
        state.applied_term = meta.applied_term;
        state.conf_state = meta.conf_state;
        state.hub.set_revision(state.revision);
        Ok(state)
    }

    fn restore_block(
        &mut self,
        first: Revision,
        bytes: u32,
        records: Vec<(Revision, Record)>,
        dead: Vec<Revision>,
    ) {
        let info = BlockInfo {
            records: records.len() as u32,
            live: (records.len() - dead.len()) as u32,
            bytes,
        };
        let alive = |revision: &Revision| dead.binary_search(revision).is_err();
        for (modified, record) in records.into_iter().filter(|(revision, _)| alive(revision)) {
            let version = if record.tombstone {
                Version {
                    modified,
                    created: 0,
                    version: 0,
                }
            } else {
                Version {
                    modified,
                    created: record.kv.create_revision,
                    version: record.kv.version,
                }
            };
            let key = self.index.restore(&record.kv.key, version);
            self.leases
                .attach(&key, if record.tombstone { 0 } else { record.kv.lease });
        }
        self.history.restore_block(first, info, dead);
    }

    fn restore_row(&mut self, table: Table, key: &[u8], value: Bytes) -> Result<(), String> {
        match table {
            Table::Lease => self.leases.restore(value),
            Table::Alarm => self.alarms.restore(key),
            Table::Auth | Table::AuthUser | Table::AuthRole => self.auth.restore(table, key, value),
            Table::Member | Table::MemberRemoved | Table::Cluster | Table::Keelson => {
                self.members.restore(table, key, &value)
            }
        }
    }

    /// Revision of the last change.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Revision below which history is gone.
    pub fn compacted(&self) -> i64 {
        self.compacted
    }

    /// Index and term of the last applied entry.
    pub fn applied(&self) -> (u64, u64) {
        (self.applied_index, self.applied_term)
    }

    /// Raft's configuration as of the applied entry.
    pub fn conf_state(&self) -> &Bytes {
        &self.conf_state
    }

    /// The engine that holds older records.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// Keys in the index.
    pub fn keys(&self) -> usize {
        self.index.len()
    }

    /// Leases.
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Users and roles.
    pub fn auth(&self) -> &AuthStore {
        &self.auth
    }

    /// Users and roles, for what is not replicated: tokens' expiry.
    pub fn auth_mut(&mut self) -> &mut AuthStore {
        &mut self.auth
    }

    /// Alarms.
    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// Members.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Bytes of live data, about.
    pub fn bytes_in_use(&self) -> u64 {
        self.history.live_bytes()
    }

    /// Sets what the first member of a log starts with, before any command.
    pub fn bootstrap(
        &mut self,
        index: u64,
        term: u64,
        conf_state: Bytes,
        members: &[keelson_proto::etcd::etcdserverpb::Member],
    ) {
        self.applied_index = index;
        self.applied_term = term;
        self.conf_state = conf_state;
        for member in members {
            self.members.add(member.clone(), &mut self.dirty);
        }
    }

    /// Applies one committed entry. The outer error is fatal: the member can no longer read its own state.
    pub fn apply(
        &mut self,
        index: u64,
        term: u64,
        command: Command,
    ) -> Result<Result<Response, ApiError>, ReadError> {
        self.advance(index, term);
        let Command {
            user,
            auth_revision,
            op,
            ..
        } = command;
        let Some(op) = op else {
            return Ok(Ok(Response::Done(self.revision)));
        };
        let checked = self
            .alarms
            .admit(&op)
            .and_then(|()| self.auth.admit(&user, auth_revision, &op, &self.leases));
        if let Err(error) = checked {
            return Ok(Err(error));
        }
        match self.execute(op) {
            Ok(response) => Ok(Ok(response)),
            Err(Failure::Api(error)) => Ok(Err(error)),
            Err(Failure::Read(error)) => Err(error),
        }
    }

    /// Notes an entry that changes nothing here (a new leader's empty entry).
    pub fn advance(&mut self, index: u64, term: u64) {
        assert!(
            index > self.applied_index,
            "entry {index} is applied after {}",
            self.applied_index
        );
        self.applied_index = index;
        self.applied_term = term;
    }

    /// Applies a change of membership that Raft has taken over, with its new configuration.
    pub fn apply_member_change(
        &mut self,
        index: u64,
        term: u64,
        change: Option<MemberChange>,
        conf_state: Bytes,
    ) -> Response {
        self.advance(index, term);
        self.conf_state = conf_state;
        if let Some(change) = change {
            self.members.change(&change, &mut self.dirty);
        }
        Response::Members(self.revision, self.members.list())
    }

    fn execute(&mut self, op: Op) -> Result<Response, Failure> {
        match op {
            Op::Put(request) => self.apply_put(request),
            Op::DeleteRange(request) => self.apply_delete_range(request),
            Op::Txn(request) => self.apply_txn(request),
            Op::Compact(request) => self.apply_compact(&request),
            Op::LeaseGrant(request) => Ok(self.apply_lease_grant(&request)?),
            Op::LeaseRevoke(request) => self.apply_lease_revoke(&request),
            Op::LeaseCheckpoint(request) => {
                self.leases.checkpoint(&request, &mut self.dirty);
                Ok(Response::Done(self.revision))
            }
            Op::Alarm(request) => Ok(self.alarms.apply(&request, self.revision, &mut self.dirty)),
            Op::MemberAttributes(attributes) => {
                self.members.set_attributes(&attributes, &mut self.dirty);
                Ok(Response::Done(self.revision))
            }
            Op::MemberUpdate(request) => {
                self.members.update(&request, &mut self.dirty)?;
                Ok(Response::Members(self.revision, self.members.list()))
            }
            Op::ClusterVersion(version) => {
                self.members.set_version(&version.version, &mut self.dirty);
                Ok(Response::Done(self.revision))
            }
            Op::Nothing(_) => Ok(Response::Done(self.revision)),
            op => {
                self.auth.apply(op, &mut self.dirty)?;
                Ok(Response::Done(self.revision))
            }
        }
    }

    /// What should be written to the engine now; `force` takes whatever there is.
    pub fn flush_job(&mut self, force: bool) -> Option<FlushJob> {
        let due = self.history.unflushed_bytes() >= FLUSH_BYTES || self.dirty.len() >= 1_000;
        let meta = self.meta();
        if !force && !due {
            return None;
        }
        Some(FlushJob {
            meta,
            upto: self.last,
            records: self.history.unflushed(),
            rows: std::mem::take(&mut self.dirty),
        })
    }

    /// Whether writers must wait until the engine has caught up.
    pub fn flush_is_urgent(&self) -> bool {
        self.history.unflushed_bytes() >= UNFLUSHED_BYTES_MAX
    }

    /// Whether `flush_job` would give one.
    pub fn flush_is_due(&self) -> bool {
        self.history.unflushed_bytes() >= FLUSH_BYTES || self.dirty.len() >= 1_000
    }

    /// A job was written.
    pub fn flushed(&mut self, job: &FlushJob, blocks: &[(Revision, BlockInfo)]) {
        self.history.flushed(job.upto, &job.records, blocks);
    }

    /// A job could not be written: its rows are due again.
    pub fn flush_failed(&mut self, job: FlushJob) {
        self.dirty.put_back(job.rows);
    }

    /// The next step of rewriting blocks with many dead records. It may be done only when the engine knows of the
    /// compaction at `compacted`: a crash must not leave records missing that an older meta promises.
    pub fn reclaim_job(&self) -> Option<ReclaimJob> {
        self.history.reclaim_job()
    }

    /// Whether a record is still part of history, for `Backend::reclaim`.
    pub fn holds(&self, key: &[u8], revision: Revision) -> bool {
        self.index.holds(key, revision)
    }

    /// A step of reclaiming was done.
    pub fn reclaimed(&mut self, job: &ReclaimJob, blocks: &[(Revision, BlockInfo)]) {
        self.history.reclaimed(job, blocks);
    }

    /// Writes everything to the engine at once: for simulation, tests and the end of the process.
    pub fn flush_all(&mut self, backend: &mut Backend) -> Result<(), ReadError> {
        if let Some(job) = self.flush_job(true) {
            match backend.flush(&job) {
                Ok(blocks) => self.flushed(&job, &blocks),
                Err(error) => {
                    self.flush_failed(job);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn meta(&self) -> Meta {
        Meta {
            applied_index: self.applied_index,
            applied_term: self.applied_term,
            revision: self.revision,
            compacted: self.compacted,
            conf_state: self.conf_state.clone(),
            ..Meta::default()
        }
    }
}
