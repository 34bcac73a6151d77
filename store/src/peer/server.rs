//! The peer port: takes streams of other members.

use std::sync::Arc;
use std::time::Duration;

use keelson_base::Shutdown;
use keelson_store_mvcc::ApiError;
use keelson_store_raft::Message;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use super::client::Stream;
use super::frame::{
    self, Ask, AskKind, Frame, HELLO_BYTES_MAX, Hello, MAGIC, Progress, Purpose, Told, Welcome,
};
use super::{Peers, snapshot};
use crate::limits::PEER_FRAME_BYTES_MAX;
use crate::member::Input;

/// Part of the text by which a removed member learns that it was removed.
pub const REMOVED: &str = "was removed from the cluster";
/// Time a new stream has to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves a listener until shutdown.
pub async fn serve(listener: TcpListener, tls: Option<Arc<ServerConfig>>, peers: Peers, shutdown: Shutdown) {
    let acceptor = tls.map(TlsAcceptor::from);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.wait() => return,
        };
        let (tcp, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a peer");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let _ = tcp.set_nodelay(true);
        let (acceptor, peers, shutdown) = (acceptor.clone(), peers.clone(), shutdown.clone());
        tokio::spawn(async move {
            let stream: Box<dyn Stream> = match acceptor {
                None => Box::new(tcp),
                Some(acceptor) => match acceptor.accept(tcp).await {
                    Ok(stream) => Box::new(stream),
                    Err(error) => {
                        tracing::warn!(%address, %error, "a peer's TLS handshake failed");
                        return;
                    }
                },
            };
            tokio::select! {
                served = stream_of(stream, &peers) => if let Err(error) = served {
                    tracing::debug!(%address, %error, "a peer's stream ended");
                },
                () = shutdown.wait() => {}
            }
        });
    }
}

async fn stream_of(mut stream: Box<dyn Stream>, peers: &Peers) -> std::io::Result<()> {
    let mut magic = [0; MAGIC.len()];
    tokio::time::timeout(HELLO_TIMEOUT, stream.read_exact(&mut magic)).await??;
    if magic != *MAGIC {
        let text = "this is the peer port of kube-store; clients use --listen-client-urls\n";
        let answer = format!(
            "HTTP/1.1 400 Bad Request\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        );
        return stream.write_all(answer.as_bytes()).await;
    }
    let hello: Hello =
        tokio::time::timeout(HELLO_TIMEOUT, frame::read(&mut stream, HELLO_BYTES_MAX)).await??;
    let identity = peers.inner.identity;
    let mut welcome = Welcome {
        refused: refusal(peers, &hello).unwrap_or_default(),
        cluster_id: identity.cluster_id,
        member_id: identity.member_id,
        ..Default::default()
    };
    if !welcome.refused.is_empty() {
        tracing::warn!(
            from = format!("{:x}", hello.from),
            refused = welcome.refused,
            "refused a peer"
        );
        return frame::write(&mut stream, &welcome).await;
    }
    match hello.purpose() {
        Purpose::Introduce => {
            welcome.members = peers.inner.shared.members.borrow().clone();
            frame::write(&mut stream, &welcome).await
        }
        Purpose::Snapshot => snapshot::receive(stream, &peers.inner, &hello, welcome).await,
        Purpose::Messages => {
            frame::write(&mut stream, &welcome).await?;
            messages(stream, peers).await
        }
    }
}

/// Why a stream is not taken.
fn refusal(peers: &Peers, hello: &Hello) -> Option<String> {
    let identity = peers.inner.identity;
    if hello.purpose() == Purpose::Introduce {
        return None;
    }
    if hello.cluster_id != identity.cluster_id {
        return Some(format!(
            "member {:x} belongs to cluster {:x}, not to {:x}: its data directory or its --initial-cluster and \
             --initial-cluster-token are another cluster's; start it with its own, or with an empty directory after \
             adding it as a member",
            hello.from, hello.cluster_id, identity.cluster_id
        ));
    }
    if hello.to != identity.member_id {
        return Some(format!(
            "this is member {:x}, not {:x}: check the peer URLs of both in `etcdctl member list`",
            identity.member_id, hello.to
        ));
    }
    if peers.inner.shared.state.read().members().is_removed(hello.from) {
        return Some(format!(
            "member {:x} {REMOVED}: add it again with an empty data directory",
            hello.from
        ));
    }
    None
}

async fn messages(stream: Box<dyn Stream>, peers: &Peers) -> std::io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    loop {
        let frame: Frame = frame::read(&mut reader, PEER_FRAME_BYTES_MAX).await?;
        for encoded in frame.raft {
            let message: Message = keelson_store_raft::decode(&encoded).map_err(std::io::Error::other)?;
            peers
                .inner
                .inputs
                .send(Input::Message(Box::new(message)))
                .map_err(|_| std::io::Error::other("the member has stopped"))?;
        }
        let mut answers = Frame::default();
        for ask in frame.asks {
            answers.told.push(tell(peers, &ask).await);
        }
        if !answers.told.is_empty() {
            frame::write(&mut writer, &answers).await?;
        }
    }
}

async fn tell(peers: &Peers, ask: &Ask) -> Told {
    let mut told = Told {
        id: ask.id,
        not_leader: true,
        ..Default::default()
    };
    if ask.kind() == AskKind::Progress {
        let (answer, answered) = oneshot::channel();
        let _ = peers.inner.inputs.send(Input::Progress(answer));
        let progress = answered.await.unwrap_or_default();
        told.not_leader = progress.is_empty();
        told.progress = progress
            .into_iter()
            .map(|(id, index, active)| Progress { id, index, active })
            .collect();
        return told;
    }
    let (answer, answered) = oneshot::channel();
    let input = match ask.kind() {
        AskKind::LeaseRenew => Input::LeaseRenew(ask.lease, answer),
        _ => Input::LeaseRemaining(ask.lease, answer),
    };
    let _ = peers.inner.inputs.send(input);
    match answered.await.unwrap_or(Err(ApiError::Stopped)) {
        Ok(seconds) => {
            told.not_leader = false;
            told.known = seconds.is_some();
            told.seconds = seconds.unwrap_or(0);
        }
        Err(_) => told.not_leader = true,
    }
    told
}
