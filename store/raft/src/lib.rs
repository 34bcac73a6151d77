//! Raft as a sans-I/O state machine around raft-rs' RawNode.
//!
//! `Node` consumes messages, ticks and proposals and says in `Ready` what to make durable, what to send before and after
//! that, and what is committed. It reads old entries through `Log`, which its owner also writes; it knows no clock, no
//! connection and no meaning of entries. Election jitter comes from a seed, so a simulation can replay a run.

mod bridge;
mod log;
mod node;

pub use log::{Log, LogError, SnapshotBase};
pub use node::{Config, Light, Node, ProposeError, Ready, Role, StepError};
pub use raft::eraftpb::{
    ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState, Entry, EntryType, HardState, Message,
    MessageType,
};

/// Encodes one of Raft's messages (their protobuf library is not the wire's).
pub fn encode(message: &impl prost_011::Message) -> Vec<u8> {
    message.encode_to_vec()
}

/// Decodes one of Raft's messages.
pub fn decode<M: prost_011::Message + Default>(bytes: &[u8]) -> Result<M, DecodeError> {
    M::decode(bytes).map_err(|source| DecodeError {
        what: source.to_string(),
    })
}

/// Encoded length, for writers that reserve space.
pub fn encoded_len(message: &impl prost_011::Message) -> usize {
    message.encoded_len()
}

/// Encodes to the end of a buffer.
pub fn encode_to(message: &impl prost_011::Message, buffer: &mut Vec<u8>) {
    message.encode(buffer).expect("a vector takes any length");
}

/// Bytes that are no Raft message.
#[derive(Debug, thiserror::Error)]
#[error("not a Raft message: {what}")]
pub struct DecodeError {
    what: String,
}
