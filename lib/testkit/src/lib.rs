//! What tests of several crates share: a fixed set of objects to read from.

pub mod objects;

pub use objects::Objects;
