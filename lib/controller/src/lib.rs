//! The controller runtime: a work queue, plans, and the executor that carries them out.
//!
//! A controller is a pure function from what the caches show to a [`Plan`]. This crate does the rest: it keeps a
//! deduplicating queue of keys, executes the plan's actions (creations in slowly growing batches, deletions side by
//! side, everything else in order), tells what happened as Events, retries with growing pauses, and holds a key back
//! until the controller's own writes show in the cache, so that no decision is made on a view that lacks them.
#![warn(missing_docs)]

pub mod action;
mod barrier;
pub mod executor;
mod limits;
pub mod metrics;
pub mod plan;
pub mod queue;
pub mod runtime;

pub use action::{Action, Guard, Note, Target, Verb};
pub use executor::{Executor, Failure};
pub use metrics::Metrics;
pub use plan::{Plan, Report};
pub use queue::Queue;
pub use runtime::{Controller, drive, run};
