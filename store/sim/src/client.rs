//! Simulated clients of the key space: what they ask, as the store's commands, and what the answers mean.

use bytes::Bytes;
use keelson_proto::etcd::etcdserverpb as pb;
use keelson_proto::etcd::etcdserverpb::request_op::Request;
use keelson_proto::etcd::etcdserverpb::response_op;
use keelson_proto::etcd::mvccpb::KeyValue;
use keelson_store_mvcc::command::{Op as CommandOp, Response};

use crate::chance::Chance;
use crate::linear::{Call, Outcome, Seen};

/// Groups of two keys; a transaction stays in one.
pub const GROUPS: usize = 6;

/// The name of a group's key.
pub fn key(group: usize, key: usize) -> Bytes {
    format!("k/{group}/{key}").into()
}

/// What a client does next; values are never used twice.
pub fn choose(chance: &mut Chance, value: u64) -> Call {
    let key = chance.place(2);
    match chance.below(10) {
        0..4 => Call::Put(key, value),
        4..7 => Call::Get(key),
        7 => Call::Delete(key),
        _ => Call::Swap(i64::try_from(chance.below(4)).expect("small"), value),
    }
}

/// The request of one key.
pub fn range(group: usize, place: usize) -> pb::RangeRequest {
    pb::RangeRequest {
        key: key(group, place),
        ..Default::default()
    }
}

fn put(group: usize, place: usize, value: u64) -> pb::PutRequest {
    pb::PutRequest {
        key: key(group, place),
        value: value.to_string().into(),
        prev_kv: true,
        ..Default::default()
    }
}

/// The command of a call; `None` for a read.
pub fn command(group: usize, call: &Call) -> Option<CommandOp> {
    match *call {
        Call::Get(_) => None,
        Call::Put(place, value) => Some(CommandOp::Put(put(group, place, value))),
        Call::Delete(place) => Some(CommandOp::DeleteRange(pb::DeleteRangeRequest {
            key: key(group, place),
            prev_kv: true,
            ..Default::default()
        })),
        Call::Swap(version, value) => Some(CommandOp::Txn(swap(group, version, value))),
    }
}

fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request),
    }
}

/// Every other one has its operations in a transaction of their own inside the first.
fn swap(group: usize, version: i64, value: u64) -> pb::TxnRequest {
    let mut request = pb::TxnRequest {
        compare: vec![pb::Compare {
            result: pb::compare::CompareResult::Equal as i32,
            target: pb::compare::CompareTarget::Version as i32,
            key: key(group, 0),
            target_union: Some(pb::compare::TargetUnion::Version(version)),
            ..Default::default()
        }],
        success: [0, 1]
            .map(|place| op(Request::RequestPut(put(group, place, value))))
            .to_vec(),
        failure: [0, 1]
            .map(|place| op(Request::RequestRange(range(group, place))))
            .to_vec(),
    };
    if value.is_multiple_of(2) {
        for branch in [&mut request.success, &mut request.failure] {
            let inner = pb::TxnRequest {
                success: std::mem::take(branch),
                ..Default::default()
            };
            branch.push(op(Request::RequestTxn(inner)));
        }
    }
    request
}

/// What is seen of a key.
pub fn seen(kv: Option<&KeyValue>) -> Seen {
    let kv = kv?;
    let value = std::str::from_utf8(&kv.value)
        .ok()
        .and_then(|text| text.parse().ok());
    Some((value.expect("clients write numbers"), kv.version))
}

/// An answer's meaning and revision.
pub fn outcome(response: Response) -> (Outcome, i64) {
    let revision = |header: Option<pb::ResponseHeader>| header.map_or(0, |header| header.revision);
    match response {
        Response::Put(put) => (Outcome::Was(seen(put.prev_kv.as_ref())), revision(put.header)),
        Response::DeleteRange(deleted) => (
            Outcome::Was(seen(deleted.prev_kvs.first())),
            revision(deleted.header),
        ),
        Response::Txn(txn) if txn.succeeded => (Outcome::Swapped, revision(txn.header)),
        Response::Txn(txn) => {
            let inner = match txn.responses.first().and_then(|op| op.response.as_ref()) {
                Some(response_op::Response::ResponseTxn(inner)) => inner,
                _ => &txn,
            };
            let read = |place: usize| match inner.responses.get(place).and_then(|op| op.response.as_ref()) {
                Some(response_op::Response::ResponseRange(range)) => seen(range.kvs.first()),
                other => panic!("a range was answered with {other:?}"),
            };
            (Outcome::Kept([read(0), read(1)]), revision(txn.header))
        }
        other => panic!("a client's request was answered with {other:?}"),
    }
}
