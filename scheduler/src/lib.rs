//! kube-scheduler: assigns pods to nodes.
//!
//! `scheduler` decides and knows no client; `driver` watches, writes and keeps the time. Plugins are listed in
//! `plugins::PLUGINS`.

pub mod args;
pub mod cluster;
pub mod columns;
pub mod config;
pub mod diagnosis;
pub mod driver;
pub mod evaluate;
pub mod flags;
pub mod hint;
pub mod limits;
pub mod metrics;
pub mod model;
pub mod nominations;
pub mod objects;
pub mod observed;
pub mod plugins;
pub mod preemption;
pub mod profile;
pub mod queue;
pub mod recorder;
pub mod run;
pub mod scheduler;
#[cfg(test)]
mod testing;
pub mod watches;
pub mod writes;
