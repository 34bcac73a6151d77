//! The bytes between members: a length and a message each. Numbers are big-endian.

use bytes::{Buf, Bytes, BytesMut};
use keelson_proto::etcd::etcdserverpb as pb;
use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Room taken before a frame's bytes have come.
const FIRST_BYTES: usize = 64 << 10;
/// Bytes of a stream's first frames, which come from whoever connects.
pub const HELLO_BYTES_MAX: usize = 1 << 20;

/// First bytes of every stream, so that anything else that connects is told what this port is.
pub const MAGIC: &[u8; 8] = b"KSPEER1\n";

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
pub enum Purpose {
    /// Raft messages and questions.
    Messages = 0,
    /// One snapshot.
    Snapshot = 1,
    /// Who are you, and who are the members?
    Introduce = 2,
}

/// The first frame of a stream.
#[derive(Clone, PartialEq, Message)]
pub struct Hello {
    #[prost(enumeration = "Purpose", tag = "1")]
    pub purpose: i32,
    /// 0 when introducing itself without belonging to a cluster yet.
    #[prost(fixed64, tag = "2")]
    pub cluster_id: u64,
    #[prost(fixed64, tag = "3")]
    pub from: u64,
    #[prost(fixed64, tag = "4")]
    pub to: u64,
    /// Raft's message that goes with a snapshot.
    #[prost(bytes = "bytes", tag = "5")]
    pub message: Bytes,
    /// Size of the snapshot's file.
    #[prost(uint64, tag = "6")]
    pub size: u64,
}

/// Its answer.
#[derive(Clone, PartialEq, Message)]
pub struct Welcome {
    /// Why not; empty when welcome.
    #[prost(string, tag = "1")]
    pub refused: String,
    #[prost(fixed64, tag = "2")]
    pub cluster_id: u64,
    #[prost(fixed64, tag = "3")]
    pub member_id: u64,
    #[prost(message, repeated, tag = "4")]
    pub members: Vec<pb::Member>,
    /// Bytes of the snapshot that are here already.
    #[prost(uint64, tag = "5")]
    pub offset: u64,
}

/// One message of an open stream.
#[derive(Clone, PartialEq, Message)]
pub struct Frame {
    /// Raft's messages, encoded by its own library.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub raft: Vec<Bytes>,
    #[prost(message, repeated, tag = "2")]
    pub asks: Vec<Ask>,
    #[prost(message, repeated, tag = "3")]
    pub told: Vec<Told>,
}

/// A question to the leader.
#[derive(Clone, PartialEq, Message)]
pub struct Ask {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(enumeration = "AskKind", tag = "2")]
    pub kind: i32,
    #[prost(int64, tag = "3")]
    pub lease: i64,
}

impl Ask {
    /// A question about a lease (or none).
    pub fn lease(kind: AskKind, lease: i64) -> Self {
        Self {
            id: 0,
            kind: kind as i32,
            lease,
        }
    }
}

/// Kinds of questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
pub enum AskKind {
    LeaseRenew = 0,
    LeaseRemaining = 1,
    Progress = 2,
}

/// The answer.
#[derive(Clone, PartialEq, Message)]
pub struct Told {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(bool, tag = "2")]
    pub not_leader: bool,
    #[prost(bool, tag = "3")]
    pub known: bool,
    #[prost(int64, tag = "4")]
    pub seconds: i64,
    #[prost(message, repeated, tag = "5")]
    pub progress: Vec<Progress>,
}

/// How far a member's log is.
#[derive(Clone, PartialEq, Message)]
pub struct Progress {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(uint64, tag = "2")]
    pub index: u64,
    #[prost(bool, tag = "3")]
    pub active: bool,
}

/// Writes a frame.
pub async fn write(stream: &mut (impl AsyncWrite + Unpin), message: &impl Message) -> std::io::Result<()> {
    let mut bytes = BytesMut::with_capacity(4 + message.encoded_len());
    let length = u32::try_from(message.encoded_len()).map_err(|_| std::io::ErrorKind::InvalidInput)?;
    bytes.extend_from_slice(&length.to_be_bytes());
    message.encode(&mut bytes).map_err(std::io::Error::other)?;
    stream.write_all(&bytes).await?;
    stream.flush().await
}

/// Reads a frame of at most so many bytes. Memory is taken as bytes come, not as their number is told.
pub async fn read<M: Message + Default>(
    stream: &mut (impl AsyncRead + Unpin),
    bytes_max: usize,
) -> std::io::Result<M> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let length = (&length[..]).get_u32() as usize;
    if length > bytes_max {
        return Err(std::io::Error::other(format!(
            "a frame of {length} bytes is too long: at most {bytes_max}"
        )));
    }
    let mut bytes = Vec::with_capacity(length.min(FIRST_BYTES));
    stream.take(length as u64).read_to_end(&mut bytes).await?;
    if bytes.len() < length {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    M::decode(Bytes::from(bytes)).map_err(std::io::Error::other)
}
