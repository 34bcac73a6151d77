//! What the container runtime knows of pods, and the requests that make it do things.
//!
//! `state` holds plain values read from the runtime; the other files turn a pod into CRI messages. All of it is
//! pure: only `crate::cri` talks to the runtime.

pub mod container_config;
pub mod container_hash;
pub mod dns;
pub mod env;
pub mod expansion;
pub mod hosts_file;
pub mod labels;
pub mod resources;
pub mod sandbox_config;
pub mod security;
pub mod service_env;
pub mod state;
