//! Lock, and the queue of owners that elections use too.
//!
//! Owners of a name are the keys below it; the one created first holds it. Everyone waits for the one before.

use std::sync::Arc;

use bytes::Bytes;
use keelson_proto::etcd::etcdserverpb as pb;
use keelson_proto::etcd::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keelson_proto::etcd::mvccpb::KeyValue;
use keelson_proto::etcd::v3lockpb::lock_server::Lock;
use keelson_proto::etcd::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use keelson_store_mvcc::ApiError;
use keelson_store_mvcc::auth::Caller;
use keelson_store_mvcc::watch::Interest;
use tonic::{Request, Response, Status};

use super::{caller, check_leader, check_learner};
use crate::api::{Api, Result as ApiResult};

/// TTL of the lease a client that brings none gets.
const SESSION_TTL_S: i64 = 60;

/// The service.
#[derive(Clone)]
pub struct LockService(pub Arc<Api>);

#[tonic::async_trait]
impl Lock for LockService {
    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        check_leader(&self.0, request.metadata())?;
        check_learner(&self.0)?;
        let caller = caller(&self.0, &request)?;
        let LockRequest { name, lease } = request.into_inner();
        let lease = session(&self.0, &caller, lease).await.map_err(unknown)?;
        let place = queue(&self.0, &caller, &name, lease, Bytes::new())
            .await
            .map_err(unknown)?;
        wait_for_turn(&self.0, &name, place.create_revision).await;
        // The lease may have expired while waiting.
        let held = range(&self.0, &caller, place.key.clone(), Bytes::new())
            .await
            .map_err(unknown)?;
        if held.kvs.is_empty() {
            return Err(Status::unknown("mutex: session is expired"));
        }
        Ok(Response::new(LockResponse {
            header: held.header,
            key: place.key,
        }))
    }

    async fn unlock(&self, request: Request<UnlockRequest>) -> Result<Response<UnlockResponse>, Status> {
        check_leader(&self.0, request.metadata())?;
        check_learner(&self.0)?;
        let caller = caller(&self.0, &request)?;
        let delete = pb::DeleteRangeRequest {
            key: request.into_inner().key,
            ..Default::default()
        };
        let answer = self.0.delete_range(&caller, delete).await.map_err(unknown)?;
        Ok(Response::new(UnlockResponse {
            header: answer.header,
        }))
    }
}

/// etcd's locks and elections are clients of its own store, and pass on an error's text without its code.
pub(super) fn unknown(error: ApiError) -> Status {
    Status::unknown(error.text())
}

/// The client's lease, or a new one.
pub(super) async fn session(api: &Api, caller: &Caller, lease: i64) -> ApiResult<i64> {
    if lease != 0 {
        return Ok(lease);
    }
    let request = pb::LeaseGrantRequest {
        ttl: SESSION_TTL_S,
        id: 0,
    };
    Ok(api.lease_grant(caller, request).await?.id)
}

/// Puts an owner's key if it is not there; gives the key as it is.
pub(super) async fn queue(
    api: &Api,
    caller: &Caller,
    name: &[u8],
    lease: i64,
    value: Bytes,
) -> ApiResult<KeyValue> {
    let mut key = name.to_vec();
    key.extend_from_slice(format!("/{lease:x}").as_bytes());
    let key = Bytes::from(key);
    let put = pb::PutRequest {
        key: key.clone(),
        value: value.clone(),
        lease,
        ..Default::default()
    };
    let get = pb::RangeRequest {
        key: key.clone(),
        ..Default::default()
    };
    let txn = pb::TxnRequest {
        compare: vec![created_at(key.clone(), 0)],
        success: vec![op(pb::request_op::Request::RequestPut(put))],
        failure: vec![op(pb::request_op::Request::RequestRange(get))],
    };
    let answer = api.txn(caller, txn).await?;
    let revision = answer.header.as_ref().map_or(0, |header| header.revision);
    let existing = answer
        .responses
        .into_iter()
        .find_map(|response| match response.response {
            Some(pb::response_op::Response::ResponseRange(range)) => range.kvs.into_iter().next(),
            _ => None,
        });
    Ok(existing.unwrap_or(KeyValue {
        key,
        create_revision: revision,
        mod_revision: revision,
        version: 1,
        value,
        lease,
    }))
}

/// Returns when no owner created before `revision` is left.
pub(super) async fn wait_for_turn(api: &Api, name: &[u8], revision: i64) {
    let (from, to) = owners(name);
    let interest = Interest {
        key: from.clone(),
        range_end: to.clone(),
        no_put: true,
        no_delete: false,
        prev_kv: false,
    };
    let request = pb::RangeRequest {
        key: from,
        range_end: to,
        max_create_revision: revision - 1,
        limit: 1,
        keys_only: true,
        ..Default::default()
    };
    let look = |state: &keelson_store_mvcc::Mvcc| {
        let engine = state.engine().clone();
        let plan = state.plan_range(request.clone()).ok()?;
        let before = plan
            .finish(engine.as_ref(), &mut |revision| state.relocate(revision))
            .ok()?;
        before.kvs.is_empty().then_some(())
    };
    api.wait_until(&interest, look).await;
}

/// The range of a name's owners.
pub(super) fn owners(name: &[u8]) -> (Bytes, Bytes) {
    let mut from = name.to_vec();
    from.push(b'/');
    let mut to = name.to_vec();
    to.push(b'/' + 1);
    (from.into(), to.into())
}

pub(super) async fn range(
    api: &Api,
    caller: &Caller,
    key: Bytes,
    range_end: Bytes,
) -> ApiResult<pb::RangeResponse> {
    let request = pb::RangeRequest {
        key,
        range_end,
        ..Default::default()
    };
    api.range(caller, request).await
}

/// Compares a key's creation.
pub(super) fn created_at(key: Bytes, revision: i64) -> pb::Compare {
    pb::Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Create as i32,
        key,
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
    }
}

pub(super) fn op(request: pb::request_op::Request) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request),
    }
}
