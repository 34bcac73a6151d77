//! What a request must satisfy before it is proposed. Pure over the request.

use std::collections::BTreeSet;

use keelson_proto::etcd::etcdserverpb::request_op::Request;
use keelson_proto::etcd::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

use crate::ApiError;
use crate::range::End;

/// A range request.
pub fn range(request: &RangeRequest) -> Result<(), ApiError> {
    if request.key.is_empty() {
        return Err(ApiError::EmptyKey);
    }
    if !(0..=2).contains(&request.sort_order) || !(0..=4).contains(&request.sort_target) {
        return Err(ApiError::InvalidSortOption);
    }
    Ok(())
}

/// A put request.
pub fn put(request: &PutRequest) -> Result<(), ApiError> {
    if request.key.is_empty() {
        return Err(ApiError::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(ApiError::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(ApiError::LeaseProvided);
    }
    Ok(())
}

/// A deletion.
pub fn delete_range(request: &DeleteRangeRequest) -> Result<(), ApiError> {
    if request.key.is_empty() {
        return Err(ApiError::EmptyKey);
    }
    Ok(())
}

/// A transaction with at most `ops_max` comparisons and operations per list.
pub fn txn(request: &TxnRequest, ops_max: usize) -> Result<(), ApiError> {
    txn_shape(request, ops_max)?;
    // Both branches are checked apart: only one of them runs.
    for ops in [&request.success, &request.failure] {
        duplicates(ops)?;
    }
    Ok(())
}

fn txn_shape(request: &TxnRequest, ops_max: usize) -> Result<(), ApiError> {
    let longest = request
        .compare
        .len()
        .max(request.success.len())
        .max(request.failure.len());
    if longest > ops_max {
        return Err(ApiError::TooManyOps);
    }
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(ApiError::EmptyKey);
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Request::RequestRange(inner)) => range(inner)?,
            Some(Request::RequestPut(inner)) => put(inner)?,
            Some(Request::RequestDeleteRange(inner)) => delete_range(inner)?,
            Some(Request::RequestTxn(inner)) => txn_shape(inner, ops_max - longest)?,
            None => return Err(ApiError::KeyNotFound),
        }
    }
    Ok(())
}

/// Keys put, and ranges deleted, by a list of operations.
type Touched<'a> = (BTreeSet<&'a [u8]>, Vec<(&'a [u8], End<'a>)>);

/// Each key may be changed once: puts must differ from each other and lie outside what is deleted.
fn duplicates(ops: &[RequestOp]) -> Result<Touched<'_>, ApiError> {
    let mut deleted = Vec::new();
    let mut puts: BTreeSet<&[u8]> = BTreeSet::new();
    for op in ops {
        if let Some(Request::RequestDeleteRange(range)) = &op.request {
            deleted.push((&range.key[..], End::parse(&range.range_end)));
        }
    }
    for op in ops {
        let Some(Request::RequestTxn(inner)) = &op.request else {
            continue;
        };
        // Only one branch of the inner transaction runs, so its branches may touch the same keys.
        let (then_puts, then_deleted) = duplicates(&inner.success)?;
        let (else_puts, else_deleted) = duplicates(&inner.failure)?;
        for key in then_puts.union(&else_puts) {
            if !puts.insert(key) || covers(&deleted, key) {
                return Err(ApiError::DuplicateKey);
            }
        }
        deleted.extend(then_deleted);
        deleted.extend(else_deleted);
    }
    for op in ops {
        if let Some(Request::RequestPut(put)) = &op.request
            && (!puts.insert(&put.key) || covers(&deleted, &put.key))
        {
            return Err(ApiError::DuplicateKey);
        }
    }
    Ok((puts, deleted))
}

fn covers(deleted: &[(&[u8], End<'_>)], key: &[u8]) -> bool {
    deleted.iter().any(|(from, end)| end.contains(from, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put_op(key: &'static str) -> RequestOp {
        RequestOp {
            request: Some(Request::RequestPut(PutRequest {
                key: key.into(),
                ..Default::default()
            })),
        }
    }

    fn delete_op(key: &'static str, end: &'static str) -> RequestOp {
        RequestOp {
            request: Some(Request::RequestDeleteRange(DeleteRangeRequest {
                key: key.into(),
                range_end: end.into(),
                ..Default::default()
            })),
        }
    }

    fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
        RequestOp {
            request: Some(Request::RequestTxn(TxnRequest {
                success,
                failure,
                ..Default::default()
            })),
        }
    }

    #[test]
    fn a_transaction_changes_each_key_once() {
        let cases = [
            (vec![put_op("a"), put_op("b")], Ok(())),
            (vec![put_op("a"), put_op("a")], Err(ApiError::DuplicateKey)),
            (
                vec![put_op("b"), delete_op("a", "c")],
                Err(ApiError::DuplicateKey),
            ),
            (vec![put_op("c"), delete_op("a", "c")], Ok(())),
            (vec![delete_op("a", ""), delete_op("a", "")], Ok(())),
            (vec![nested(vec![put_op("a")], vec![put_op("a")])], Ok(())),
            (
                vec![put_op("a"), nested(vec![], vec![put_op("a")])],
                Err(ApiError::DuplicateKey),
            ),
            (vec![put_op("")], Err(ApiError::EmptyKey)),
        ];
        for (success, expect) in cases {
            let request = TxnRequest {
                success,
                ..Default::default()
            };
            assert_eq!(txn(&request, 128), expect, "{request:?}");
        }
        let request = TxnRequest {
            success: vec![delete_op("a", ""); 3],
            ..Default::default()
        };
        assert_eq!(txn(&request, 2), Err(ApiError::TooManyOps));
    }

    #[test]
    fn puts_and_ranges_are_checked() {
        let request = PutRequest {
            key: "a".into(),
            value: "b".into(),
            ignore_value: true,
            ..Default::default()
        };
        assert_eq!(put(&request), Err(ApiError::ValueProvided));
        let request = RangeRequest {
            key: "a".into(),
            sort_order: 7,
            ..Default::default()
        };
        assert_eq!(range(&request), Err(ApiError::InvalidSortOption));
    }
}
