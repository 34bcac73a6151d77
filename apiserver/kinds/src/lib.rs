//! Every built-in kind: defaults, validation, strategies, selectable fields, table columns.
//!
//! Pure: no clock, no I/O, no randomness. An object is a `serde_json::Value`, so every field a client sent
//! survives; a [`Kind`] is what the generic verbs need to know beyond that. One file per kind, one table
//! ([`kinds`]). Rules and texts are upstream's (`pkg/apis/*/validation`, `pkg/registry/*/strategy.go`).
//!
//! What needs other objects (quota, limits, allocation of cluster IPs and node ports, admission) is not here.

pub mod autoscaling;
pub mod binding;
pub mod events;
pub mod eviction;
pub mod extensions;
pub mod metadata;
pub mod ratchet;
pub mod review;
pub mod scale;

mod admissionregistration;
mod apps;
mod batch;
mod cells;
mod certificates;
mod check;
mod coordination;
mod core;
mod discovery;
mod equal;
mod flowcontrol;
mod kind;
mod networking;
mod node;
mod pod;
mod policy;
mod rbac;
mod resource;
mod rolling;
mod scheduling;
mod set;
mod storage;
mod strategy;
mod table;
#[cfg(test)]
mod testing;

pub use kind::{Column, Kind, Subresource};
pub use table::{find, kinds};
