//! What every binary shares: TLS, logging, metrics, health endpoints, shutdown.
//!
//! Invariant: TLS is configured here and nowhere else, with one crypto provider, so that a change of policy is one edit.

pub mod error;
mod footprint;
pub mod health;
pub mod logging;
pub mod metrics;
pub mod notify;
pub mod runtime;
pub mod self_signed;
pub mod shutdown;
pub mod tls;
pub mod version;

pub use shutdown::Shutdown;
