//! Kinds of the core group.

pub mod claim;
mod config_map;
mod namespace;
mod secret;

pub use config_map::ConfigMap;
pub use namespace::Namespace;
pub use secret::Secret;
