//! The store's operations, as the gRPC services, the JSON gateway, locks and elections use them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use keelson_proto::etcd::authpb::permission::Type as Need;
use keelson_proto::etcd::etcdserverpb as pb;
use keelson_store_mvcc::auth::Caller;
use keelson_store_mvcc::command::{Command, MemberChange, Op, Response};
use keelson_store_mvcc::error::Failure;
use keelson_store_mvcc::range::Found;
use keelson_store_mvcc::{ApiError, validate};
use prost::Message;
use tokio::sync::oneshot;

use crate::keeper;
use crate::limits::{REQUEST_BYTES_MAX, REQUESTS_WAITING_MAX, TXN_OPS_MAX};
use crate::member::{Input, Shared};
use crate::tokens::Tokens;

/// A gRPC status, as a plain value: code and text.
pub type Result<T> = std::result::Result<T, ApiError>;

/// What a deployment may set.
#[derive(Debug, Clone)]
pub struct Options {
    pub request_bytes_max: usize,
    pub txn_ops_max: usize,
    /// Bytes of live data at which writes are refused; 0 for none.
    pub quota_bytes: u64,
    pub election_timeout: Duration,
    pub progress_interval: Duration,
    pub client_cert_auth: bool,
    /// How long an authentication token lives without use.
    pub token_ttl: Duration,
    /// Least TTL of a lease, in seconds.
    pub lease_ttl_s_min: i64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            request_bytes_max: REQUEST_BYTES_MAX,
            txn_ops_max: TXN_OPS_MAX,
            quota_bytes: 2 << 30,
            election_timeout: Duration::from_secs(1),
            progress_interval: Duration::from_secs(600),
            client_cert_auth: false,
            token_ttl: Duration::from_secs(300),
            lease_ttl_s_min: 2,
        }
    }
}

/// Requests that only the leader can answer, sent to it.
#[tonic::async_trait]
pub trait Leader: Send + Sync {
    /// Renews a lease at the leader.
    async fn lease_renew(&self, leader: u64, id: i64) -> Result<Option<i64>>;
    /// Remaining seconds of a lease at the leader.
    async fn lease_remaining(&self, leader: u64, id: i64) -> Result<Option<i64>>;
    /// How far members are, as the leader knows.
    async fn progress(&self, leader: u64) -> Result<Vec<(u64, u64, bool)>>;
}

/// The operations; shared by all services.
pub struct Api {
    pub shared: Arc<Shared>,
    pub options: Options,
    pub keeper: keeper::Handle,
    pub tokens: Tokens,
    inputs: mpsc::Sender<Input>,
    leader: Box<dyn Leader>,
    next_id: AtomicU64,
}

impl Api {
    /// Operations on a member; `seed` makes request ids unlike those of an earlier run.
    pub fn new(
        shared: Arc<Shared>,
        options: Options,
        keeper: keeper::Handle,
        inputs: mpsc::Sender<Input>,
        leader: Box<dyn Leader>,
        seed: u64,
    ) -> Self {
        let first = (shared.member_id << 48) | (seed & 0xffff_ffff_ff00);
        shared
            .metrics
            .quota
            .set(i64::try_from(options.quota_bytes).unwrap_or(i64::MAX));
        Self {
            shared,
            tokens: Tokens::new(options.token_ttl),
            options,
            keeper,
            inputs,
            leader,
            next_id: AtomicU64::new(first),
        }
    }

    /// A fresh request id.
    pub fn id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// A complete header.
    pub fn header(&self, revision: i64) -> Option<pb::ResponseHeader> {
        Some(pb::ResponseHeader {
            cluster_id: self.shared.cluster_id,
            member_id: self.shared.member_id,
            revision,
            raft_term: self.shared.term(),
        })
    }

    /// A header at the current revision.
    pub fn header_now(&self) -> Option<pb::ResponseHeader> {
        let revision = self.shared.state.read().revision();
        self.header(revision)
    }

    fn complete(&self, header: &mut Option<pb::ResponseHeader>) {
        *header = self.header(header.as_ref().map_or(0, |header| header.revision));
    }

    /// Sends an input to the member's thread.
    pub fn send(&self, input: Input) -> Result<()> {
        self.inputs.send(input).map_err(|_| ApiError::Stopped)
    }

    /// Waits until the local state holds everything that was committed when the request came.
    pub async fn linearize(&self) -> Result<()> {
        if self.shared.reads_are_linearizable() {
            return Ok(());
        }
        let (answer, answered) = oneshot::channel();
        self.send(Input::Read(answer))?;
        let outcome = answered.await.map_err(|_| ApiError::Stopped)?;
        if outcome.is_err() {
            self.shared.metrics.read_indexes_failed.inc();
        }
        outcome
    }

    /// Replicates a command and gives its answer.
    pub async fn propose(&self, caller: &Caller, op: Op) -> Result<Response> {
        let command = Command {
            id: self.id(),
            user: caller.user.clone(),
            auth_revision: caller.revision,
            op: Some(op),
        };
        if command.encoded_len() > self.options.request_bytes_max {
            return Err(self.refused(ApiError::RequestTooLarge));
        }
        if self.shared.waiting() >= REQUESTS_WAITING_MAX {
            return Err(self.refused(ApiError::RequestTooManyRequests));
        }
        let (answer, answered) = oneshot::channel();
        self.send(Input::Propose(command, answer))?;
        let outcome = answered.await.map_err(|_| ApiError::Stopped)?;
        if outcome.is_err() {
            self.shared.metrics.proposals_failed.inc();
        }
        outcome
    }

    async fn propose_header(&self, caller: &Caller, op: Op) -> Result<Option<pb::ResponseHeader>> {
        match self.propose(caller, op).await? {
            Response::Done(revision) => Ok(self.header(revision)),
            other => unreachable!("a command answered by a header gave {other:?}"),
        }
    }

    /// An administrative command that answers with a header.
    pub async fn admin(&self, caller: &Caller, op: Op) -> Result<Option<pb::ResponseHeader>> {
        self.shared.state.read().auth().check_admin(caller)?;
        self.propose_header(caller, op).await
    }

    /// A command that answers with a header and needs no administrator.
    pub async fn command(&self, caller: &Caller, op: Op) -> Result<Option<pb::ResponseHeader>> {
        self.propose_header(caller, op).await
    }

    /// Refuses what would grow the store beyond its quota or fill its disk, and raises the alarm.
    async fn check_space(&self) -> Result<()> {
        if self.shared.disk_full() {
            return Err(self.refused(ApiError::NoSpace));
        }
        let quota = self.options.quota_bytes;
        if quota == 0 || self.shared.bytes_in_use() < quota {
            return Ok(());
        }
        let raised = self
            .shared
            .state
            .read()
            .alarms()
            .has(pb::AlarmType::Nospace, self.shared.member_id);
        if !raised {
            let alarm = pb::AlarmRequest {
                action: pb::alarm_request::AlarmAction::Activate as i32,
                member_id: self.shared.member_id,
                alarm: pb::AlarmType::Nospace as i32,
            };
            self.propose(&Caller::default(), Op::Alarm(alarm)).await?;
        }
        Err(self.refused(ApiError::NoSpace))
    }

    /// KV.Range.
    pub async fn range(&self, caller: &Caller, request: pb::RangeRequest) -> Result<pb::RangeResponse> {
        let found = self.find(caller, request).await?;
        let mut response = found.into_response().map_err(|failure| self.failed(failure))?;
        self.complete(&mut response.header);
        Ok(response)
    }

    /// KV.Range, with pairs as they are stored.
    pub async fn find(&self, caller: &Caller, request: pb::RangeRequest) -> Result<Found> {
        validate::range(&request)?;
        self.shared.metrics.ranges.inc();
        if !request.serializable {
            self.linearize().await?;
        }
        let (plan, engine) = {
            let state = self.shared.state.read();
            state
                .auth()
                .check_range(caller, &request.key, &request.range_end)?;
            if state.alarms().any(pb::AlarmType::Corrupt) {
                return Err(ApiError::Corrupt);
            }
            (
                state
                    .plan_range(request)
                    .map_err(|failure| self.failed(failure))?,
                state.engine().clone(),
            )
        };
        let found = plan.read(engine.as_ref(), &mut |revision| {
            self.shared.state.read().relocate(revision)
        });
        found.map_err(|failure| self.failed(failure))
    }

    /// KV.Put.
    pub async fn put(&self, caller: &Caller, request: pb::PutRequest) -> Result<pb::PutResponse> {
        validate::put(&request)?;
        self.shared.metrics.puts.inc();
        self.check_space().await?;
        match self.propose(caller, Op::Put(request)).await? {
            Response::Put(mut response) => {
                self.complete(&mut response.header);
                Ok(response)
            }
            other => unreachable!("a put gave {other:?}"),
        }
    }

    /// KV.DeleteRange.
    pub async fn delete_range(
        &self,
        caller: &Caller,
        request: pb::DeleteRangeRequest,
    ) -> Result<pb::DeleteRangeResponse> {
        validate::delete_range(&request)?;
        self.shared.metrics.deletes.inc();
        match self.propose(caller, Op::DeleteRange(request)).await? {
            Response::DeleteRange(mut response) => {
                self.complete(&mut response.header);
                Ok(response)
            }
            other => unreachable!("a deletion gave {other:?}"),
        }
    }

    /// KV.Txn.
    pub async fn txn(&self, caller: &Caller, request: pb::TxnRequest) -> Result<pb::TxnResponse> {
        validate::txn(&request, self.options.txn_ops_max).map_err(|error| self.refused(error))?;
        self.shared.metrics.txns.inc();
        let mut response = if changes(&request) {
            if grows(&request) {
                self.check_space().await?;
            }
            match self.propose(caller, Op::Txn(request)).await? {
                Response::Txn(response) => response,
                other => unreachable!("a transaction gave {other:?}"),
            }
        } else {
            if !serializable(&request) {
                self.linearize().await?;
            }
            let state = self.shared.state.read();
            state.auth().check_txn(caller, &request)?;
            state.read_txn(&request).map_err(|failure| self.failed(failure))?
        };
        self.complete_txn(&mut response);
        Ok(response)
    }

    fn complete_txn(&self, response: &mut pb::TxnResponse) {
        // etcd leaves the headers of inner answers with the revision alone.
        self.complete(&mut response.header);
    }

    /// KV.Compact.
    pub async fn compact(
        &self,
        caller: &Caller,
        request: pb::CompactionRequest,
    ) -> Result<pb::CompactionResponse> {
        let finished = self.shared.compacted.notified();
        tokio::pin!(finished);
        finished.as_mut().enable();
        match self.propose(caller, Op::Compact(request)).await? {
            Response::Compact(mut response) => {
                if request.physical && self.shared.state.read().is_compacting() {
                    finished.await;
                }
                self.complete(&mut response.header);
                Ok(response)
            }
            other => unreachable!("a compaction gave {other:?}"),
        }
    }

    /// Lease.LeaseGrant.
    pub async fn lease_grant(
        &self,
        caller: &Caller,
        mut request: pb::LeaseGrantRequest,
    ) -> Result<pb::LeaseGrantResponse> {
        self.check_space().await?;
        if request.id == 0 {
            // Positive, and unlike any other member's.
            request.id = i64::from_ne_bytes((self.id() & 0x7fff_ffff_ffff_ffff).to_ne_bytes());
        }
        request.ttl = request.ttl.max(self.options.lease_ttl_s_min);
        match self.propose(caller, Op::LeaseGrant(request)).await? {
            Response::LeaseGrant(mut response) => {
                self.shared.metrics.leases_granted.inc();
                self.complete(&mut response.header);
                Ok(response)
            }
            other => unreachable!("a grant gave {other:?}"),
        }
    }

    /// Lease.LeaseRevoke.
    pub async fn lease_revoke(
        &self,
        caller: &Caller,
        request: pb::LeaseRevokeRequest,
    ) -> Result<pb::LeaseRevokeResponse> {
        {
            let state = self.shared.state.read();
            state
                .auth()
                .check_lease(caller, request.id, state.leases(), Need::Write)?;
        }
        match self.propose(caller, Op::LeaseRevoke(request)).await? {
            Response::LeaseRevoke(mut response) => {
                self.shared.metrics.leases_revoked.inc();
                self.complete(&mut response.header);
                Ok(response)
            }
            other => unreachable!("a revocation gave {other:?}"),
        }
    }

    /// One keep-alive: the TTL, 0 when there is no such lease.
    pub async fn lease_renew(&self, id: i64) -> Result<i64> {
        self.at_leader(
            |answer| Input::LeaseRenew(id, answer),
            |leader| async move { self.leader.lease_renew(leader, id).await },
        )
        .await
        .map(|ttl| {
            self.shared.metrics.leases_renewed.inc();
            ttl.unwrap_or(0)
        })
    }

    /// Lease.LeaseTimeToLive.
    pub async fn lease_time_to_live(
        &self,
        caller: &Caller,
        request: &pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse> {
        let id = request.id;
        let remaining = self
            .at_leader(
                |answer| Input::LeaseRemaining(id, answer),
                |leader| async move { self.leader.lease_remaining(leader, id).await },
            )
            .await?;
        let mut response = pb::LeaseTimeToLiveResponse {
            id,
            ttl: -1,
            ..Default::default()
        };
        let revision = {
            let state = self.shared.state.read();
            if let (Some(lease), Some(left)) = (state.leases().get(id), remaining) {
                response.granted_ttl = lease.ttl_s;
                response.ttl = left;
                if request.keys {
                    state.auth().check_lease(caller, id, state.leases(), Need::Read)?;
                    response.keys = lease
                        .keys()
                        .map(|key| bytes::Bytes::copy_from_slice(key))
                        .collect();
                }
            }
            state.revision()
        };
        response.header = self.header(revision);
        Ok(response)
    }

    /// Asks the leader, here or elsewhere, until it is one or time is over.
    async fn at_leader<T, F>(
        &self,
        here: impl Fn(oneshot::Sender<Result<T>>) -> Input,
        there: impl Fn(u64) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let deadline = tokio::time::Instant::now() + self.options.election_timeout * 3;
        let mut leaders = self.shared.leader.subscribe();
        loop {
            let leader = *leaders.borrow_and_update();
            let outcome = if leader == self.shared.member_id {
                let (answer, answered) = oneshot::channel();
                self.send(here(answer))?;
                answered.await.map_err(|_| ApiError::Stopped)?
            } else if leader == 0 {
                Err(ApiError::NoLeader)
            } else {
                there(leader).await
            };
            match outcome {
                Err(ApiError::NoLeader | ApiError::NotLeader | ApiError::Unhealthy) => {}
                outcome => return outcome,
            }
            // A new leader is announced; a leader that is not one yet says so soon.
            let pause = tokio::time::timeout(self.options.election_timeout / 10, leaders.changed());
            let _ = tokio::time::timeout_at(deadline, pause).await;
            if tokio::time::Instant::now() >= deadline {
                return Err(ApiError::Timeout);
            }
        }
    }

    /// How far each member's log is.
    pub async fn progress(&self) -> Result<Vec<(u64, u64, bool)>> {
        self.at_leader(
            |answer| {
                let (inner, answered) = oneshot::channel();
                tokio::spawn(async move {
                    let progress = answered.await.unwrap_or_default();
                    let _ = answer.send(Ok(progress));
                });
                Input::Progress(inner)
            },
            |leader| async move { self.leader.progress(leader).await },
        )
        .await
    }

    /// Replicates a change of membership; gives the members after it.
    pub async fn change_member(&self, caller: &Caller, mut change: MemberChange) -> Result<Vec<pb::Member>> {
        {
            let state = self.shared.state.read();
            state.auth().check_admin(caller)?;
            state.members().check(&change)?;
        }
        change.id = self.id();
        change.user.clone_from(&caller.user);
        let (answer, answered) = oneshot::channel();
        self.send(Input::ProposeChange(change, answer))?;
        match answered.await.map_err(|_| ApiError::Stopped)?? {
            Response::Members(_, members) => Ok(members),
            other => unreachable!("a change of membership gave {other:?}"),
        }
    }

    /// Counts an error that means a limit.
    fn refused(&self, error: ApiError) -> ApiError {
        let limit = match error {
            ApiError::RequestTooLarge => "request_bytes",
            ApiError::RequestTooManyRequests => "requests_waiting",
            ApiError::TooManyOps => "txn_ops",
            ApiError::NoSpace => "space",
            _ => return error,
        };
        self.shared.metrics.refuse(limit);
        error
    }

    /// What a failed read means to a client. A member that cannot read its state says so and is found by its health.
    pub fn failed(&self, failure: Failure) -> ApiError {
        match failure {
            Failure::Api(error) => error,
            Failure::Read(error) => {
                tracing::error!(%error, "a read failed");
                ApiError::Corrupt
            }
        }
    }
}

fn changes(request: &pb::TxnRequest) -> bool {
    use pb::request_op::Request;
    request
        .success
        .iter()
        .chain(&request.failure)
        .any(|op| match &op.request {
            Some(Request::RequestPut(_) | Request::RequestDeleteRange(_)) => true,
            Some(Request::RequestTxn(inner)) => changes(inner),
            _ => false,
        })
}

fn grows(request: &pb::TxnRequest) -> bool {
    use pb::request_op::Request;
    request
        .success
        .iter()
        .chain(&request.failure)
        .any(|op| match &op.request {
            Some(Request::RequestPut(_)) => true,
            Some(Request::RequestTxn(inner)) => grows(inner),
            _ => false,
        })
}

/// Whether every range of a reading transaction is content with local data.
fn serializable(request: &pb::TxnRequest) -> bool {
    use pb::request_op::Request;
    request
        .success
        .iter()
        .chain(&request.failure)
        .all(|op| match &op.request {
            Some(Request::RequestRange(range)) => range.serializable,
            _ => false,
        })
}
