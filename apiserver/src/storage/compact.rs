//! Compaction by upstream's `compact_rev_key`: of all API servers on one store, one compacts each interval.
//!
//! The key's version is the logical clock. Who finds it unchanged since its own last look advances it and compacts to
//! the revision stored then; who does not, takes over what it finds and waits. So history is kept for one to two
//! intervals whatever the number of servers.

use std::time::Duration;

use bytes::Bytes;
use keelson_base::Shutdown;
use keelson_proto::etcd::etcdserverpb as pb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request;
use pb::response_op::Response;

use super::{Etcd, StoreError};

const KEY: Bytes = Bytes::from_static(b"compact_rev_key");

/// Compacts every interval until shutdown.
pub async fn run(store: Etcd, interval: Duration, shutdown: Shutdown) {
    let (mut clock, mut revision) = (0, 0);
    loop {
        tokio::select! {
            () = shutdown.wait() => return,
            () = tokio::time::sleep(interval) => {}
        }
        match step(&store, clock, revision).await {
            Ok(next) => (clock, revision) = next,
            Err(error) => tracing::warn!(%error, "compaction of the store failed; trying again later"),
        }
    }
}

/// The revision last compacted to, as the key tells (0: none), and the store's revision now.
///
/// # Errors
/// What the store answers.
pub async fn last(store: &Etcd) -> Result<(i64, i64), StoreError> {
    let request = pb::RangeRequest {
        key: KEY,
        ..Default::default()
    };
    let answer = store.range(request).await?;
    let told = answer
        .kvs
        .first()
        .and_then(|kv| std::str::from_utf8(&kv.value).ok());
    let compacted = told.and_then(|text| text.parse().ok()).unwrap_or(0);
    Ok((compacted, answer.header.map_or(0, |header| header.revision)))
}

/// One interval: the clock and revision to compact to next time.
async fn step(store: &Etcd, clock: i64, revision: i64) -> Result<(i64, i64), StoreError> {
    let request = pb::TxnRequest {
        compare: vec![pb::Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Version.into(),
            key: KEY,
            range_end: Bytes::new(),
            target_union: Some(TargetUnion::Version(clock)),
        }],
        success: vec![pb::RequestOp {
            request: Some(Request::RequestPut(pb::PutRequest {
                key: KEY,
                value: Bytes::from(revision.to_string()),
                ..Default::default()
            })),
        }],
        failure: vec![pb::RequestOp {
            request: Some(Request::RequestRange(pb::RangeRequest {
                key: KEY,
                ..Default::default()
            })),
        }],
    };
    let answer = store.txn(request).await?;
    let now = answer.header.map_or(0, |header| header.revision);
    if !answer.succeeded {
        let found = match answer.responses.into_iter().next().and_then(|one| one.response) {
            Some(Response::ResponseRange(range)) => range.kvs.into_iter().next(),
            _ => return Err(StoreError::Malformed),
        };
        return Ok((found.map_or(0, |kv| kv.version), now));
    }
    if revision > 0 {
        match store.compact(revision).await {
            Ok(()) | Err(StoreError::Compacted) => {
                tracing::debug!(revision, "compacted the store");
            }
            Err(error) => return Err(error),
        }
    }
    Ok((clock + 1, now))
}
