//! The schema of every built-in kind as tables, and what is computed from them.

pub mod decode;
pub mod json;
pub mod managed;
pub mod patch;
pub mod protobuf;
pub mod resources;
pub mod types;
pub mod yaml;
