//! Snapshots between members: the file in pieces, on a stream of its own, continued where it broke off.
//!
//! The receiver keeps what it has under a name with index and term, checks the whole file's hash, gives it its final name,
//! and only then shows Raft the message: Raft never sees a snapshot whose file is not here.

use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use keelson_store_disk::fs::temporary;
use keelson_store_disk::{RealDisk, snapshot};
use keelson_store_raft::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Inner;
use super::client::Stream;
use super::frame::{self, HELLO_BYTES_MAX, Hello, Purpose, Welcome};
use crate::limits::SNAPSHOT_PIECE_BYTES;
use crate::member::Input;

/// Attempts to deliver one snapshot; each continues the one before.
const ATTEMPTS: u32 = 5;

/// Delivers the snapshot a message stands for, and tells Raft whether it arrived.
pub(super) async fn send(inner: Arc<Inner>, urls: Vec<String>, message: Message) {
    let to = message.to;
    let mut delivered = false;
    for attempt in 0..ATTEMPTS {
        match deliver(&inner, &urls, &message).await {
            Ok(()) => {
                delivered = true;
                inner.shared.metrics.snapshots_sent.inc();
                break;
            }
            Err(error) => {
                tracing::warn!(peer = format!("{to:x}"), attempt, %error, "a snapshot was not delivered");
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
        }
    }
    let _ = inner.inputs.send(Input::SnapshotSent(to, delivered));
}

async fn deliver(inner: &Inner, urls: &[String], message: &Message) -> std::io::Result<()> {
    let metadata = message.get_snapshot().get_metadata();
    let path = snapshot::path(&inner.snapshots, metadata.term, metadata.index);
    let mut file = std::fs::File::open(&path)?;
    let size = file.metadata()?.len();
    let hello = Hello {
        purpose: Purpose::Snapshot as i32,
        cluster_id: inner.identity.cluster_id,
        from: inner.identity.member_id,
        to: message.to,
        message: keelson_store_raft::encode(message).into(),
        size,
    };
    let (mut stream, welcome) = inner.dialer.dial(urls, &hello).await?;
    let mut offset = welcome.offset.min(size);
    tracing::info!(
        peer = format!("{:x}", message.to),
        size,
        offset,
        "sending a snapshot"
    );
    file.seek(SeekFrom::Start(offset))?;
    while offset < size {
        let length = usize::try_from(size - offset)
            .unwrap_or(usize::MAX)
            .min(SNAPSHOT_PIECE_BYTES);
        let mut piece = vec![0; length];
        let read = tokio::task::spawn_blocking(move || file.read_exact(&mut piece).map(|()| (file, piece)));
        let (back, piece) = read.await.map_err(std::io::Error::other)??;
        file = back;
        stream.write_all(&piece).await?;
        offset += length as u64;
    }
    stream.flush().await?;
    let done: Welcome = frame::read(&mut stream, HELLO_BYTES_MAX).await?;
    if done.refused.is_empty() {
        Ok(())
    } else {
        Err(std::io::Error::other(done.refused))
    }
}

/// Takes a snapshot.
pub(super) async fn receive(
    mut stream: Box<dyn Stream>,
    inner: &Inner,
    hello: &Hello,
    mut welcome: Welcome,
) -> std::io::Result<()> {
    let message: Message = keelson_store_raft::decode(&hello.message).map_err(std::io::Error::other)?;
    let metadata = message.get_snapshot().get_metadata();
    let path = snapshot::path(&inner.snapshots, metadata.term, metadata.index);
    let part = temporary(&path);
    let mut file = std::fs::File::options().create(true).append(true).open(&part)?;
    welcome.offset = file.metadata()?.len().min(hello.size);
    frame::write(&mut stream, &welcome).await?;
    let mut left = hello.size - welcome.offset;
    while left > 0 {
        let length = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(SNAPSHOT_PIECE_BYTES);
        let mut piece = vec![0; length];
        stream.read_exact(&mut piece).await?;
        file = tokio::task::spawn_blocking(move || file.write_all(&piece).map(|()| file))
            .await
            .map_err(std::io::Error::other)??;
        left -= length as u64;
    }
    let finish = move || {
        file.sync_all()?;
        match snapshot::check(&RealDisk, &part) {
            Ok(true) => snapshot::install(&RealDisk, &part, &path).map_err(std::io::Error::other),
            outcome => {
                std::fs::remove_file(&part)?;
                let what = outcome.map_or_else(|error| error.to_string(), |_| "it has no hash".to_owned());
                Err(std::io::Error::other(format!(
                    "the snapshot arrived damaged: {what}"
                )))
            }
        }
    };
    let outcome = tokio::task::spawn_blocking(finish)
        .await
        .map_err(std::io::Error::other)?;
    if let Err(error) = &outcome {
        welcome.refused = error.to_string();
    } else {
        let _ = inner.inputs.send(Input::Message(Box::new(message)));
    }
    frame::write(&mut stream, &welcome).await?;
    outcome
}
