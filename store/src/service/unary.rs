//! Unary gRPC calls of the services that are asked most, without what a general server needs for them: a request is
//! decoded from the frame it came in, an answer is one piece and its trailers.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use ::http::{HeaderMap, HeaderValue, Request, Response, header};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use prost::Message;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::StdError;
use tonic::metadata::MetadataMap;

/// gRPC's prefix: whether the message is compressed, and four bytes of length.
pub const PREFIX_BYTES: usize = 5;

/// Answers a call with what `serve` makes of its request; `most` bounds the request's message.
pub async fn call<B, M, R, F>(
    request: Request<B>,
    most: usize,
    serve: impl FnOnce(tonic::Request<M>) -> F,
) -> Response<Body>
where
    B: HttpBody + Send,
    B::Error: Into<StdError>,
    M: Message + Default,
    R: Message,
    F: Future<Output = Result<tonic::Response<R>, Status>>,
{
    let answered = match read(request, most).await {
        Ok(request) => serve(request).await,
        Err(refused) => Err(refused),
    };
    match answered {
        Ok(answer) => {
            let answer = answer.into_inner();
            let mut message = BytesMut::with_capacity(PREFIX_BYTES + answer.encoded_len());
            message.put_u8(0);
            // Answers of these calls are bounded by the requests.
            message.put_u32(u32::try_from(answer.encoded_len()).unwrap_or(u32::MAX));
            answer.encode_raw(&mut message);
            respond(Answer {
                message: Some(message.freeze()),
                ended: false,
            })
        }
        Err(refused) => refused.into_http(),
    }
}

/// A successful answer with this body.
pub fn respond(body: impl HttpBody<Data = Bytes, Error = Infallible> + Send + 'static) -> Response<Body> {
    let mut response = Response::new(Body::new(body));
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// What follows a successful answer.
pub fn trailers() -> Frame<Bytes> {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
    Frame::trailers(trailers)
}

/// Reads a request's only message.
pub async fn read<B, M>(request: Request<B>, most: usize) -> Result<tonic::Request<M>, Status>
where
    B: HttpBody + Send,
    B::Error: Into<StdError>,
    M: Message + Default,
{
    let (parts, body) = request.into_parts();
    let mut body = pin!(body);
    let mut whole = Bytes::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::from_error(error.into()))?;
        let Ok(mut data) = frame.into_data() else { continue };
        if whole.len() + data.remaining() > PREFIX_BYTES + most {
            let found = length_of(&whole).unwrap_or(whole.len() + data.remaining());
            let text = format!("grpc: received message larger than max ({found} vs. {most})");
            return Err(Status::resource_exhausted(text));
        }
        let data = data.copy_to_bytes(data.remaining());
        whole = match whole.is_empty() {
            true => data,
            false => [whole, data].concat().into(),
        };
    }
    let message = decode(whole)?;
    let metadata = MetadataMap::from_headers(parts.headers);
    Ok(tonic::Request::from_parts(metadata, parts.extensions, message))
}

fn length_of(prefixed: &[u8]) -> Option<usize> {
    let length = prefixed.get(1..PREFIX_BYTES)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(length)).ok()
}

fn decode<M: Message + Default>(mut prefixed: Bytes) -> Result<M, Status> {
    let Some(length) = length_of(&prefixed) else {
        return Err(Status::internal("Missing request message."));
    };
    if prefixed[0] != 0 {
        return Err(Status::unimplemented("compressed messages are not supported"));
    }
    prefixed.advance(PREFIX_BYTES);
    if prefixed.len() != length {
        return Err(Status::internal("a unary request is one whole message"));
    }
    M::decode(prefixed).map_err(|error| Status::internal(error.to_string()))
}

/// An answer's body.
struct Answer {
    message: Option<Bytes>,
    ended: bool,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(message) = self.message.take() {
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        if std::mem::replace(&mut self.ended, true) {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(trailers())))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body_util::StreamBody;
    use keelson_proto::etcd::etcdserverpb as pb;

    use super::*;

    /// A put of `length` bytes, sent in frames of `piece`.
    async fn send(length: usize, piece: usize, most: usize, flag: u8) -> Result<pb::PutRequest, Status> {
        let put = pb::PutRequest {
            value: vec![7; length].into(),
            ..Default::default()
        };
        let mut bytes = vec![flag];
        bytes.extend((put.encoded_len() as u32).to_be_bytes());
        bytes.extend(put.encode_to_vec());
        let frames: Vec<_> = bytes.chunks(piece).map(Bytes::copy_from_slice).collect();
        let frames = stream::iter(frames).map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
        let read = read::<_, pb::PutRequest>(Request::new(StreamBody::new(frames)), most).await;
        read.map(tonic::Request::into_inner)
    }

    use futures::StreamExt;

    #[tokio::test]
    async fn a_message_is_read_however_it_is_cut_and_refused_at_the_bound() {
        for piece in [1, 4, 5, 6, 100, 10_000] {
            assert_eq!(
                send(1_000, piece, 1_010, 0).await.unwrap().value.len(),
                1_000,
                "{piece}"
            );
        }
        let overhead = 3;
        assert!(send(1_000, 64, 1_000 + overhead, 0).await.is_ok());
        let refused = send(1_000, 64, 1_000 + overhead - 1, 0).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert_eq!(
            refused.message(),
            "grpc: received message larger than max (1003 vs. 1002)"
        );
        assert_eq!(
            send(10, 64, 100, 1).await.unwrap_err().code(),
            tonic::Code::Unimplemented
        );
        let empty = StreamBody::new(stream::empty::<Result<Frame<Bytes>, Infallible>>());
        let refused = read::<_, pb::PutRequest>(Request::new(empty), 100)
            .await
            .unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Internal);
    }
}
