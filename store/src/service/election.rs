//! Election.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use keelson_proto::etcd::etcdserverpb as pb;
use keelson_proto::etcd::etcdserverpb::range_request::{SortOrder, SortTarget};
use keelson_proto::etcd::mvccpb::KeyValue;
use keelson_proto::etcd::v3electionpb::election_server::Election;
use keelson_proto::etcd::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};
use keelson_store_mvcc::auth::Caller;
use keelson_store_mvcc::watch::Interest;
use tonic::{Request, Response, Status};

use super::lock::{created_at, op, owners, queue, range, session, unknown, wait_for_turn};
use super::{caller, check_leader, check_learner};
use crate::api::Api;

/// The service.
#[derive(Clone)]
pub struct ElectionService(pub Arc<Api>);

#[tonic::async_trait]
impl Election for ElectionService {
    async fn campaign(
        &self,
        request: Request<CampaignRequest>,
    ) -> Result<Response<CampaignResponse>, Status> {
        let caller = self.enter(&request)?;
        let CampaignRequest { name, lease, value } = request.into_inner();
        let lease = session(&self.0, &caller, lease).await.map_err(unknown)?;
        let place = queue(&self.0, &caller, &name, lease, value.clone())
            .await
            .map_err(unknown)?;
        let leader = LeaderKey {
            name: name.clone(),
            key: place.key.clone(),
            rev: place.create_revision,
            lease,
        };
        if place.value != value {
            self.put_if_owner(&caller, &leader, value).await?;
        }
        wait_for_turn(&self.0, &name, place.create_revision).await;
        let held = range(&self.0, &caller, place.key, Bytes::new())
            .await
            .map_err(unknown)?;
        if held.kvs.is_empty() {
            return Err(Status::unknown("election: session expired"));
        }
        Ok(Response::new(CampaignResponse {
            header: held.header,
            leader: Some(leader),
        }))
    }

    async fn proclaim(
        &self,
        request: Request<ProclaimRequest>,
    ) -> Result<Response<ProclaimResponse>, Status> {
        let caller = self.enter(&request)?;
        let ProclaimRequest { leader, value } = request.into_inner();
        let leader = leader.ok_or_else(missing_leader)?;
        let header = self.put_if_owner(&caller, &leader, value).await?;
        Ok(Response::new(ProclaimResponse { header }))
    }

    async fn leader(&self, request: Request<LeaderRequest>) -> Result<Response<LeaderResponse>, Status> {
        let caller = self.enter(&request)?;
        let request = first_owner(&request.into_inner().name);
        let answer = self.0.range(&caller, request).await.map_err(unknown)?;
        match answer.kvs.into_iter().next() {
            Some(kv) => Ok(Response::new(LeaderResponse {
                header: answer.header,
                kv: Some(kv),
            })),
            None => Err(Status::unknown("election: no leader")),
        }
    }

    type ObserveStream = Pin<Box<dyn Stream<Item = Result<LeaderResponse, Status>> + Send>>;

    async fn observe(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        let caller = self.enter(&request)?;
        let name = request.into_inner().name;
        let api = self.0.clone();
        let (key, range_end) = owners(&name);
        {
            let state = api.shared.state.read();
            state
                .auth()
                .check_range(&caller, &key, &range_end)
                .map_err(unknown)?;
        }
        let interest = Interest {
            key,
            range_end,
            no_put: false,
            no_delete: false,
            prev_kv: false,
        };
        let request = first_owner(&name);
        let seen = (0, 0);
        let changes = futures::stream::unfold(
            (api, interest, request, seen),
            |(api, interest, request, seen)| async move {
                let look = |state: &keelson_store_mvcc::Mvcc| {
                    let engine = state.engine().clone();
                    let plan = state.plan_range(request.clone()).ok()?;
                    let answer = plan
                        .finish(engine.as_ref(), &mut |revision| state.relocate(revision))
                        .ok()?;
                    let kv = answer.kvs.into_iter().next()?;
                    (version(&kv) != seen).then(|| (kv, state.revision()))
                };
                let (kv, revision) = api.wait_until(&interest, look).await;
                let seen = version(&kv);
                let response = LeaderResponse {
                    header: api.header(revision),
                    kv: Some(kv),
                };
                Some((Ok(response), (api, interest, request, seen)))
            },
        );
        Ok(Response::new(Box::pin(changes)))
    }

    async fn resign(&self, request: Request<ResignRequest>) -> Result<Response<ResignResponse>, Status> {
        let caller = self.enter(&request)?;
        let leader = request.into_inner().leader.ok_or_else(missing_leader)?;
        let delete = pb::DeleteRangeRequest {
            key: leader.key.clone(),
            ..Default::default()
        };
        let txn = pb::TxnRequest {
            compare: vec![created_at(leader.key, leader.rev)],
            success: vec![op(pb::request_op::Request::RequestDeleteRange(delete))],
            failure: Vec::new(),
        };
        let answer = self.0.txn(&caller, txn).await.map_err(unknown)?;
        Ok(Response::new(ResignResponse {
            header: answer.header,
        }))
    }
}

impl ElectionService {
    fn enter<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        check_leader(&self.0, request.metadata())?;
        check_learner(&self.0)?;
        caller(&self.0, request)
    }

    async fn put_if_owner(
        &self,
        caller: &Caller,
        leader: &LeaderKey,
        value: Bytes,
    ) -> Result<Option<pb::ResponseHeader>, Status> {
        let put = pb::PutRequest {
            key: leader.key.clone(),
            value,
            lease: leader.lease,
            ..Default::default()
        };
        let txn = pb::TxnRequest {
            compare: vec![created_at(leader.key.clone(), leader.rev)],
            success: vec![op(pb::request_op::Request::RequestPut(put))],
            failure: Vec::new(),
        };
        let answer = self.0.txn(caller, txn).await.map_err(unknown)?;
        if !answer.succeeded {
            return Err(Status::unknown("election: not leader"));
        }
        Ok(answer.header)
    }
}

fn first_owner(name: &[u8]) -> pb::RangeRequest {
    let (key, range_end) = owners(name);
    pb::RangeRequest {
        key,
        range_end,
        limit: 1,
        sort_order: SortOrder::Ascend as i32,
        sort_target: SortTarget::Create as i32,
        ..Default::default()
    }
}

fn version(kv: &KeyValue) -> (i64, i64) {
    (kv.create_revision, kv.mod_revision)
}

fn missing_leader() -> Status {
    Status::invalid_argument("\"leader\" field must be provided")
}
