//! Raft as a sans-I/O state machine around raft-rs' RawNode.
