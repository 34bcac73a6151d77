//! Scenarios, faults, benchmarks and style checks across binaries.
//!
//! A scenario is a transcript of what a person types and sees (`tests/scenarios/*.txt`, `tests/faults/*.txt`); it is
//! run against a real cluster by the real kubectl. See `transcript` for its form.

pub mod bench;
pub mod transcript;
