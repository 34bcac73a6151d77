//! Deterministic multi-version state: revisions, watch, leases, compaction, users, members.
//!
//! `Mvcc::apply` takes committed commands in log order and gives answers and events: the same commands give the same
//! state and the same answers on every member, so nothing here reads a clock, draws a random number, or depends on how
//! far background work has come. Keys and values are bytes; nothing here knows Raft, files or connections.
//!
//! Where a revision's record lives: first in `history`'s recent records (memory), then in blocks in the state engine.
//! The driver moves it there (`Mvcc::flush_job`, `backend`), off the write path; the log covers what is not yet moved.

pub mod alarm;
pub mod auth;
pub mod backend;
pub mod block;
pub mod command;
pub mod compact;
pub mod error;
pub mod hash;
pub mod history;
pub mod image;
pub mod key_index;
pub mod lease;
pub mod lessor;
pub mod limits;
pub mod members;
pub mod range;
pub mod revision;
pub mod rows;
mod scan_ahead;
pub mod state;
pub mod txn;
pub mod validate;
pub mod watch;

pub use command::{Command, Op, Response};
pub use error::ApiError;
pub use revision::Revision;
pub use state::Mvcc;
