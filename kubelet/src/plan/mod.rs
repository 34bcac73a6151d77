//! Decides what to do next for one pod. Pure: no clock, no I/O, no logging.
//!
//! `phase` says where the pod is in its life, `actions` what to do there; `restart` and `backoff` hold the rules both
//! the planner and the status generator ask. A worker (crate::worker) executes and comes back with what it saw.

pub mod actions;
pub mod backoff;
mod init;
pub mod phase;
pub mod restart;

pub use actions::{PodAction, PodPlan, Seen, Start, pod_actions};
pub use phase::{Phase, PodEvent, next_phase};
