//! Objects in an etcd v3 store: where they lie, how they are written, and the client that moves bytes.
//!
//! Values are JSON of the storage version, or upstream's protobuf on the way in. Nothing above this module sees a key
//! of the store; nothing in it knows a kind's rules.

pub mod codec;
pub mod compact;
pub mod endpoints;
pub mod etcd;
pub mod keys;
pub mod leases;

pub use etcd::{Etcd, StoreError, Written};
