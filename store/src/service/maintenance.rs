//! Maintenance.

use std::io::Read;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use keelson_proto::etcd::etcdserverpb as pb;
use keelson_proto::etcd::etcdserverpb::alarm_request::AlarmAction;
use keelson_proto::etcd::etcdserverpb::maintenance_server::Maintenance;
use keelson_store_mvcc::ApiError;
use keelson_store_mvcc::command::{Op, Response as Applied};
use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status};

use super::{caller, status};
use crate::api::Api;
use crate::member::Input;

/// The etcd whose API this is; an API server decides by it what it may use.
pub const ETCD_VERSION: &str = "3.6.5";
/// The version of cluster and storage.
pub const CLUSTER_VERSION: &str = "3.6.0";
/// Bytes of one piece of a snapshot stream.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces read ahead of the client.
const PIECES_AHEAD: usize = 8;

/// The service.
#[derive(Clone)]
pub struct MaintenanceService {
    pub api: Arc<Api>,
    /// Where a snapshot is made before it is sent.
    pub scratch: std::path::PathBuf,
}

impl MaintenanceService {
    fn admin<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let caller = caller(&self.api, request)?;
        self.api
            .shared
            .state
            .read()
            .auth()
            .check_admin(&caller)
            .map_err(status)
    }
}

#[tonic::async_trait]
impl Maintenance for MaintenanceService {
    async fn alarm(&self, request: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        let caller = caller(&self.api, &request)?;
        let request = request.into_inner();
        if request.action() == AlarmAction::Get {
            self.api.linearize().await.map_err(status)?;
            let (alarms, revision) = {
                let state = self.api.shared.state.read();
                (state.alarms().list(request.alarm), state.revision())
            };
            return Ok(Response::new(pb::AlarmResponse {
                header: self.api.header(revision),
                alarms,
            }));
        }
        match self
            .api
            .propose(&caller, Op::Alarm(request))
            .await
            .map_err(status)?
        {
            Applied::Alarm(mut response) => {
                response.header = self.api.header_now();
                Ok(Response::new(response))
            }
            other => unreachable!("an alarm gave {other:?}"),
        }
    }

    async fn status(&self, _: Request<pb::StatusRequest>) -> Result<Response<pb::StatusResponse>, Status> {
        let shared = &self.api.shared;
        let raft = shared.status();
        let state = shared.state.read();
        let mut errors: Vec<String> = Vec::new();
        if raft.leader == 0 {
            errors.push(ApiError::NoLeader.text().to_owned());
        }
        for alarm in state.alarms().list(0) {
            let name = alarm.alarm().as_str_name();
            errors.push(format!("memberID:{} alarm:{name} ", alarm.member_id));
        }
        let as_i64 = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let in_use = state.bytes_in_use();
        Ok(Response::new(pb::StatusResponse {
            header: self.api.header(state.revision()),
            version: ETCD_VERSION.to_owned(),
            db_size: as_i64(state.engine().size_on_disk().max(in_use)),
            leader: raft.leader,
            raft_index: raft.last_index,
            raft_term: raft.term,
            raft_applied_index: state.applied().0,
            errors,
            db_size_in_use: as_i64(in_use),
            is_learner: shared.is_learner(),
            storage_version: CLUSTER_VERSION.to_owned(),
            db_size_quota: as_i64(self.api.options.quota_bytes),
            downgrade_info: Some(pb::DowngradeInfo::default()),
        }))
    }

    async fn defragment(
        &self,
        request: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        self.admin(&request)?;
        // Space is reused online; this only hurries it.
        crate::member::Keeper::wake(&self.api.keeper);
        Ok(Response::new(pb::DefragmentResponse { header: None }))
    }

    async fn hash(&self, request: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        self.admin(&request)?;
        let api = self.api.clone();
        let hash = blocking(move || {
            api.shared
                .state
                .read()
                .hash_all()
                .map_err(|failure| api.failed(failure))
        })
        .await?;
        Ok(Response::new(pb::HashResponse {
            header: self.api.header_now(),
            hash: hash.map_err(status)?,
        }))
    }

    async fn hash_kv(
        &self,
        request: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        self.admin(&request)?;
        let revision = request.get_ref().revision;
        let api = self.api.clone();
        let hash = blocking(move || {
            let hash = api.shared.state.read().hash_kv(revision);
            hash.map_err(|failure| api.failed(failure))
        });
        let hash = hash.await?.map_err(status)?;
        Ok(Response::new(pb::HashKvResponse {
            header: self.api.header(hash.revision),
            hash: hash.hash,
            compact_revision: hash.compact_revision,
            hash_revision: hash.hash_revision,
        }))
    }

    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<pb::SnapshotResponse, Status>> + Send>>;

    async fn snapshot(
        &self,
        request: Request<pb::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        self.admin(&request)?;
        let export = self.api.keeper.export().await.map_err(Status::unavailable)?;
        let path = self.scratch.join(format!("client-{:016x}.db.tmp", self.api.id()));
        let file = blocking(move || {
            let written = export.job.write_to(&path).map_err(|error| error.to_string());
            drop(export);
            let opened = written.and_then(|_| std::fs::File::open(&path).map_err(|error| error.to_string()));
            // The open file keeps its content; the name is not needed any more.
            let _ = std::fs::remove_file(&path);
            opened
        });
        let file = file.await?.map_err(Status::internal)?;
        let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
        let header = self.api.header_now();
        tokio::task::spawn_blocking(move || send_pieces(file, header, &sender));
        Ok(Response::new(Box::pin(
            tokio_stream::wrappers::ReceiverStream::new(receiver),
        )))
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        self.admin(&request)?;
        let target = request.get_ref().target_id;
        if target == 0 {
            return Err(status(ApiError::BadLeaderTransferee));
        }
        let (answer, answered) = oneshot::channel();
        self.api.send(Input::Transfer(target, answer)).map_err(status)?;
        answered
            .await
            .map_err(|_| status(ApiError::Stopped))?
            .map_err(status)?;
        Ok(Response::new(pb::MoveLeaderResponse {
            header: self.api.header_now(),
        }))
    }

    async fn downgrade(
        &self,
        request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        use pb::downgrade_request::DowngradeAction;
        let request = request.into_inner();
        if request.action() == DowngradeAction::Cancel {
            return Err(status(ApiError::NoInflightDowngrade));
        }
        let well_formed = request.version.split('.').all(|part| part.parse::<u32>().is_ok());
        // There is no older storage version to go back to.
        Err(status(if well_formed {
            ApiError::InvalidDowngradeTargetVersion
        } else {
            ApiError::WrongDowngradeVersionFormat
        }))
    }
}

fn send_pieces(
    mut file: std::fs::File,
    header: Option<pb::ResponseHeader>,
    sender: &mpsc::Sender<Result<pb::SnapshotResponse, Status>>,
) {
    let mut left = file.metadata().map_or(0, |metadata| metadata.len());
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let mut piece = vec![0; length];
        let read = file.read_exact(&mut piece);
        left -= length as u64;
        let response = read
            .map_err(|error| Status::internal(error.to_string()))
            .map(|()| pb::SnapshotResponse {
                header,
                remaining_bytes: left,
                blob: Bytes::from(piece),
                version: CLUSTER_VERSION.to_owned(),
            });
        let failed = response.is_err();
        if sender.blocking_send(response).is_err() || failed {
            return;
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Status::internal(error.to_string()))
}
