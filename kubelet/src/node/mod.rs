//! The Node object: what the machine is, registration, status, Lease.

pub mod conditions;
pub mod lease;
pub mod machine;
pub mod object;
pub mod register;
