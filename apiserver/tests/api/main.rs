//! The server against a real etcd, over the network: what clients send, and what they must get.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall fail")]

mod basics;
mod cluster;
mod discovery;
mod election;
mod protobuf_client;
mod protobuf_kinds;
#[path = "../../kinds/tests/samples/mod.rs"]
mod samples;
mod specification;
mod takeover;
