//! Every built-in kind: defaults, validation, strategies, selectable fields, table columns.
//!
//! Pure: no clock, no I/O, no randomness. An object is a `serde_json::Value`, so every field a client sent
//! survives; a [`Kind`] is what the generic verbs need to know beyond that. One file per kind, one table
//! ([`kinds`]). Rules and texts are upstream's (`pkg/apis/*/validation`, `pkg/registry/*/strategy.go`).
//!
//! What needs other objects (quota, limits, allocation of cluster IPs and node ports, admission) is not here.

#![allow(dead_code)]

mod cells;
mod check;
mod equal;
pub mod events;
mod kind;
mod rolling;
mod set;
mod strategy;
mod table;
#[cfg(test)]
mod testing;

pub mod binding;
pub mod eviction;
pub mod metadata;
pub mod scale;

mod apps;
mod batch;
mod certificates;
mod coordination;
mod core;
mod discovery;
mod networking;
mod pod;
mod policy;
mod rbac;
mod scheduling;
mod storage;

pub use kind::{Column, Kind, Subresource};
pub use table::{find, kinds};
