//! Deterministic simulation of store members, network, disks and clock from one seed.
