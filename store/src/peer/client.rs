//! Our side of the stream to one peer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsConnector;

use super::frame::{self, Frame, HELLO_BYTES_MAX, Hello, MAGIC, Purpose, Told, Welcome};
use super::{Inner, Outgoing};
use crate::limits::PEER_FRAME_BYTES_MAX;
use crate::member::Input;

/// Time to connect and be welcomed.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between attempts, first and longest.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MOST: Duration = Duration::from_secs(1);
/// Messages put into one frame.
const MESSAGES_PER_FRAME: usize = 128;

/// A connection, with or without TLS.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Connects to peers.
#[derive(Clone)]
pub struct Dialer {
    tls: Option<Arc<ClientConfig>>,
}

impl Dialer {
    /// With the TLS configuration for `https` peers.
    pub fn new(tls: Option<ClientConfig>) -> Self {
        Self {
            tls: tls.map(Arc::new),
        }
    }

    /// Connects to the first URL that answers and is welcomed.
    pub async fn dial(&self, urls: &[String], hello: &Hello) -> std::io::Result<(Box<dyn Stream>, Welcome)> {
        let mut last = std::io::Error::other("no peer URL is known");
        for url in urls {
            match tokio::time::timeout(CONNECT_TIMEOUT, self.dial_one(url, hello)).await {
                Ok(Ok(connected)) => return Ok(connected),
                Ok(Err(error)) => last = error,
                Err(_) => last = std::io::ErrorKind::TimedOut.into(),
            }
        }
        Err(last)
    }

    async fn dial_one(&self, url: &str, hello: &Hello) -> std::io::Result<(Box<dyn Stream>, Welcome)> {
        let wrong = || std::io::Error::other(format!("{url} is not a peer URL"));
        let uri: http::Uri = url.parse().map_err(|_| wrong())?;
        let (host, port) = (uri.host().ok_or_else(wrong)?, uri.port_u16().ok_or_else(wrong)?);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let tcp = TcpStream::connect((host, port)).await?;
        tcp.set_nodelay(true)?;
        let mut stream: Box<dyn Stream> = match (uri.scheme_str(), &self.tls) {
            (Some("https"), Some(tls)) => {
                let name = rustls::pki_types::ServerName::try_from(host.to_owned())
                    .map_err(std::io::Error::other)?;
                Box::new(TlsConnector::from(tls.clone()).connect(name, tcp).await?)
            }
            (Some("https"), None) => {
                return Err(std::io::Error::other(
                    "an https peer needs --peer-trusted-ca-file",
                ));
            }
            _ => Box::new(tcp),
        };
        stream.write_all(MAGIC).await?;
        frame::write(&mut stream, hello).await?;
        let welcome: Welcome = frame::read(&mut stream, HELLO_BYTES_MAX).await?;
        if welcome.refused.is_empty() {
            Ok((stream, welcome))
        } else {
            Err(std::io::Error::new(
                std::io::ErrorKind::PermissionDenied,
                welcome.refused,
            ))
        }
    }
}

/// Asks members at `urls` who they are.
pub async fn introduce(dialer: &Dialer, urls: &[String]) -> std::io::Result<Welcome> {
    let hello = Hello {
        purpose: Purpose::Introduce as i32,
        ..Default::default()
    };
    dialer.dial(urls, &hello).await.map(|(_, welcome)| welcome)
}

/// Keeps a stream to a peer until its queue is dropped.
pub(super) async fn run(inner: Arc<Inner>, id: u64, urls: Vec<String>, mut queue: mpsc::Receiver<Outgoing>) {
    let hello = Hello {
        purpose: Purpose::Messages as i32,
        cluster_id: inner.identity.cluster_id,
        from: inner.identity.member_id,
        to: id,
        ..Default::default()
    };
    let mut pause = RETRY_FIRST;
    let mut told_of = String::new();
    loop {
        match inner.dialer.dial(&urls, &hello).await {
            Ok((stream, _)) => {
                tracing::info!(peer = format!("{id:x}"), "connected to a peer");
                told_of.clear();
                pause = RETRY_FIRST;
                if exchange(stream, &mut queue).await {
                    return;
                }
            }
            Err(error) => {
                // A peer that is down is told of once, not at every attempt.
                if error.to_string() != told_of {
                    tracing::warn!(peer = format!("{id:x}"), ?urls, %error, "cannot connect to a peer");
                    told_of = error.to_string();
                }
                if told_of.contains(super::server::REMOVED) {
                    inner.shared.removed.send_replace(true);
                }
            }
        }
        let _ = inner.inputs.send(Input::Unreachable(id));
        // What waited for the lost stream is stale.
        while queue.try_recv().is_ok() {}
        if queue.is_closed() {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_MOST);
    }
}

/// Sends what is queued and takes answers; true when there will be nothing more to send.
async fn exchange(stream: Box<dyn Stream>, queue: &mut mpsc::Receiver<Outgoing>) -> bool {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (answers, mut answered) = mpsc::channel::<Told>(64);
    let reading = tokio::spawn(async move {
        while let Ok(frame) = frame::read::<Frame>(&mut reader, PEER_FRAME_BYTES_MAX).await {
            for told in frame.told {
                if answers.send(told).await.is_err() {
                    return;
                }
            }
        }
    });
    let mut asked: BTreeMap<u64, oneshot::Sender<Told>> = BTreeMap::new();
    let ended = loop {
        tokio::select! {
            told = answered.recv() => match told {
                Some(told) => {
                    if let Some(answer) = asked.remove(&told.id) {
                        let _ = answer.send(told);
                    }
                }
                None => break false,
            },
            first = queue.recv() => {
                let Some(first) = first else { break true };
                asked.retain(|_, answer| !answer.is_closed());
                let frame = gather(first, queue, &mut asked);
                if frame::write(&mut writer, &frame).await.is_err() {
                    break false;
                }
            }
        }
    };
    reading.abort();
    ended
}

fn gather(
    first: Outgoing,
    queue: &mut mpsc::Receiver<Outgoing>,
    asked: &mut BTreeMap<u64, oneshot::Sender<Told>>,
) -> Frame {
    let mut frame = Frame::default();
    let mut bytes = 0;
    let mut next = Some(first);
    while let Some(outgoing) = next {
        match outgoing {
            Outgoing::Raft(message) => {
                let encoded = keelson_store_raft::encode(message.as_ref());
                bytes += encoded.len();
                frame.raft.push(Bytes::from(encoded));
            }
            Outgoing::Ask(ask, answer) => {
                asked.insert(ask.id, answer);
                frame.asks.push(ask);
            }
        }
        let room = frame.raft.len() < MESSAGES_PER_FRAME && bytes < PEER_FRAME_BYTES_MAX / 16;
        next = if room { queue.try_recv().ok() } else { None };
    }
    frame
}
