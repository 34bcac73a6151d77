//! Cluster: members come, are promoted, and go.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use keelson_proto::etcd::etcdserverpb as pb;
use keelson_proto::etcd::etcdserverpb::cluster_server::Cluster;
use keelson_store_mvcc::ApiError;
use keelson_store_mvcc::command::{MemberChange, MemberChangeKind, Op, Response as Applied};
use tonic::{Request, Response, Status};

use super::{caller, check_learner, status};
use crate::api::{Api, Result as ApiResult};
use crate::member::genesis::member_id;

/// Part of the leader's log a learner must have to be promoted, in percent.
const LEARNER_READY_PERCENT: u64 = 90;

/// How often within an election timeout the leader is asked whom it hears.
const HEARD_TRIES: u32 = 5;

/// The service: a header's revision is 0, as etcd's, since the key space has no part in this.
#[derive(Clone)]
pub struct ClusterService(pub Arc<Api>);

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn member_add(
        &self,
        request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        check_learner(&self.0)?;
        let caller = caller(&self.0, &request)?;
        let request = request.into_inner();
        if !request.peer_ur_ls.iter().all(|url| is_url(url)) || request.peer_ur_ls.is_empty() {
            return Err(status(ApiError::MemberBadURLs));
        }
        if !request.is_learner {
            self.check_started(1).map_err(status)?;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let id = member_id(&request.peer_ur_ls, "", &now.as_nanos().to_be_bytes());
        let member = pb::Member {
            id,
            peer_ur_ls: request.peer_ur_ls,
            is_learner: request.is_learner,
            ..Default::default()
        };
        let members = self
            .change(&caller, MemberChangeKind::Add, member.clone())
            .await?;
        Ok(Response::new(pb::MemberAddResponse {
            header: self.0.header(0),
            member: Some(member),
            members,
        }))
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        check_learner(&self.0)?;
        let caller = caller(&self.0, &request)?;
        let id = request.get_ref().id;
        let known = self.0.shared.state.read().members().get(id).cloned();
        let member = known.ok_or_else(|| status(ApiError::MemberNotFound))?;
        if !member.is_learner {
            self.check_removable(&member).await.map_err(status)?;
        }
        let members = self.change(&caller, MemberChangeKind::Remove, member).await?;
        Ok(Response::new(pb::MemberRemoveResponse {
            header: self.0.header(0),
            members,
        }))
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        check_learner(&self.0)?;
        let caller = caller(&self.0, &request)?;
        let request = request.into_inner();
        if !request.peer_ur_ls.iter().all(|url| is_url(url)) || request.peer_ur_ls.is_empty() {
            return Err(status(ApiError::MemberBadURLs));
        }
        self.0
            .shared
            .state
            .read()
            .auth()
            .check_admin(&caller)
            .map_err(status)?;
        match self
            .0
            .propose(&caller, Op::MemberUpdate(request))
            .await
            .map_err(status)?
        {
            Applied::Members(_, members) => {
                self.0.shared.members.send_replace(members.clone());
                Ok(Response::new(pb::MemberUpdateResponse {
                    header: self.0.header(0),
                    members,
                }))
            }
            other => unreachable!("an update of a member gave {other:?}"),
        }
    }

    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        if request.get_ref().linearizable {
            self.0.linearize().await.map_err(status)?;
        }
        let members = self.0.shared.state.read().members().list();
        Ok(Response::new(pb::MemberListResponse {
            header: self.0.header(0),
            members,
        }))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        check_learner(&self.0)?;
        let caller = caller(&self.0, &request)?;
        let id = request.get_ref().id;
        let known = self.0.shared.state.read().members().get(id).cloned();
        let member = known.ok_or_else(|| status(ApiError::MemberNotFound))?;
        if !member.is_learner {
            return Err(status(ApiError::MemberNotLearner));
        }
        self.check_caught_up(id).await.map_err(status)?;
        let members = self.change(&caller, MemberChangeKind::Promote, member).await?;
        self.0.shared.metrics.learner_promotions.inc();
        Ok(Response::new(pb::MemberPromoteResponse {
            header: self.0.header(0),
            members,
        }))
    }
}

impl ClusterService {
    async fn change(
        &self,
        caller: &keelson_store_mvcc::auth::Caller,
        kind: MemberChangeKind,
        member: pb::Member,
    ) -> Result<Vec<pb::Member>, Status> {
        let change = MemberChange {
            kind: kind as i32,
            member: Some(member),
            ..Default::default()
        };
        self.0.change_member(caller, change).await.map_err(status)
    }

    /// A voter may be added while those that have started are a majority of what there will be.
    fn check_started(&self, added: usize) -> ApiResult<()> {
        let members = self.0.shared.state.read().members().list();
        let voters = members.iter().filter(|member| !member.is_learner);
        let count = voters.clone().count() + added;
        let started = voters.filter(|member| !member.name.is_empty()).count();
        // One that grows to two cannot have two started.
        if (started == 1 && count == 2) || started > count / 2 {
            Ok(())
        } else {
            Err(ApiError::MemberNotEnoughStarted)
        }
    }

    /// A voter may go while the others that are heard of are a majority of what will be left.
    async fn check_removable(&self, member: &pb::Member) -> ApiResult<()> {
        let members = self.0.shared.state.read().members().list();
        let left: Vec<u64> = members
            .iter()
            .filter(|other| !other.is_learner && other.id != member.id)
            .map(|other| other.id)
            .collect();
        for _ in 0..HEARD_TRIES {
            let progress = self.0.progress().await?;
            let active = left
                .iter()
                .filter(|id| progress.iter().any(|(known, _, active)| known == *id && *active));
            if left.is_empty() || active.count() > left.len() / 2 {
                return Ok(());
            }
            // The leader begins to count anew whom it hears with every election timeout.
            tokio::time::sleep(self.0.options.election_timeout / HEARD_TRIES).await;
        }
        Err(ApiError::MemberNotEnoughStarted)
    }

    async fn check_caught_up(&self, id: u64) -> ApiResult<()> {
        let progress = self.0.progress().await?;
        let leader = progress.iter().map(|(_, index, _)| *index).max().unwrap_or(0);
        let learner = progress
            .iter()
            .find(|(known, _, _)| *known == id)
            .map_or(0, |(_, index, _)| *index);
        if learner * 100 < leader * LEARNER_READY_PERCENT {
            return Err(ApiError::LearnerNotReady);
        }
        Ok(())
    }
}

/// Whether a peer URL is `http(s)://host:port`.
pub fn is_url(url: &str) -> bool {
    let Ok(uri) = url.parse::<http::Uri>() else {
        return false;
    };
    let scheme = matches!(uri.scheme_str(), Some("http" | "https" | "unix" | "unixs"));
    let bare = uri.path_and_query().is_none_or(|path| path.as_str() == "/");
    scheme && bare && uri.host().is_some_and(|host| !host.is_empty()) && uri.port_u16().is_some()
}

#[cfg(test)]
mod tests {
    use super::is_url;

    #[test]
    fn peer_urls_need_scheme_host_and_port() {
        for (url, expect) in [
            ("http://10.0.0.1:2380", true),
            ("https://[::1]:2380", true),
            ("http://10.0.0.1", false),
            ("10.0.0.1:2380", false),
            ("ftp://10.0.0.1:2380", false),
            ("http://10.0.0.1:2380/path", false),
        ] {
            assert_eq!(is_url(url), expect, "{url}");
        }
    }
}
