//! Executing puts, deletions and transactions.
//!
//! A transaction gets one main revision, the one after the current; each change in it one sub revision. Reads inside it
//! see the changes before them. Everything that can fail is checked before the first change.

use bytes::Bytes;
use keelson_proto::etcd::etcdserverpb::compare::{CompareResult, TargetUnion};
use keelson_proto::etcd::etcdserverpb::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RequestOp, ResponseOp,
    TxnRequest, TxnResponse, request_op, response_op,
};
use keelson_proto::etcd::mvccpb::KeyValue;

use crate::block::Record;
use crate::command::{Response, header};
use crate::error::Failure;
use crate::key_index::{Key, Version};
use crate::range::End;
use crate::watch::Change;
use crate::{ApiError, Mvcc, Revision};

/// Changes made so far by one transaction.
pub(crate) struct Transaction {
    main: i64,
    changes: Vec<Change>,
}

impl Transaction {
    fn next(&self) -> Revision {
        Revision::new(self.main, self.changes.len() as u32)
    }

    /// The revision a read inside the transaction is made at.
    fn seen(&self) -> i64 {
        self.main - i64::from(self.changes.is_empty())
    }
}

impl Mvcc {
    pub(crate) fn begin(&self) -> Transaction {
        Transaction {
            main: self.revision + 1,
            changes: Vec::new(),
        }
    }

    /// Publishes the changes; gives the current revision.
    pub(crate) fn commit(&mut self, transaction: Transaction) -> Result<i64, Failure> {
        if transaction.changes.is_empty() {
            return Ok(self.revision);
        }
        self.last = Revision::new(transaction.main, transaction.changes.len() as u32 - 1);
        self.revision = transaction.main;
        let mut hub = std::mem::take(&mut self.hub);
        let published = hub.publish(transaction.main, &transaction.changes, |revision| {
            self.fetch(revision)
        });
        self.hub = hub;
        published?;
        Ok(self.revision)
    }

    pub(crate) fn apply_put(&mut self, request: PutRequest) -> Result<Response, Failure> {
        self.check_put(&request)?;
        let mut transaction = self.begin();
        let mut response = self.put(&mut transaction, request)?;
        let revision = self.commit(transaction)?;
        response.header = header(revision);
        Ok(Response::Put(response))
    }

    pub(crate) fn apply_delete_range(&mut self, request: DeleteRangeRequest) -> Result<Response, Failure> {
        let mut transaction = self.begin();
        let mut response = self.delete_range(&mut transaction, &request)?;
        let revision = self.commit(transaction)?;
        response.header = header(revision);
        Ok(Response::DeleteRange(response))
    }

    pub(crate) fn apply_txn(&mut self, request: TxnRequest) -> Result<Response, Failure> {
        let mut path = Vec::new();
        self.choose(&request, &mut path)?;
        self.check_txn(&request, &mut path.iter())?;
        let mut transaction = self.begin();
        let mut response = self.txn(&mut transaction, request, &mut path.iter())?;
        let revision = self.commit(transaction)?;
        response.header = header(revision);
        Ok(Response::Txn(response))
    }

    /// A transaction that only reads; it needs no place in the log.
    pub fn read_txn(&self, request: &TxnRequest) -> Result<TxnResponse, Failure> {
        let mut path = Vec::new();
        self.choose(request, &mut path)?;
        self.check_txn(request, &mut path.iter())?;
        let mut response = self.read_branch(request, &mut path.iter())?;
        response.header = header(self.revision);
        Ok(response)
    }

    fn read_branch(
        &self,
        request: &TxnRequest,
        path: &mut std::slice::Iter<'_, bool>,
    ) -> Result<TxnResponse, Failure> {
        let succeeded = next_branch(path);
        let mut responses = Vec::new();
        for op in branch(request, succeeded) {
            let response = match &op.request {
                Some(request_op::Request::RequestRange(range)) => {
                    let plan = self.plan_range(range.clone())?;
                    let engine = self.engine.clone();
                    let answer = plan.finish(engine.as_ref(), &mut |revision| self.relocate(revision))?;
                    Some(response_op::Response::ResponseRange(answer))
                }
                Some(request_op::Request::RequestTxn(inner)) => {
                    let mut answer = self.read_branch(inner, path)?;
                    answer.header = header(0);
                    Some(response_op::Response::ResponseTxn(answer))
                }
                _ => None,
            };
            responses.push(ResponseOp { response });
        }
        Ok(TxnResponse {
            header: header(self.revision),
            succeeded,
            responses,
        })
    }

    /// Decides every comparison before anything changes, outermost first: etcd's order of evaluation.
    fn choose(&self, request: &TxnRequest, path: &mut Vec<bool>) -> Result<(), Failure> {
        let mut succeeded = true;
        for compare in &request.compare {
            if !self.compare(compare)? {
                succeeded = false;
                break;
            }
        }
        path.push(succeeded);
        for op in branch(request, succeeded) {
            if let Some(request_op::Request::RequestTxn(inner)) = &op.request {
                self.choose(inner, path)?;
            }
        }
        Ok(())
    }

    fn check_txn(&self, request: &TxnRequest, path: &mut std::slice::Iter<'_, bool>) -> Result<(), ApiError> {
        let succeeded = next_branch(path);
        for op in branch(request, succeeded) {
            match &op.request {
                Some(request_op::Request::RequestPut(put)) => self.check_put(put)?,
                Some(request_op::Request::RequestRange(range)) => {
                    if range.revision > self.revision {
                        return Err(ApiError::FutureRev);
                    }
                    if range.revision > 0 && range.revision < self.compacted {
                        return Err(ApiError::Compacted);
                    }
                }
                Some(request_op::Request::RequestTxn(inner)) => self.check_txn(inner, path)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn check_put(&self, request: &PutRequest) -> Result<(), ApiError> {
        let needs_old = request.ignore_value || request.ignore_lease;
        if needs_old && self.index.get(&request.key, self.revision).is_none() {
            return Err(ApiError::KeyNotFound);
        }
        if request.lease != 0 && !self.leases.exists(request.lease) {
            return Err(ApiError::LeaseNotFound);
        }
        Ok(())
    }

    fn txn(
        &mut self,
        transaction: &mut Transaction,
        request: TxnRequest,
        path: &mut std::slice::Iter<'_, bool>,
    ) -> Result<TxnResponse, Failure> {
        let succeeded = next_branch(path);
        let ops = if succeeded {
            request.success
        } else {
            request.failure
        };
        let mut responses = Vec::with_capacity(ops.len());
        for RequestOp { request } in ops {
            let response = match request {
                Some(request_op::Request::RequestRange(range)) => {
                    let plan = self.plan_range_at(range, transaction.seen())?;
                    let engine = self.engine.clone();
                    let answer = plan.finish(engine.as_ref(), &mut |revision| self.relocate(revision))?;
                    Some(response_op::Response::ResponseRange(answer))
                }
                Some(request_op::Request::RequestPut(put)) => {
                    let mut answer = self.put(transaction, put)?;
                    answer.header = header(transaction.main);
                    Some(response_op::Response::ResponsePut(answer))
                }
                Some(request_op::Request::RequestDeleteRange(range)) => {
                    let mut answer = self.delete_range(transaction, &range)?;
                    answer.header = header(transaction.seen());
                    Some(response_op::Response::ResponseDeleteRange(answer))
                }
                Some(request_op::Request::RequestTxn(inner)) => {
                    let mut answer = self.txn(transaction, inner, path)?;
                    // etcd leaves the header of an inner transaction empty.
                    answer.header = header(0);
                    Some(response_op::Response::ResponseTxn(answer))
                }
                None => None,
            };
            responses.push(ResponseOp { response });
        }
        Ok(TxnResponse {
            header: None,
            succeeded,
            responses,
        })
    }

    fn put(&mut self, transaction: &mut Transaction, request: PutRequest) -> Result<PutResponse, Failure> {
        let needs_old = request.ignore_value || request.ignore_lease || request.prev_kv;
        let old = match self.index.get(&request.key, transaction.seen()) {
            Some(version) if needs_old => Some(self.fetch(version.modified)?),
            _ => None,
        };
        let modified = transaction.next();
        let (key, version, previous) = self.index.put(&request.key, modified);
        let mut kv = KeyValue {
            key: request.key,
            create_revision: version.created,
            mod_revision: modified.main,
            version: version.version,
            value: request.value,
            lease: request.lease,
        };
        if let Some(old) = &old {
            if request.ignore_value {
                kv.value = old.value.clone();
            }
            if request.ignore_lease {
                kv.lease = old.lease;
            }
        }
        self.leases.attach(&key, kv.lease);
        self.record(transaction, kv, previous, false);
        Ok(PutResponse {
            header: None,
            prev_kv: old.filter(|_| request.prev_kv),
        })
    }

    fn delete_range(
        &mut self,
        transaction: &mut Transaction,
        request: &DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, Failure> {
        let seen = transaction.seen();
        let keys: Vec<(Key, Version)> = match End::parse(&request.range_end) {
            End::Single => {
                let version = self.index.get(&request.key, seen);
                version
                    .map(|version| (Key::from(&request.key[..]), version))
                    .into_iter()
                    .collect()
            }
            End::Open => own(self.index.range(&request.key, None, seen)),
            End::Before(end) => own(self.index.range(&request.key, Some(end), seen)),
        };
        let mut response = DeleteRangeResponse::default();
        for (key, version) in keys {
            if request.prev_kv {
                response.prev_kvs.push(self.fetch(version.modified)?);
            }
            response.deleted += i64::from(self.delete(transaction, &key));
        }
        Ok(response)
    }

    /// Deletes one key; false when it is not there.
    pub(crate) fn delete(&mut self, transaction: &mut Transaction, key: &[u8]) -> bool {
        let Some((key, previous)) = self.index.delete(key, transaction.next()) else {
            return false;
        };
        self.leases.attach(&key, 0);
        let kv = KeyValue {
            key: Bytes::copy_from_slice(&key),
            mod_revision: transaction.main,
            ..Default::default()
        };
        self.record(transaction, kv, Some(previous), true);
        true
    }

    fn record(
        &mut self,
        transaction: &mut Transaction,
        kv: KeyValue,
        previous: Option<Version>,
        tombstone: bool,
    ) {
        let record = Record { kv, tombstone };
        transaction.changes.push(Change {
            kv: record.kv.clone(),
            previous: previous.map(|version| version.modified),
            tombstone,
        });
        let revision = Revision::new(transaction.main, transaction.changes.len() as u32 - 1);
        self.history.push(revision, record);
    }

    fn compare(&self, compare: &Compare) -> Result<bool, Failure> {
        let end = End::parse(&compare.range_end);
        if end == End::Single {
            let version = self.index.get(&compare.key, self.revision);
            return match version {
                Some(version) => self.matches(compare, &compare.key, version),
                None => Ok(self.matches_missing(compare)),
            };
        }
        let to = match end {
            End::Before(to) => Some(to),
            _ => None,
        };
        let mut any = false;
        for (key, version) in self.index.range(&compare.key, to, self.revision) {
            any = true;
            if !self.matches(compare, key, *version)? {
                return Ok(false);
            }
        }
        Ok(any || self.matches_missing(compare))
    }

    /// A key that does not exist compares as version, revisions and lease 0; its value never matches.
    fn matches_missing(&self, compare: &Compare) -> bool {
        match &compare.target_union {
            Some(TargetUnion::Value(_)) => false,
            None if compare.target == 3 => false,
            union => holds(compare, 0.cmp(&number(union.as_ref()))),
        }
    }

    fn matches(&self, compare: &Compare, key: &[u8], version: Version) -> Result<bool, Failure> {
        let union = compare.target_union.as_ref();
        let order = match compare.target {
            0 => version.version.cmp(&number(union)),
            1 => version.created.cmp(&number(union)),
            2 => version.modified.main.cmp(&number(union)),
            3 => {
                let expected = match union {
                    Some(TargetUnion::Value(value)) => value.clone(),
                    _ => Bytes::new(),
                };
                self.fetch(version.modified)?.value.cmp(&expected)
            }
            _ => self.leases.of(key).cmp(&number(union)),
        };
        Ok(holds(compare, order))
    }
}

fn own<'a>(found: impl Iterator<Item = (&'a Key, &'a Version)>) -> Vec<(Key, Version)> {
    found.map(|(key, version)| (key.clone(), *version)).collect()
}

fn number(union: Option<&TargetUnion>) -> i64 {
    match union {
        Some(
            TargetUnion::Version(number)
            | TargetUnion::CreateRevision(number)
            | TargetUnion::ModRevision(number)
            | TargetUnion::Lease(number),
        ) => *number,
        _ => 0,
    }
}

fn holds(compare: &Compare, order: std::cmp::Ordering) -> bool {
    match compare.result() {
        CompareResult::Equal => order.is_eq(),
        CompareResult::NotEqual => order.is_ne(),
        CompareResult::Greater => order.is_gt(),
        CompareResult::Less => order.is_lt(),
    }
}

fn branch(request: &TxnRequest, succeeded: bool) -> &[RequestOp] {
    if succeeded {
        &request.success
    } else {
        &request.failure
    }
}

fn next_branch(path: &mut std::slice::Iter<'_, bool>) -> bool {
    *path.next().expect("the path has one decision per transaction")
}
