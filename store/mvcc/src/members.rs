//! The cluster's members as clients see them, and what else describes the cluster.
//!
//! Stored as etcd stores them (JSON by hexadecimal id), so that its tools can read our snapshots.

use std::collections::{BTreeMap, BTreeSet};

use keelson_proto::etcd::etcdserverpb as pb;
use serde::{Deserialize, Serialize};

use crate::ApiError;
use crate::command::{MemberAttributes, MemberChange, MemberChangeKind};
use crate::rows::{Dirty, Table};

#[derive(Serialize, Deserialize)]
struct Stored {
    id: u64,
    #[serde(rename = "peerURLs", default)]
    peer_urls: Vec<String>,
    #[serde(rename = "isLearner", default, skip_serializing_if = "std::ops::Not::not")]
    is_learner: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(rename = "clientURLs", default, skip_serializing_if = "Vec::is_empty")]
    client_urls: Vec<String>,
}

/// Members by id.
#[derive(Debug, Clone, Default)]
pub struct Members {
    members: BTreeMap<u64, pb::Member>,
    removed: BTreeSet<u64>,
    version: String,
}

impl Members {
    /// All members, by id.
    pub fn list(&self) -> Vec<pb::Member> {
        self.members.values().cloned().collect()
    }

    /// One member.
    pub fn get(&self, id: u64) -> Option<&pb::Member> {
        self.members.get(&id)
    }

    /// Whether a member was removed for good.
    pub fn is_removed(&self, id: u64) -> bool {
        self.removed.contains(&id)
    }

    /// The version all members can speak; empty until the leader has set it.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether a change may be proposed.
    pub fn check(&self, change: &MemberChange) -> Result<(), ApiError> {
        if change.with.is_empty() {
            return self.check_step(change);
        }
        let mut after = self.clone();
        for step in change.steps() {
            after.check_step(step)?;
            after.step(step, &mut Dirty::default());
        }
        Ok(())
    }

    fn check_step(&self, change: &MemberChange) -> Result<(), ApiError> {
        let Some(member) = &change.member else {
            return Err(ApiError::MemberNotFound);
        };
        let known = self.members.get(&member.id);
        match change.kind() {
            MemberChangeKind::Add => {
                if known.is_some() || self.removed.contains(&member.id) {
                    return Err(ApiError::MemberExist);
                }
                self.check_urls(member.id, &member.peer_ur_ls)?;
                let learners = self.members.values().filter(|known| known.is_learner).count();
                if member.is_learner && learners >= crate::limits::LEARNERS_MAX {
                    return Err(ApiError::TooManyLearners);
                }
                Ok(())
            }
            MemberChangeKind::Promote => match known {
                None => Err(ApiError::MemberNotFound),
                Some(known) if !known.is_learner => Err(ApiError::MemberNotLearner),
                Some(_) => Ok(()),
            },
            MemberChangeKind::Remove => known.map(|_| ()).ok_or(ApiError::MemberNotFound),
        }
    }

    fn check_urls(&self, id: u64, urls: &[String]) -> Result<(), ApiError> {
        let others = self.members.values().filter(|member| member.id != id);
        let mut taken = others.flat_map(|member| &member.peer_ur_ls);
        if taken.any(|url| urls.contains(url)) {
            return Err(ApiError::PeerURLExist);
        }
        Ok(())
    }

    pub(crate) fn add(&mut self, member: pb::Member, dirty: &mut Dirty) {
        self.members.insert(member.id, member.clone());
        store(&member, dirty);
    }

    pub(crate) fn change(&mut self, change: &MemberChange, dirty: &mut Dirty) {
        for step in change.steps() {
            self.step(step, dirty);
        }
    }

    fn step(&mut self, change: &MemberChange, dirty: &mut Dirty) {
        let Some(member) = &change.member else { return };
        match change.kind() {
            MemberChangeKind::Add => self.add(member.clone(), dirty),
            MemberChangeKind::Promote => {
                if let Some(known) = self.members.get_mut(&member.id) {
                    known.is_learner = false;
                    store(known, dirty);
                }
            }
            MemberChangeKind::Remove => {
                self.members.remove(&member.id);
                self.removed.insert(member.id);
                dirty.delete(Table::Member, row_key(member.id).as_bytes());
                dirty.put(Table::MemberRemoved, row_key(member.id).as_bytes(), "removed");
            }
        }
    }

    pub(crate) fn set_attributes(&mut self, attributes: &MemberAttributes, dirty: &mut Dirty) {
        if let Some(member) = self.members.get_mut(&attributes.id) {
            member.name.clone_from(&attributes.name);
            member.client_ur_ls.clone_from(&attributes.client_urls);
            store(member, dirty);
        }
    }

    pub(crate) fn update(
        &mut self,
        request: &pb::MemberUpdateRequest,
        dirty: &mut Dirty,
    ) -> Result<(), ApiError> {
        self.check_urls(request.id, &request.peer_ur_ls)?;
        let member = self
            .members
            .get_mut(&request.id)
            .ok_or(ApiError::MemberNotFound)?;
        member.peer_ur_ls.clone_from(&request.peer_ur_ls);
        store(member, dirty);
        Ok(())
    }

    pub(crate) fn set_version(&mut self, version: &str, dirty: &mut Dirty) {
        version.clone_into(&mut self.version);
        dirty.put(Table::Cluster, b"clusterVersion", version.as_bytes().to_vec());
    }

    pub(crate) fn restore(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), String> {
        match table {
            Table::Member => {
                let stored: Stored = serde_json::from_slice(value).map_err(|error| error.to_string())?;
                self.members.insert(
                    stored.id,
                    pb::Member {
                        id: stored.id,
                        name: stored.name,
                        peer_ur_ls: stored.peer_urls,
                        client_ur_ls: stored.client_urls,
                        is_learner: stored.is_learner,
                    },
                );
            }
            Table::MemberRemoved => {
                let id = std::str::from_utf8(key)
                    .ok()
                    .and_then(|hex| u64::from_str_radix(hex, 16).ok());
                self.removed.insert(id.ok_or("a removed member's id is wrong")?);
            }
            Table::Cluster if key == b"clusterVersion" => {
                self.version = String::from_utf8_lossy(value).into_owned()
            }
            _ => {}
        }
        Ok(())
    }
}

fn row_key(id: u64) -> String {
    format!("{id:x}")
}

fn store(member: &pb::Member, dirty: &mut Dirty) {
    let stored = Stored {
        id: member.id,
        peer_urls: member.peer_ur_ls.clone(),
        is_learner: member.is_learner,
        name: member.name.clone(),
        client_urls: member.client_ur_ls.clone(),
    };
    let value = serde_json::to_vec(&stored).expect("a struct of strings and numbers is JSON");
    dirty.put(Table::Member, row_key(member.id).as_bytes(), value);
}
