//! kube-store: etcd's v3 API over Raft.
//!
//! Layers, one direction: `server` and `service` (the wire) -> `api` -> `member` (Raft, log, apply) -> the crates below.
//! `member` has no threads, sockets or clock; `driver`, `keeper` and `peer` lend it theirs.

pub mod api;
mod birth;
pub mod config;
pub mod driver;
pub mod flags;
pub mod keeper;
pub mod limits;
pub mod member;
pub mod metrics;
pub mod peer;
pub mod restore;
pub mod run;
pub mod server;
pub mod service;
pub mod tasks;
pub mod tokens;
pub mod verify;
mod wait;
