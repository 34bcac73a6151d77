//! The schema of every built-in kind as tables, and what is computed from them.

pub mod resources;
pub mod types;
