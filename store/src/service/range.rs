//! `KV.Range`, apart from the other calls: its answer may be long, so it is encoded piece by piece as the connection
//! takes it, and pairs go out as they are stored, without being decoded.
//!
//! The body of the answer is what gRPC wants: one length-prefixed message, then trailers with the status.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::http::{Request, Response};
use bytes::{BufMut, Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use keelson_proto::etcd::etcdserverpb as pb;
use keelson_store_mvcc::history::Pair;
use keelson_store_mvcc::range::Found;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::StdError;

use super::unary::{self, PREFIX_BYTES};
use super::{caller, check_leader, check_learner, status};
use crate::api::Api;

/// Bytes encoded at a time.
const PIECE_BYTES: usize = 64 << 10;
/// Tag of `RangeResponse.kvs`.
const KVS_TAG: u32 = 2;

/// Answers a call; `most` bounds the request.
pub async fn call<B>(api: &Arc<Api>, request: Request<B>, most: usize) -> Response<Body>
where
    B: HttpBody + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    match answer(api, request, most).await {
        Ok(body) => unary::respond(body),
        Err(refused) => refused.into_http(),
    }
}

async fn answer<B>(api: &Arc<Api>, request: Request<B>, most: usize) -> Result<RangeBody, Status>
where
    B: HttpBody + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    let request: tonic::Request<pb::RangeRequest> = unary::read(request, most).await?;
    check_leader(api, request.metadata())?;
    if !request.get_ref().serializable {
        check_learner(api)?;
    }
    let caller = caller(api, &request)?;
    let request = request.into_inner();
    let found = if request.range_end.is_empty() {
        api.find(&caller, request).await
    } else {
        // It may take long, and the other streams of the connection share this task.
        let api = api.clone();
        let found = tokio::spawn(async move { api.find(&caller, request).await });
        found.await.map_err(|error| Status::internal(error.to_string()))?
    }
    .map_err(status)?;
    RangeBody::new(api.header(found.revision), found)
}

/// The answer's body.
struct RangeBody {
    /// Prefix and first fields; taken by the first piece.
    head: Option<BytesMut>,
    pairs: std::vec::IntoIter<Pair>,
    ended: bool,
}

impl RangeBody {
    fn new(header: Option<pb::ResponseHeader>, found: Found) -> Result<Self, Status> {
        // The fields that are not pairs may come first: a message is the concatenation of its fields.
        let fields = pb::RangeResponse {
            header,
            more: found.more,
            count: found.count,
            kvs: Vec::new(),
        };
        let pairs = found.pairs.iter().map(|pair| {
            let length = pair.encoded_len();
            key_len(KVS_TAG) + encoded_len_varint(length as u64) + length
        });
        let length = fields.encoded_len() + pairs.sum::<usize>();
        let prefix = u32::try_from(length).map_err(|_| {
            Status::resource_exhausted("the answer is longer than gRPC can send; set a limit")
        })?;
        let mut head = BytesMut::with_capacity((PREFIX_BYTES + length).min(PIECE_BYTES));
        head.put_u8(0);
        head.put_u32(prefix);
        fields.encode_raw(&mut head);
        Ok(Self {
            head: Some(head),
            pairs: found.pairs.into_iter(),
            ended: false,
        })
    }

    fn next_piece(&mut self) -> Option<Bytes> {
        let mut piece = match self.head.take() {
            Some(head) => head,
            None if self.pairs.len() == 0 => return None,
            None => BytesMut::with_capacity(PIECE_BYTES),
        };
        while let Some(pair) = self.pairs.next() {
            encode_key(KVS_TAG, WireType::LengthDelimited, &mut piece);
            encode_varint(pair.encoded_len() as u64, &mut piece);
            pair.encode(&mut piece);
            let next = self.pairs.as_slice().first().map_or(0, Pair::encoded_len);
            if piece.len() + next + PREFIX_BYTES > PIECE_BYTES {
                break;
            }
        }
        Some(piece.freeze())
    }
}

impl HttpBody for RangeBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(piece) = self.next_piece() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        self.ended = true;
        Poll::Ready(Some(Ok(unary::trailers())))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use keelson_proto::etcd::mvccpb::KeyValue;
    use keelson_store_mvcc::block::Record;

    use super::*;

    fn kv(number: usize, bytes: usize) -> KeyValue {
        KeyValue {
            key: format!("key {number}").into(),
            value: vec![number as u8; bytes].into(),
            mod_revision: number as i64,
            ..Default::default()
        }
    }

    fn drain(mut body: RangeBody) -> (Vec<usize>, Vec<u8>) {
        let (mut pieces, mut whole) = (Vec::new(), Vec::new());
        while let Some(piece) = body.next_piece() {
            pieces.push(piece.len());
            whole.extend_from_slice(&piece);
        }
        (pieces, whole)
    }

    /// Whatever the sizes of pairs and pieces, the client reads one message with the same content.
    #[test]
    fn pieces_add_up_to_one_message() {
        for (count, bytes) in [(0, 0), (1, 10), (500, 1_000), (3, 200_000)] {
            let kvs: Vec<KeyValue> = (0..count).map(|number| kv(number, bytes)).collect();
            let pairs = kvs.iter().enumerate().map(|(number, kv)| match number % 2 {
                0 => Pair::Decoded(Arc::new(Record {
                    kv: kv.clone(),
                    tombstone: false,
                })),
                _ => Pair::Encoded(kv.encode_to_vec().into()),
            });
            let found = Found {
                revision: 7,
                count: 900,
                more: true,
                pairs: pairs.collect(),
            };
            let header = pb::ResponseHeader {
                revision: 7,
                ..Default::default()
            };
            let (pieces, whole) = drain(RangeBody::new(Some(header), found).unwrap());
            assert_eq!(
                whole[..5],
                [&[0], &((whole.len() - 5) as u32).to_be_bytes()[..]].concat()[..]
            );
            let expected = pb::RangeResponse {
                header: Some(header),
                kvs,
                more: true,
                count: 900,
            };
            assert_eq!(pb::RangeResponse::decode(&whole[5..]).unwrap(), expected);
            assert!(
                pieces
                    .iter()
                    .all(|length| *length <= PIECE_BYTES.max(bytes + 100)),
                "{pieces:?}"
            );
            assert!(count < 500 || pieces.len() > 5, "{pieces:?}");
        }
    }
}
