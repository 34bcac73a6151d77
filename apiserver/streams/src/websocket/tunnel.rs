//! SPDY within WebSocket: the bytes of binary messages are the bytes of a SPDY connection (KEP-4006).

use futures::{SinkExt as _, StreamExt as _};
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use keelson_machinery::Status;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::backend::empty;
use crate::limits::COPY_BYTES;
use crate::{Body, Target, pipe, spdy};

/// What a kubelet calls port-forward.
const PORT_FORWARD: &str = "portforward.k8s.io";

/// Upgrades at the kubelet; its refusal comes back as a response.
pub(super) async fn open(target: &Target) -> Result<Result<Upgraded, Response<Body>>, Status> {
    let mut onward = Request::new(empty());
    *onward.method_mut() = Method::POST;
    let refused =
        |why: http::uri::InvalidUri| Status::bad_request(format!("invalid path at the backend: {why}"));
    *onward.uri_mut() = target.path_and_query.parse().map_err(refused)?;
    let headers = onward.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(spdy::PROTOCOL));
    headers.insert(
        "x-stream-protocol-version",
        HeaderValue::from_static(PORT_FORWARD),
    );
    let mut answer = pipe::ask(target, onward).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return pipe::refused(answer).await.map(Err);
    }
    hyper::upgrade::on(&mut answer)
        .await
        .map(Ok)
        .map_err(|why| pipe::dial_failed(why.into()))
}

/// Moves bytes both ways until either side ends.
pub(super) async fn run(client: WebSocketStream<TokioIo<Upgraded>>, backend: Upgraded) {
    let (mut sink, mut source) = client.split();
    let (mut reader, mut writer) = tokio::io::split(TokioIo::new(backend));
    let to_backend = async {
        while let Some(message) = source.next().await {
            match message {
                Ok(Message::Binary(bytes)) => writer.write_all(&bytes).await?,
                Ok(Message::Close(_)) => break,
                Ok(_) => {}
                Err(why) => return Err(why.into()),
            }
        }
        writer.shutdown().await?;
        Ok::<(), crate::BodyError>(())
    };
    let to_client = async {
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            let length = reader.read(&mut buffer).await?;
            if length == 0 {
                sink.close().await?;
                return Ok::<(), crate::BodyError>(());
            }
            sink.send(Message::Binary(buffer[..length].to_vec().into()))
                .await?;
        }
    };
    let ended = tokio::select! {
        ended = to_backend => ended,
        ended = to_client => ended,
    };
    if let Err(why) = ended {
        tracing::debug!(error = %why, "tunnelled port-forward ended");
    }
}
