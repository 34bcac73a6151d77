//! Watch: opens a stream per call; `watch_stream` is the stream.

use std::future::{Ready, ready};
use std::sync::Arc;

use keelson_proto::etcd::etcdserverpb as pb;
use keelson_store_mvcc::ApiError;
use tonic::server::StreamingService;
use tonic::{Request, Response, Status, Streaming};

use super::watch_codec::Outgoing;
use super::watch_stream::WatchStream;
use super::{check_leader, check_learner, identify, status, wants_leader};
use crate::api::Api;

/// Election timeouts without a leader after which streams that want one end.
const LEADERLESS_ELECTIONS: u32 = 3;

/// The service.
#[derive(Clone)]
pub struct WatchService(pub Arc<Api>);

impl StreamingService<pb::WatchRequest> for WatchService {
    type Response = Outgoing;
    type ResponseStream = WatchStream;
    type Future = Ready<Result<Response<WatchStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<pb::WatchRequest>>) -> Self::Future {
        ready(self.watch(request))
    }
}

impl WatchService {
    fn watch(&self, request: Request<Streaming<pb::WatchRequest>>) -> Result<Response<WatchStream>, Status> {
        check_leader(&self.0, request.metadata())?;
        check_learner(&self.0)?;
        let (metadata, extensions, requests) = request.into_parts();
        let caller = identify(&self.0, &metadata, extensions.get())?;
        let stream = WatchStream::new(self.0.clone(), caller, requests);
        if wants_leader(&metadata) {
            let ender = stream.ender();
            let leaders = self.0.shared.leader.subscribe();
            let patience = self.0.options.election_timeout * LEADERLESS_ELECTIONS;
            tokio::spawn(async move {
                tokio::select! {
                    () = leaderless(leaders, patience) => ender.end(status(ApiError::NoLeader)),
                    () = ender.ended() => {}
                }
            });
        }
        Ok(Response::new(stream))
    }
}

/// Returns once there has been no leader for a while.
async fn leaderless(mut leaders: tokio::sync::watch::Receiver<u64>, patience: std::time::Duration) {
    loop {
        if *leaders.borrow_and_update() != 0 {
            if leaders.changed().await.is_err() {
                return;
            }
            continue;
        }
        match tokio::time::timeout(patience, leaders.changed()).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
}
