//! What a member and its cluster are: written once, at the head of every log segment.

use keelson_proto::etcd::etcdserverpb as pb;
use keelson_store_raft::{ConfState, HardState, SnapshotBase};
use sha2::{Digest, Sha256};

/// The birth record of a member.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Genesis {
    #[prost(fixed64, tag = "1")]
    pub cluster_id: u64,
    #[prost(fixed64, tag = "2")]
    pub member_id: u64,
    /// The initial members; empty for one that joins and learns them from the others.
    #[prost(message, repeated, tag = "3")]
    pub members: Vec<pb::Member>,
    /// For one that joins: whom it can ask until it has learned the members.
    #[prost(message, repeated, tag = "4")]
    pub peers: Vec<pb::Member>,
    /// Made by `restore`: what is before the log is in the snapshot alone, and not an empty store.
    #[prost(bool, tag = "5")]
    pub restored: bool,
}

impl Genesis {
    /// Entry 1 is the cluster's birth and in no log: a member that joins later cannot take it from a log and so must
    /// start from a snapshot, which has the members of its time.
    pub fn base(&self) -> SnapshotBase {
        if self.members.is_empty() {
            return SnapshotBase::default();
        }
        SnapshotBase {
            index: 1,
            term: 1,
            conf_state: self.conf_state(),
            has_file: false,
        }
    }

    /// The initial configuration.
    pub fn conf_state(&self) -> ConfState {
        ConfState {
            voters: self.members.iter().map(|member| member.id).collect(),
            ..Default::default()
        }
    }

    /// The hard state a new log starts with.
    pub fn hard_state(&self) -> HardState {
        let base = self.base();
        HardState {
            term: base.term,
            vote: 0,
            commit: base.index,
        }
    }
}

/// A member's id: the same on every member that reads the same flags. `salt` is empty for initial members and makes
/// the ids of members added later (perhaps again at the same address) unique.
pub fn member_id(peer_urls: &[String], token: &str, salt: &[u8]) -> u64 {
    let mut urls = peer_urls.to_vec();
    urls.sort();
    let mut hasher = Sha256::new();
    for url in urls {
        hasher.update(url.as_bytes());
    }
    hasher.update(token.as_bytes());
    hasher.update(salt);
    first_u64(&hasher.finalize())
}

/// The cluster's id, from its initial members.
pub fn cluster_id(members: &[pb::Member], token: &str) -> u64 {
    let mut ids: Vec<u64> = members.iter().map(|member| member.id).collect();
    ids.sort_unstable();
    let mut hasher = Sha256::new();
    for id in ids {
        hasher.update(id.to_be_bytes());
    }
    hasher.update(token.as_bytes());
    first_u64(&hasher.finalize())
}

fn first_u64(digest: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[..8]);
    // 0 means "no member" everywhere.
    u64::from_be_bytes(bytes).max(1)
}
