//! Clients of leases: they grant, keep alive, revoke, and write keys that move from lease to lease.
//!
//! Nobody deletes those keys but the end of the lease they are attached to, so each deletion says which lease ended.

use std::collections::BTreeMap;

use keelson_proto::etcd::etcdserverpb as pb;
use keelson_proto::etcd::mvccpb::Event;
use keelson_store_mvcc::ApiError;
use keelson_store_mvcc::command::Op as CommandOp;
use kube_store::member::Input;
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::{Mutation, Wait, World};
use crate::host::CLOCK_DRIFT_PER_MILLE;

pub(super) const PREFIX: &[u8] = b"l/";
const TTL_S: i64 = 4;
/// Keys that leases share.
const KEYS: u64 = 8;

/// A keep-alive on its way: when it was sent (ms), and its answer.
type Renewal = (u64, oneshot::Receiver<Result<Option<i64>, ApiError>>);

pub(super) struct Lease {
    id: i64,
    /// When it was last certainly alive: its TTL counts from here at least.
    alive_at: u64,
    granted: bool,
    revoked: bool,
    wait: Wait,
    renewal: Option<Renewal>,
}

/// Which lease each key was last written with.
pub(super) type Attachments = BTreeMap<Vec<u8>, i64>;

impl World {
    pub(super) fn run_leases(&mut self) -> Result<(), String> {
        let host = self.chance.place(self.hosts.len());
        if !self.calm && self.chance.per_mille(6) && self.is_awake(host) {
            self.grant(host)?;
        }
        for place in 0..self.leases.len() {
            self.hear(host, place)?;
        }
        if self.calm || self.leases.is_empty() || !self.chance.per_mille(40) || !self.is_awake(host) {
            return Ok(());
        }
        let place = self.chance.place(self.leases.len());
        let id = self.leases[place].id;
        match self.chance.below(10) {
            0 => {
                self.leases[place].revoked = true;
                let wait = self.propose(host, CommandOp::LeaseRevoke(pb::LeaseRevokeRequest { id }))?;
                self.forgotten.push(wait);
            }
            1..4 => self.attach(host, id)?,
            // A key that stays when its lease ends.
            4 => self.attach(host, 0)?,
            _ => {
                let (answer, renewal) = oneshot::channel();
                self.leases[place].renewal = Some((self.now, renewal));
                self.hand_over(host, Some(Input::LeaseRenew(id, answer)))?;
            }
        }
        Ok(())
    }

    fn grant(&mut self, host: usize) -> Result<(), String> {
        let id = self.id().cast_signed();
        let ttl = TTL_S - i64::from(self.mutation == Some(Mutation::EarlyExpiry)) * 2;
        let wait = self.propose(host, CommandOp::LeaseGrant(pb::LeaseGrantRequest { ttl, id }))?;
        self.leases.push(Lease {
            id,
            alive_at: self.now,
            granted: false,
            revoked: false,
            wait,
            renewal: None,
        });
        Ok(())
    }

    /// Takes the answers for one lease.
    fn hear(&mut self, host: usize, place: usize) -> Result<(), String> {
        if !self.leases[place].granted && matches!(self.leases[place].wait.try_recv(), Ok(Ok(_))) {
            self.leases[place].granted = true;
            self.summary.leases += 1;
            let id = self.leases[place].id;
            self.attach(host, id)?;
        }
        if let Some((asked, mut renewal)) = self.leases[place].renewal.take() {
            match renewal.try_recv() {
                Ok(Ok(Some(_))) => {
                    let lease = &mut self.leases[place];
                    lease.alive_at = lease.alive_at.max(asked);
                }
                Err(TryRecvError::Empty) => self.leases[place].renewal = Some((asked, renewal)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes a key that ends with this lease; 0: with none.
    fn attach(&mut self, host: usize, lease: i64) -> Result<(), String> {
        if !self.is_awake(host) {
            return Ok(());
        }
        let put = pb::PutRequest {
            key: format!("l/{}", self.chance.below(KEYS)).into(),
            value: "1".into(),
            lease,
            ..Default::default()
        };
        let wait = self.propose(host, CommandOp::Put(put))?;
        self.forgotten.push(wait);
        Ok(())
    }

    /// Follows where keys are attached; a key may go only when its lease may end.
    pub(super) fn follow_leases(&mut self, events: &[Event]) -> Result<(), String> {
        for event in events {
            let Some(kv) = event.kv.as_ref().filter(|kv| kv.key.starts_with(PREFIX)) else {
                continue;
            };
            if event.r#type != 1 {
                self.attachments.insert(kv.key.to_vec(), kv.lease);
                continue;
            }
            let id = self.attachments.remove(&kv.key[..]).unwrap_or(0);
            let lease = self.leases.iter().find(|lease| lease.id == id);
            let Some(lease) = lease else {
                return Err(format!("{:?} was deleted by no lease", kv.key));
            };
            // The leader's clock may be fast.
            let ttl_ms = TTL_S.unsigned_abs() * 1000 * 1000 / (1000 + CLOCK_DRIFT_PER_MILLE);
            if self.now < lease.alive_at + ttl_ms && !lease.revoked {
                return Err(format!(
                    "lease {id} ended before its time: alive at {}, gone at {}",
                    lease.alive_at, self.now
                ));
            }
        }
        Ok(())
    }

    /// Keys whose leases have ended must be gone.
    pub(super) fn check_leases(&self) -> Result<(), String> {
        match self.attachments.iter().find(|(_, lease)| **lease != 0) {
            Some((key, lease)) => Err(format!("{key:?} outlived its lease {lease}")),
            None => Ok(()),
        }
    }
}
