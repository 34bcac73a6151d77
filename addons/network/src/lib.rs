//! The pod network: CNI configuration for this node, routes to the other nodes' pods, masquerading towards the rest of
//! the world.
//!
//! `plan` decides from Node objects and this host's addresses; `render` turns the decision into files and commands;
//! `run` watches and executes with `ip`, `bridge` and `nft`. IPv4 only: nodes' IPv6 pod CIDRs are left alone.

pub mod cleanup;
pub mod execute;
pub mod flags;
pub mod host_ports;
pub mod plan;
pub mod render;
pub mod run;
