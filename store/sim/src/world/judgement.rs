//! What is checked: while the world runs, that members at the same entry are the same; at the end, everything else.

use std::collections::{BTreeMap, BTreeSet};

use keelson_store_raft::ConfState;

use super::{Summary, World};
use crate::linear::{self, Call};

/// Members are compared by their hashes at every so manyth entry, by their revisions at every one.
const HASH_EVERY: u64 = 8;

/// What members were at each entry they were seen at: revision, and hash if it was taken.
pub(super) type Ledger = BTreeMap<u64, (i64, Option<u32>, u64)>;

impl World {
    /// Looks at a member that has done something.
    pub(super) fn observe(&mut self, place: usize) -> Result<(), String> {
        let host = &mut self.hosts[place];
        let Some(running) = &host.running else {
            return Ok(());
        };
        let state = running.shared.state.read();
        let (index, _) = state.applied();
        let seen = (host.incarnation, index);
        if host.seen == seen {
            return Ok(());
        }
        host.seen = seen;
        let takes_hash = index.is_multiple_of(HASH_EVERY) || self.trace;
        let hash = takes_hash.then(|| state.hash_all()).transpose();
        let hash = hash.map_err(|error| error.to_string())?;
        let new = self.truth.extend(&state)?;
        let revision = state.revision();
        let id = host.id;
        let entry = self.ledger.entry(index).or_insert((revision, hash, id));
        entry.1 = entry.1.or(hash);
        if entry.0 != revision || (hash.is_some() && entry.1 != hash) {
            let entry = format!("{entry:?}");
            drop(state);
            return Err(format!(
                "members differ at entry {index}: {entry} before, member {id} has revision {revision}, hash {hash:?}; {}",
                self.describe_content()
            ));
        }
        drop(state);
        self.follow_leases(&new)
    }

    /// Whether all members that can run are equal, leases have ended, and watchers have seen everything.
    pub(super) fn is_settled(&self) -> bool {
        let members: BTreeSet<u64> = self.members().iter().map(|member| member.id).collect();
        let mut applied = BTreeSet::new();
        for id in &members {
            let Some(host) = self.hosts.iter().find(|host| host.id == *id) else {
                return false;
            };
            if host.refused {
                continue;
            }
            let Some(running) = &host.running else {
                return false;
            };
            let state = running.shared.state.read();
            applied.insert((state.applied().0, state.revision()));
            let conf: ConfState = keelson_store_raft::decode(state.conf_state()).unwrap_or_default();
            let ended = state.leases().iter().count() == 0;
            if !ended
                || state.is_compacting()
                || running.shared.status().leader == 0
                || !conf.voters_outgoing.is_empty()
            {
                return false;
            }
        }
        let gone = |id: u64| members.contains(&id);
        applied.len() == 1
            && self.hosts.iter().all(|host| host.gone || gone(host.id))
            && self.clients.iter().all(|client| !client.is_busy())
            && self
                .watchers
                .iter()
                .all(|watcher| self.mutation.is_some() || watcher.has_seen(self.truth.revision))
    }

    /// What members hold, in short.
    fn describe_content(&self) -> String {
        let mut parts = Vec::new();
        for host in &self.hosts {
            let Some(running) = &host.running else { continue };
            let state = running.shared.state.read();
            let leases: Vec<i64> = state.leases().iter().map(|(id, _)| id).collect();
            let members: Vec<(u64, bool)> = state
                .members()
                .list()
                .iter()
                .map(|member| (member.id, member.is_learner))
                .collect();
            let hash = state.hash_kv(0).map(|hash| hash.hash);
            parts.push(format!(
                "member {} at entry {}: compacted {}, HashKV {hash:?}, leases {leases:?}, members {members:?}",
                host.id,
                state.applied().0,
                state.compacted()
            ));
        }
        parts.join("; ")
    }

    pub(super) fn describe(&self) -> String {
        let hosts = self.hosts.iter().map(|host| {
            let status = host.running.as_ref().map(|running| {
                let state = running.shared.state.read();
                let leases = state.leases().iter().count();
                let conf: Option<ConfState> = keelson_store_raft::decode(state.conf_state()).ok();
                (
                    running.shared.status(),
                    state.applied(),
                    state.revision(),
                    leases,
                    conf,
                )
            });
            format!(
                "member {} refused {} gone {} {status:?}",
                host.id, host.refused, host.gone
            )
        });
        let seen = self
            .watchers
            .iter()
            .map(|watcher| watcher.has_seen(self.truth.revision));
        format!(
            "{}; watchers {:?}",
            hosts.collect::<Vec<_>>().join("; "),
            seen.collect::<Vec<_>>()
        )
    }

    pub(super) fn judge(mut self) -> Result<Summary, String> {
        let mut hashes = BTreeSet::new();
        for running in self.hosts.iter().filter_map(|host| host.running.as_ref()) {
            let state = running.shared.state.read();
            let hash = state.hash_all().map_err(|error| error.to_string())?;
            hashes.insert((state.applied().0, hash));
            self.summary.hash = hash;
        }
        if hashes.len() != 1 {
            return Err(format!("members differ: {hashes:?}"));
        }
        self.check_leases()?;
        for (number, watcher) in self.watchers.iter().enumerate() {
            let checked = self.truth.check(watcher);
            checked.map_err(|error| format!("watcher {number}: {error}"))?;
            self.summary.delivered += watcher.deliveries.len();
        }
        // A write nobody was told about and that is not in history did not happen; fewer such make the search short.
        let truth = &self.truth;
        self.ops.retain(|op| match (&op.answer, &op.call) {
            (None, Call::Get(_)) => false,
            (None, Call::Put(_, value) | Call::Swap(_, value)) => truth.wrote(value.to_string().as_bytes()),
            _ => true,
        });
        linear::check(&self.ops)?;
        self.summary.revision = self.truth.revision;
        self.summary.installed = self.hosts.iter().map(|host| host.installed()).sum();
        Ok(self.summary)
    }
}
