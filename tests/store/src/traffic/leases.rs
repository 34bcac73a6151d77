//! Clients of leases: grant, attach a key, keep alive for a while, then revoke or let it end.

use std::time::{Duration, Instant};

use keelson_proto::etcd::etcdserverpb as pb;
use keelson_proto::etcd::etcdserverpb::kv_client::KvClient;
use keelson_proto::etcd::etcdserverpb::lease_client::LeaseClient;
use keelson_store_sim::chance::Chance;
use tonic::Status;
use tonic::transport::Channel;

use super::{Link, PATIENCE, Shared};
use crate::record::LeaseRecord;

/// Time to live that is asked for, in seconds.
const TTL_S: i64 = 2;
/// Most renewals of one lease.
const RENEWALS_MAX: u64 = 4;
/// Pause before each.
const RENEW_EVERY: Duration = Duration::from_millis(500);

/// The key of a lease.
fn key(id: i64) -> String {
    format!("l/{id:x}")
}

/// The lease of a key.
pub(super) fn id(key: &[u8]) -> Option<i64> {
    let hex = key.strip_prefix(b"l/")?;
    i64::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
}

pub(super) async fn run(shared: Shared, mut chance: Chance) {
    let recorder = shared.recorder.clone();
    let mut link = Link::new(shared, chance.fork());
    while let Some(channel) = link.channel().await {
        let Some(mut lease) = begin(channel).await else {
            link.leave();
            continue;
        };
        for _ in 0..chance.below(RENEWALS_MAX + 1) {
            tokio::time::sleep(RENEW_EVERY).await;
            let Some(channel) = link.channel().await else {
                break;
            };
            let asked = Instant::now();
            match within(renew(channel, lease.id)).await {
                Some(ttl) if ttl > 0 => lease.alive_at = asked,
                Some(_) => break,
                None => link.leave(),
            }
        }
        if chance.per_mille(250) {
            lease.revoked = true;
            if let Some(channel) = link.channel().await {
                let request = pb::LeaseRevokeRequest { id: lease.id };
                // It ends by itself if this is lost.
                let _ = within(LeaseClient::new(channel).lease_revoke(request)).await;
            }
        }
        recorder.lease(lease);
    }
}

async fn within<T>(request: impl Future<Output = Result<T, Status>>) -> Option<T> {
    tokio::time::timeout(PATIENCE, request).await.ok()?.ok()
}

/// A lease with its key; `None` if it is not known to have one.
async fn begin(channel: Channel) -> Option<LeaseRecord> {
    let asked = Instant::now();
    let request = pb::LeaseGrantRequest { ttl: TTL_S, id: 0 };
    let mut leases = LeaseClient::new(channel.clone());
    let granted = within(leases.lease_grant(request)).await?.into_inner();
    let put = pb::PutRequest {
        key: key(granted.id).into(),
        value: "held".into(),
        lease: granted.id,
        ..Default::default()
    };
    within(KvClient::new(channel).put(put)).await?;
    Some(LeaseRecord {
        id: granted.id,
        ttl: Duration::from_secs(u64::try_from(granted.ttl).ok()?),
        alive_at: asked,
        gone_at: None,
        revoked: false,
    })
}

async fn renew(channel: Channel, id: i64) -> Result<i64, Status> {
    let requests = tokio_stream::iter([pb::LeaseKeepAliveRequest { id }]);
    let mut answers = LeaseClient::new(channel)
        .lease_keep_alive(requests)
        .await?
        .into_inner();
    let answer = answers.message().await?;
    Ok(answer.map_or(0, |answer| answer.ttl))
}
