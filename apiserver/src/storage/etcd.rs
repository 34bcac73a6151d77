//! The etcd v3 client: linearizable reads, compare-and-write, watches, leases.
//!
//! Reads move to the next endpoint when one does not answer. A write moves on only when it surely never left this
//! process: what may have been executed must not be executed twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use keelson_machinery::Status;
use keelson_proto::etcd::etcdserverpb as pb;
use keelson_proto::etcd::mvccpb::KeyValue;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;
use pb::request_op::Request;
use pb::response_op::Response;
use pb::watch_client::WatchClient;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use super::endpoints::{EndpointError, EndpointOptions, Endpoints};
use super::keys::range_end;
use crate::limits::STORE_TIMEOUT;

/// What the store refused or failed to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{0}")]
    Rpc(tonic::Status),
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    #[error("the store took longer than {}s", STORE_TIMEOUT.as_secs())]
    Timeout,
    #[error("the store answered a transaction with the wrong number of responses")]
    Malformed,
}

impl From<tonic::Status> for StoreError {
    fn from(status: tonic::Status) -> Self {
        if status.code() == Code::OutOfRange && status.message().contains("compacted") {
            Self::Compacted
        } else {
            Self::Rpc(status)
        }
    }
}

impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Compacted => Status::expired("The provided resource version is too old."),
            StoreError::Timeout => Status::timeout("etcdserver: request timed out", 0),
            StoreError::Rpc(status) if status.message().contains("request is too large") => {
                let mut refusal = Status::request_entity_too_large(0);
                refusal.message = "etcdserver: request is too large".to_owned();
                refusal
            }
            StoreError::Rpc(status) if status.code() == Code::Unavailable => {
                Status::service_unavailable(format!("the store is unavailable: {}", status.message()))
            }
            StoreError::Rpc(status) => Status::internal(status.message()),
            StoreError::Malformed => Status::internal(error.to_string()),
        }
    }
}

/// The outcome of a compare-and-write.
#[derive(Debug)]
pub enum Written {
    /// Done, at this revision.
    Done(i64),
    /// The key was at another revision; this is what it holds now, `None` where it does not exist.
    Conflict(Option<KeyValue>),
}

/// A client of the store; clones share its connections.
#[derive(Clone, Debug)]
pub struct Etcd {
    endpoints: Arc<Endpoints>,
    progress: Arc<AtomicBool>,
}

impl Etcd {
    pub fn new(options: &EndpointOptions) -> Result<Self, EndpointError> {
        Ok(Self {
            endpoints: Arc::new(Endpoints::new(options)?),
            progress: Arc::new(AtomicBool::new(false)),
        })
    }

    /// Whether every endpoint answers progress requests rightly; known after `probe`.
    pub fn has_progress(&self) -> bool {
        self.progress.load(Ordering::Relaxed)
    }

    /// Asks every endpoint for its version; an unreachable one counts as old.
    pub async fn probe(&self) {
        let mut all = true;
        for channel in self.endpoints.all() {
            let mut client = MaintenanceClient::new(channel.clone());
            let answer = tokio::time::timeout(STORE_TIMEOUT, client.status(pb::StatusRequest {})).await;
            all &= matches!(answer, Ok(Ok(status)) if progress_works(&status.get_ref().version));
        }
        self.progress.store(all, Ordering::Relaxed);
    }

    fn kv(channel: Channel) -> KvClient<Channel> {
        KvClient::new(channel).max_decoding_message_size(usize::MAX)
    }

    /// Runs a read, on another endpoint after one that is unavailable.
    async fn read<T, F, Fut>(&self, call: F) -> Result<T, StoreError>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let mut attempt = 0;
        loop {
            let (number, channel) = self.endpoints.current();
            attempt += 1;
            match tokio::time::timeout(STORE_TIMEOUT, call(channel)).await {
                Err(_) => {
                    self.endpoints.failed(number);
                    return Err(StoreError::Timeout);
                }
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) if status.code() == Code::Unavailable => {
                    self.endpoints.failed(number);
                    if attempt > self.endpoints.len() {
                        return Err(status.into());
                    }
                }
                Ok(Err(status)) => return Err(status.into()),
            }
        }
    }

    /// Runs a write, on another endpoint only where the connection could not be made.
    async fn write<T, F, Fut>(&self, call: F) -> Result<T, StoreError>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let mut attempt = 0;
        loop {
            let (number, channel) = self.endpoints.current();
            attempt += 1;
            match tokio::time::timeout(STORE_TIMEOUT, call(channel)).await {
                Err(_) => return Err(StoreError::Timeout),
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => {
                    if status.code() == Code::Unavailable {
                        self.endpoints.failed(number);
                    }
                    if !never_sent(&status) || attempt > self.endpoints.len() {
                        return Err(status.into());
                    }
                }
            }
        }
    }

    /// A range as asked for.
    pub async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, StoreError> {
        self.read(|channel| {
            let request = request.clone();
            async move { Self::kv(channel).range(request).await }
        })
        .await
    }

    /// One key, linearizable.
    pub async fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError> {
        let request = pb::RangeRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            ..Default::default()
        };
        Ok(self.range(request).await?.kvs.into_iter().next())
    }

    /// Everything below a prefix, linearizable, and the revision it was read at.
    pub async fn list(&self, prefix: &str) -> Result<(Vec<KeyValue>, i64), StoreError> {
        let request = pb::RangeRequest {
            key: Bytes::copy_from_slice(prefix.as_bytes()),
            range_end: range_end(prefix.as_bytes()).into(),
            ..Default::default()
        };
        let answer = self.range(request).await?;
        Ok((answer.kvs, answer.header.map_or(0, |header| header.revision)))
    }

    /// The store's revision now: every write acknowledged before the call is in it.
    pub async fn revision(&self) -> Result<i64, StoreError> {
        let request = pb::RangeRequest {
            key: Bytes::from_static(b"compact_rev_key"),
            count_only: true,
            ..Default::default()
        };
        Ok(self
            .range(request)
            .await?
            .header
            .map_or(0, |header| header.revision))
    }

    /// Puts `value` if the key is at `expected` (0: does not exist).
    pub async fn put_if(
        &self,
        key: &str,
        expected: i64,
        value: Bytes,
        lease: i64,
    ) -> Result<Written, StoreError> {
        let put = pb::PutRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value,
            lease,
            ..Default::default()
        };
        self.compare(key, expected, Request::RequestPut(put)).await
    }

    /// Puts whatever is there.
    pub async fn put(&self, key: &str, value: Bytes, lease: i64) -> Result<i64, StoreError> {
        let request = pb::PutRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value,
            lease,
            ..Default::default()
        };
        let answer = self
            .write(|channel| {
                let request = request.clone();
                async move { Self::kv(channel).put(request).await }
            })
            .await?;
        Ok(answer.header.map_or(0, |header| header.revision))
    }

    /// Deletes the key if it is at `expected`.
    pub async fn delete_if(&self, key: &str, expected: i64) -> Result<Written, StoreError> {
        let delete = pb::DeleteRangeRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            ..Default::default()
        };
        self.compare(key, expected, Request::RequestDeleteRange(delete))
            .await
    }

    async fn compare(&self, key: &str, expected: i64, then: Request) -> Result<Written, StoreError> {
        let key = Bytes::copy_from_slice(key.as_bytes());
        let request = pb::TxnRequest {
            compare: vec![pb::Compare {
                result: CompareResult::Equal.into(),
                target: CompareTarget::Mod.into(),
                key: key.clone(),
                range_end: Bytes::new(),
                target_union: Some(TargetUnion::ModRevision(expected)),
            }],
            success: vec![pb::RequestOp { request: Some(then) }],
            failure: vec![pb::RequestOp {
                request: Some(Request::RequestRange(pb::RangeRequest {
                    key,
                    ..Default::default()
                })),
            }],
        };
        let answer = self.txn(request).await?;
        if answer.succeeded {
            return Ok(Written::Done(answer.header.map_or(0, |header| header.revision)));
        }
        match answer.responses.into_iter().next().and_then(|one| one.response) {
            Some(Response::ResponseRange(range)) => Ok(Written::Conflict(range.kvs.into_iter().next())),
            _ => Err(StoreError::Malformed),
        }
    }

    /// Any transaction.
    pub async fn txn(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, StoreError> {
        self.write(|channel| {
            let request = request.clone();
            async move { Self::kv(channel).txn(request).await }
        })
        .await
    }

    /// Forgets what was overwritten before this revision.
    pub async fn compact(&self, revision: i64) -> Result<(), StoreError> {
        let request = pb::CompactionRequest {
            revision,
            physical: false,
        };
        self.write(|channel| async move { Self::kv(channel).compact(request).await })
            .await
            .map(|_| ())
    }

    /// A lease of `ttl_s` seconds.
    pub async fn grant(&self, ttl_s: i64) -> Result<i64, StoreError> {
        let request = pb::LeaseGrantRequest { ttl: ttl_s, id: 0 };
        let answer = self
            .write(|channel| async move { LeaseClient::new(channel).lease_grant(request).await })
            .await?;
        Ok(answer.id)
    }

    /// Opens a watch stream; what is sent into `requests` goes to the store.
    pub async fn watch(
        &self,
        requests: tokio::sync::mpsc::Receiver<pb::WatchRequest>,
    ) -> Result<(usize, Streaming<pb::WatchResponse>), StoreError> {
        let (number, channel) = self.endpoints.current();
        let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
        let mut request = tonic::Request::new(tokio_stream::wrappers::ReceiverStream::new(requests));
        // The store ends the stream when its member loses the leader, so that another member is asked.
        request
            .metadata_mut()
            .insert("hasleader", tonic::metadata::MetadataValue::from_static("true"));
        match client.watch(request).await {
            Ok(stream) => Ok((number, stream.into_inner())),
            Err(status) => {
                self.endpoints.failed(number);
                Err(status.into())
            }
        }
    }

    /// Tells that an endpoint's watch stream broke.
    pub fn failed(&self, number: usize) {
        self.endpoints.failed(number);
    }
}

/// The connection was never made, so the store has seen nothing.
fn never_sent(status: &tonic::Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return io.kind() == std::io::ErrorKind::ConnectionRefused;
        }
        source = error.source();
    }
    false
}

/// Progress requests lose events before 3.4.31 and 3.5.13 (etcd-io/etcd#15220); upstream draws the same line.
fn progress_works(version: &str) -> bool {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let mut numbers = core.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    match (next(), next(), next()) {
        (3, 4, patch) => patch >= 31,
        (3, 5, patch) => patch >= 13,
        (major, minor, _) => (major, minor) > (3, 5),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_stores_are_not_asked_for_progress() {
        for (version, works) in [
            ("3.4.23", false),
            ("3.4.31", true),
            ("3.5.12", false),
            ("3.5.13", true),
            ("3.6.0", true),
            ("3.3.99", false),
            ("", false),
        ] {
            assert_eq!(progress_works(version), works, "{version}");
        }
    }
}
