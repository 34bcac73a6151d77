//! kube-proxy: service addresses by nftables.
//!
//! `model` is what the API says; `service_rules` and `frame` make rules of it; `table` compares them with what the
//! kernel has; `run` watches and applies, one transaction at a time.

pub mod config;
pub mod conntrack;
pub mod endpoints;
pub mod flags;
pub mod frame;
pub mod health;

pub mod kernel;
pub mod limits;
pub mod model;
pub mod render;
pub mod rules;
pub mod run;
pub mod server;
pub mod service_rules;
pub mod table;
#[cfg(test)]
mod trace;
