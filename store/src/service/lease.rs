//! Lease.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use keelson_proto::etcd::etcdserverpb as pb;
use keelson_proto::etcd::etcdserverpb::lease_server::Lease;
use tonic::{Request, Response, Status, Streaming};

use super::{caller, check_leader, check_learner, status};
use crate::api::Api;

/// The service.
#[derive(Clone)]
pub struct LeaseService(pub Arc<Api>);

#[tonic::async_trait]
impl Lease for LeaseService {
    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        check_leader(&self.0, request.metadata())?;
        check_learner(&self.0)?;
        let caller = caller(&self.0, &request)?;
        let answer = self.0.lease_grant(&caller, request.into_inner()).await;
        answer.map(Response::new).map_err(status)
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        check_leader(&self.0, request.metadata())?;
        check_learner(&self.0)?;
        let caller = caller(&self.0, &request)?;
        let answer = self.0.lease_revoke(&caller, request.into_inner()).await;
        answer.map(Response::new).map_err(status)
    }

    type LeaseKeepAliveStream =
        Pin<Box<dyn Stream<Item = Result<pb::LeaseKeepAliveResponse, Status>> + Send>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        check_leader(&self.0, request.metadata())?;
        check_learner(&self.0)?;
        let api = self.0.clone();
        // One request at a time: the answers' order is the requests'.
        let answers = request.into_inner().then(move |request| {
            let api = api.clone();
            async move {
                let id = request?.id;
                // The header's revision is from before the renewal, so that keys cannot vanish unseen after it.
                let header = api.header_now();
                let ttl = api.lease_renew(id).await.map_err(status)?;
                Ok(pb::LeaseKeepAliveResponse { header, id, ttl })
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        check_learner(&self.0)?;
        let caller = caller(&self.0, &request)?;
        let answer = self.0.lease_time_to_live(&caller, request.get_ref()).await;
        answer.map(Response::new).map_err(status)
    }

    async fn lease_leases(
        &self,
        _: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        self.0.linearize().await.map_err(status)?;
        let (leases, revision) = {
            let state = self.0.shared.state.read();
            let leases = state
                .leases()
                .iter()
                .map(|(id, _)| pb::LeaseStatus { id })
                .collect();
            (leases, state.revision())
        };
        Ok(Response::new(pb::LeaseLeasesResponse {
            header: self.0.header(revision),
            leases,
        }))
    }
}
