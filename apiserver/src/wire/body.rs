//! Answers: whole, made piece by piece as the client takes them, or open-ended.
//!
//! Nothing is made before the connection asks for it, so a slow reader costs one piece of memory, not its whole answer.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::Stream;
use http::{HeaderValue, StatusCode, header};
use http_body::Frame;

use crate::limits::{FRAME_BYTES, FRAME_SLACK};

/// An answer on its way out.
pub type Response = http::Response<Body>;

/// An error in the middle of an answer; the connection is cut, so that the client does not take it for whole.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// Appends the next piece; `false`: there is none.
pub type Pieces = Box<dyn FnMut(&mut BytesMut) -> bool + Send>;

/// The bytes of an answer.
pub enum Body {
    Empty,
    Whole(Bytes),
    /// Small pieces, gathered into frames.
    Pieces(Pieces),
    /// As it comes: watches, logs.
    Stream(Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>),
}

impl Body {
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(bytes.into())
    }

    pub fn pieces(pieces: impl FnMut(&mut BytesMut) -> bool + Send + 'static) -> Self {
        Self::Pieces(Box::new(pieces))
    }

    /// A stream that cannot fail.
    pub fn stream(stream: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        use futures::StreamExt;
        Self::Stream(Box::pin(stream.map(Ok)))
    }

    /// Any other body.
    pub fn wrap<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        use futures::StreamExt;
        let frames = http_body_util::BodyStream::new(body);
        Self::Stream(Box::pin(frames.filter_map(|frame| {
            std::future::ready(match frame {
                Ok(frame) => frame.into_data().ok().map(Ok),
                Err(error) => Some(Err(error.into())),
            })
        })))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let bytes = match &mut *self {
            Self::Empty => None,
            Self::Whole(_) => match std::mem::replace(&mut *self, Self::Empty) {
                Self::Whole(bytes) if !bytes.is_empty() => Some(bytes),
                _ => None,
            },
            Self::Pieces(pieces) => gather(pieces),
            Self::Stream(stream) => {
                return stream
                    .as_mut()
                    .poll_next(cx)
                    .map(|next| next.map(|one| one.map(Frame::data)));
            }
        };
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Pieces(_) | Self::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Self::Empty => http_body::SizeHint::with_exact(0),
            Self::Whole(bytes) => http_body::SizeHint::with_exact(bytes.len() as u64),
            Self::Pieces(_) | Self::Stream(_) => http_body::SizeHint::default(),
        }
    }
}

/// One frame of pieces.
fn gather(pieces: &mut Pieces) -> Option<Bytes> {
    let mut frame = BytesMut::with_capacity(FRAME_BYTES + FRAME_SLACK);
    while frame.len() < FRAME_BYTES && pieces(&mut frame) {}
    (!frame.is_empty()).then(|| frame.freeze())
}

/// An answer with its content type.
pub fn response(status: StatusCode, content_type: &'static str, body: Body) -> Response {
    let mut response = http::Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, private"),
    );
    response
}

/// A line of plain text.
pub fn text(status: StatusCode, line: impl Into<String>) -> Response {
    response(status, "text/plain; charset=utf-8", Body::whole(line.into()))
}

/// Never fails: for services whose errors were all answered.
pub type Answer = Result<Response, Infallible>;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_reader_holds_one_frame_however_long_its_answer() {
        const PIECE: usize = 10_000;
        const PIECES: usize = 1_000;
        let made = Arc::new(AtomicUsize::new(0));
        let count = made.clone();
        let mut body = Body::pieces(move |out: &mut BytesMut| {
            if count.load(Ordering::Relaxed) == PIECES {
                return false;
            }
            count.fetch_add(1, Ordering::Relaxed);
            out.extend_from_slice(&[7; PIECE]);
            true
        });
        assert_eq!(made.load(Ordering::Relaxed), 0, "nothing before it is asked for");
        let mut total = 0;
        while let Some(frame) = body.frame().await {
            let before = total;
            total += frame.unwrap().into_data().unwrap().len();
            let frame = total - before;
            assert!(frame <= FRAME_BYTES + PIECE, "{frame} bytes at once");
            assert_eq!(made.load(Ordering::Relaxed) * PIECE, total, "nothing ahead");
        }
        assert_eq!(total, PIECES * PIECE);
    }
}
