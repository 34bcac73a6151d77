//! Store members as real processes: how tests start, hurt and judge them.
//!
//! What is recorded is judged by the checkers of the simulation (`keelson_store_sim::linear` and `watching`), so a
//! history of real processes and one of simulated members mean the same. Nothing here knows a test.

pub mod certificates;
pub mod cluster;
pub mod disk;
pub mod judge;
pub mod network;
pub mod programs;
pub mod record;
pub mod traffic;
