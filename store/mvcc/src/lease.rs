//! Leases and the keys attached to them: the replicated part. When they expire is `lessor`'s.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use keelson_proto::etcd::etcdserverpb as pb;
use prost::Message;

use crate::command::{Response, header};
use crate::error::Failure;
use crate::key_index::Key;
use crate::limits::LEASE_TTL_S_MAX;
use crate::rows::{Dirty, Table};
use crate::{ApiError, Mvcc};

/// etcd's stored form.
#[derive(Clone, PartialEq, Message)]
struct StoredLease {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(int64, tag = "2")]
    ttl: i64,
    #[prost(int64, tag = "3")]
    remaining_ttl: i64,
}

/// One lease.
#[derive(Debug, Default)]
pub struct Lease {
    /// Granted seconds.
    pub ttl_s: i64,
    /// Seconds left at the last checkpoint; 0 when there was none.
    pub remaining_s: i64,
    keys: BTreeSet<Key>,
}

/// All leases.
#[derive(Debug, Default)]
pub struct Leases {
    leases: BTreeMap<i64, Lease>,
    attached: BTreeMap<Key, i64>,
}

impl Leases {
    /// Whether a lease exists.
    pub fn exists(&self, id: i64) -> bool {
        self.leases.contains_key(&id)
    }

    /// A lease.
    pub fn get(&self, id: i64) -> Option<&Lease> {
        self.leases.get(&id)
    }

    /// All leases by id.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Lease)> {
        self.leases.iter().map(|(id, lease)| (*id, lease))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// The lease a key is attached to; 0 for none.
    pub fn of(&self, key: &[u8]) -> i64 {
        self.attached.get(key).copied().unwrap_or(0)
    }

    /// Attaches a key to a lease instead of its old one; 0 only detaches.
    pub(crate) fn attach(&mut self, key: &Key, id: i64) {
        if self.attached.is_empty() && id == 0 {
            return;
        }
        let old = if id == 0 {
            self.attached.remove(key)
        } else {
            self.attached.insert(key.clone(), id)
        };
        if old == Some(id) {
            return;
        }
        if let Some(lease) = old.and_then(|old| self.leases.get_mut(&old)) {
            lease.keys.remove(key);
        }
        if id != 0 {
            // While records are restored, leases come after the keys.
            self.leases.entry(id).or_default().keys.insert(key.clone());
        }
    }

    /// Forgets leases that only records named: they ended before the state was written.
    pub(crate) fn forget_ended(&mut self) {
        let Self { leases, attached, .. } = self;
        leases.retain(|_, lease| lease.ttl_s > 0);
        attached.retain(|_, id| leases.contains_key(id));
    }

    pub(crate) fn restore(&mut self, value: Bytes) -> Result<(), String> {
        let stored = StoredLease::decode(value).map_err(|error| error.to_string())?;
        let lease = self.leases.entry(stored.id).or_default();
        lease.ttl_s = stored.ttl;
        lease.remaining_s = stored.remaining_ttl;
        Ok(())
    }

    pub(crate) fn checkpoint(&mut self, request: &pb::LeaseCheckpointRequest, dirty: &mut Dirty) {
        for checkpoint in &request.checkpoints {
            if let Some(lease) = self.leases.get_mut(&checkpoint.id) {
                lease.remaining_s = checkpoint.remaining_ttl;
                store(checkpoint.id, lease, dirty);
            }
        }
    }
}

impl Lease {
    /// Keys attached, in order.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter()
    }
}

fn store(id: i64, lease: &Lease, dirty: &mut Dirty) {
    let stored = StoredLease {
        id,
        ttl: lease.ttl_s,
        remaining_ttl: lease.remaining_s,
    };
    dirty.put(Table::Lease, &id.to_be_bytes(), stored.encode_to_vec());
}

impl Mvcc {
    pub(crate) fn apply_lease_grant(
        &mut self,
        request: &pb::LeaseGrantRequest,
    ) -> Result<Response, ApiError> {
        if request.ttl > LEASE_TTL_S_MAX {
            return Err(ApiError::LeaseTTLTooLarge);
        }
        if self.leases.exists(request.id) {
            return Err(ApiError::LeaseExist);
        }
        let lease = Lease {
            ttl_s: request.ttl,
            ..Default::default()
        };
        store(request.id, &lease, &mut self.dirty);
        self.leases.leases.insert(request.id, lease);
        Ok(Response::LeaseGrant(pb::LeaseGrantResponse {
            header: header(self.revision),
            id: request.id,
            ttl: request.ttl,
            error: String::new(),
        }))
    }

    /// Removes a lease and, in one transaction, its keys.
    pub(crate) fn apply_lease_revoke(
        &mut self,
        request: &pb::LeaseRevokeRequest,
    ) -> Result<Response, Failure> {
        let Some(lease) = self.leases.get(request.id) else {
            return Err(ApiError::LeaseNotFound.into());
        };
        let keys: Vec<Key> = lease.keys().cloned().collect();
        let mut transaction = self.begin();
        for key in keys {
            self.delete(&mut transaction, &key);
        }
        self.leases.leases.remove(&request.id);
        self.dirty.delete(Table::Lease, &request.id.to_be_bytes());
        let revision = self.commit(transaction)?;
        Ok(Response::LeaseRevoke(pb::LeaseRevokeResponse {
            header: header(revision),
        }))
    }
}
