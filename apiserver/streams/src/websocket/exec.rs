//! `v5.channel.k8s.io` and `v4.channel.k8s.io` to SPDY.
//!
//! A WebSocket message is a channel number and bytes: 0 stdin, 1 stdout, 2 stderr, 3 the final status, 4 terminal sizes,
//! and in v5 255 closes the channel its second byte names. Each is a SPDY stream at the kubelet.

use std::collections::HashMap;
use std::sync::Arc;

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use keelson_machinery::Status;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::Mutex;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error as WebSocketError, Message};

use crate::backend::empty;
use crate::limits::ERROR_STREAM_BYTES_MAX;
use crate::spdy::{self, Frame};
use crate::{Body, Streams, Target, pipe};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// What a kubelet speaks on the streams; the highest version every runtime's server knows.
const REMOTE_COMMAND: &str = "v4.channel.k8s.io";

type Client = WebSocketStream<TokioIo<Upgraded>>;
type ClientSink = SplitSink<Client, Message>;
type Kubelet = TokioIo<Upgraded>;

/// An upgraded connection with its streams opened.
pub(super) struct Session {
    kubelet: Kubelet,
    /// The stream of each channel.
    streams: HashMap<u8, u32>,
}

/// Upgrades at the kubelet and opens the streams; its refusal comes back as a response.
pub(super) async fn open(
    target: &Target,
    streams: Streams,
) -> Result<Result<Session, Response<Body>>, Status> {
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
        HeaderValue::from_static(REMOTE_COMMAND),
    );
    let mut answer = pipe::ask(target, onward).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return pipe::refused(answer).await.map(Err);
    }
    let upgraded = hyper::upgrade::on(&mut answer)
        .await
        .map_err(|why| pipe::dial_failed(why.into()))?;
    let mut kubelet = TokioIo::new(upgraded);
    let (opening, streams) = opening(streams);
    kubelet
        .write_all(&opening)
        .await
        .map_err(|why| pipe::dial_failed(why.into()))?;
    Ok(Ok(Session { kubelet, streams }))
}

/// The frames that open the streams, in the order upstream's client opens them, and the channel of each.
fn opening(streams: Streams) -> (Vec<u8>, HashMap<u8, u32>) {
    let wanted = [
        (true, ERROR, "error"),
        (streams.stdin, STDIN, "stdin"),
        (streams.stdout, STDOUT, "stdout"),
        (streams.stderr && !streams.tty, STDERR, "stderr"),
        (streams.tty, RESIZE, "resize"),
    ];
    let writer = spdy::Writer::default();
    let (mut frames, mut opened) = (Vec::new(), HashMap::new());
    for (_, channel, kind) in wanted.into_iter().filter(|(wanted, ..)| *wanted) {
        // A client's streams are odd.
        let stream = 2 * opened.len() as u32 + 1;
        frames.extend(writer.open(stream, &[("streamtype", kind)]));
        opened.insert(channel, stream);
    }
    (frames, opened)
}

impl Session {
    /// Moves bytes both ways until the command ends or either side goes away.
    pub(super) async fn run(self, client: Client) {
        let (sink, source) = client.split();
        let (reader, writer) = tokio::io::split(self.kubelet);
        let writer = Arc::new(Mutex::new(writer));
        let channels = self
            .streams
            .iter()
            .map(|(channel, stream)| (*stream, *channel))
            .collect();
        let to_client = to_client(reader, writer.clone(), sink, channels);
        let to_kubelet = to_kubelet(source, writer, self.streams);
        tokio::pin!(to_client, to_kubelet);
        // The command's end decides; a client that only stops sending still waits for the output.
        let ended = tokio::select! {
            ended = &mut to_client => ended,
            sent = &mut to_kubelet => match sent {
                Ok(()) => Ok(()),
                Err(why) => Err(why),
            },
        };
        if let Err(why) = ended {
            tracing::debug!(error = %why, "exec stream ended");
        }
    }
}

type Ended = Result<(), crate::BodyError>;

/// Reads the client; ends when it has gone.
async fn to_kubelet(
    mut source: SplitStream<Client>,
    writer: Arc<Mutex<WriteHalf<Kubelet>>>,
    streams: HashMap<u8, u32>,
) -> Ended {
    while let Some(message) = source.next().await {
        let message = match message {
            Ok(Message::Binary(bytes)) => bytes,
            Ok(Message::Text(text)) => text.into(),
            Ok(Message::Close(_)) | Err(WebSocketError::ConnectionClosed) => return Ok(()),
            Ok(_) => continue,
            Err(why) => return Err(why.into()),
        };
        let frame = match &message[..] {
            [CLOSE, channel, ..] => streams.get(channel).map(|stream| spdy::data(*stream, true, b"")),
            [channel @ (STDIN | RESIZE), payload @ ..] if !payload.is_empty() => streams
                .get(channel)
                .map(|stream| spdy::data(*stream, false, payload)),
            _ => None,
        };
        if let Some(frame) = frame {
            writer.lock().await.write_all(&frame).await?;
        }
    }
    Ok(())
}

/// Reads the kubelet; ends when every stream it writes has ended.
async fn to_client(
    mut reader: ReadHalf<Kubelet>,
    writer: Arc<Mutex<WriteHalf<Kubelet>>>,
    mut sink: ClientSink,
    mut channels: HashMap<u32, u8>,
) -> Ended {
    let mut status = Vec::new();
    while channels
        .values()
        .any(|channel| matches!(*channel, STDOUT | STDERR | ERROR))
    {
        let Some(frame) = read_frame(&mut reader).await? else {
            break;
        };
        let (stream, ended) = match frame {
            Frame::Data { stream, fin, payload } => {
                match channels.get(&stream) {
                    Some(&ERROR) if status.len() + payload.len() <= ERROR_STREAM_BYTES_MAX => {
                        status.extend(payload)
                    }
                    Some(channel @ (&STDOUT | &STDERR)) if !payload.is_empty() => {
                        sink.send(message(*channel, &payload)).await?;
                    }
                    _ => {}
                }
                (stream, fin)
            }
            Frame::Reset { stream } => (stream, true),
            Frame::Ping { id } => {
                writer.lock().await.write_all(&spdy::pong(id)).await?;
                continue;
            }
            Frame::Opened { stream } => {
                writer.lock().await.write_all(&spdy::refuse(stream)).await?;
                continue;
            }
            Frame::GoAway => break,
            Frame::Reply { .. } | Frame::Other => continue,
        };
        if ended {
            channels.remove(&stream);
        }
    }
    if !status.is_empty() {
        sink.send(message(ERROR, &status)).await?;
    }
    let close = CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    sink.send(Message::Close(Some(close))).await?;
    Ok(())
}

fn message(channel: u8, payload: &[u8]) -> Message {
    let mut bytes = Vec::with_capacity(payload.len() + 1);
    bytes.push(channel);
    bytes.extend_from_slice(payload);
    Message::Binary(bytes.into())
}

/// The next frame; `None` at the end of the connection.
async fn read_frame(reader: &mut ReadHalf<Kubelet>) -> Result<Option<Frame>, crate::BodyError> {
    let mut head = [0; spdy::HEAD_BYTES];
    if reader.read_exact(&mut head).await.is_err() {
        return Ok(None);
    }
    let head = spdy::head(head)?;
    let mut payload = vec![0; head.length];
    reader.read_exact(&mut payload).await?;
    Ok(Some(spdy::frame(head, payload)?))
}
