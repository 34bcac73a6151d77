//! KV.

use std::sync::Arc;

use keelson_proto::etcd::etcdserverpb as pb;
use keelson_proto::etcd::etcdserverpb::kv_server::Kv;
use tonic::{Request, Response, Status};

use super::{caller, check_leader, check_learner, status};
use crate::api::Api;

/// The service.
#[derive(Clone)]
pub struct KvService(pub Arc<Api>);

#[tonic::async_trait]
impl Kv for KvService {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        check_leader(&self.0, request.metadata())?;
        if !request.get_ref().serializable {
            check_learner(&self.0)?;
        }
        let caller = caller(&self.0, &request)?;
        let answer = self.0.range(&caller, request.into_inner()).await;
        answer.map(Response::new).map_err(status)
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        check_leader(&self.0, request.metadata())?;
        check_learner(&self.0)?;
        let caller = caller(&self.0, &request)?;
        let answer = self.0.put(&caller, request.into_inner()).await;
        answer.map(Response::new).map_err(status)
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        check_leader(&self.0, request.metadata())?;
        check_learner(&self.0)?;
        let caller = caller(&self.0, &request)?;
        let answer = self.0.delete_range(&caller, request.into_inner()).await;
        answer.map(Response::new).map_err(status)
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        check_leader(&self.0, request.metadata())?;
        check_learner(&self.0)?;
        let caller = caller(&self.0, &request)?;
        let answer = self.0.txn(&caller, request.into_inner()).await;
        answer.map(Response::new).map_err(status)
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        check_leader(&self.0, request.metadata())?;
        check_learner(&self.0)?;
        let caller = caller(&self.0, &request)?;
        let answer = self.0.compact(&caller, request.into_inner()).await;
        answer.map(Response::new).map_err(status)
    }
}
