//! The pod status the API server gets: generated purely from spec, runtime and the worker's own knowledge; patched by
//! one task per pod that always sends the latest.

mod conditions;
mod containers;
pub mod generate;
mod phase;
pub mod patch;
pub mod sender;

pub use generate::{Known, generate};
