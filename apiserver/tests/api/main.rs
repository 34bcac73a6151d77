//! The server against a real etcd, over the network: what clients send, and what they must get.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall fail")]

mod basics;
mod behaviours;
mod cluster;
mod discovery;
mod election;
mod encodings;
mod field_validation;
mod patches;
mod protobuf_client;
mod protobuf_kinds;
mod protobuf_subresources;
mod replicas;
#[path = "../../kinds/tests/samples/mod.rs"]
mod samples;
mod specification;
mod takeover;
