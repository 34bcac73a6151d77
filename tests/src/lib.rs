//! Scenarios, faults, benchmarks and style checks across binaries.
