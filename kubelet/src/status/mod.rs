//! The pod status the API server gets: generated purely from spec, runtime and the worker's own knowledge; patched by
//! one task per pod that always sends the latest.

mod conditions;
mod containers;
pub mod generate;
pub mod patch;
mod phase;
pub mod sender;

pub use generate::{Known, generate};
