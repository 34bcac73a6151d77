//! kube-apiserver: the Kubernetes API over an etcd v3 store, served from bytes.
//!
//! A request comes in at `connection`, passes the `filters`, and is answered by a verb (`verbs`), a subresource
//! (`subresources`) or discovery. Reads are slices of the watch `cache`; writes run through `verbs::transaction`
//! into `storage`. What a kind means stands in `keelson-kinds`, not here.

pub mod allocators;
pub mod auth;
pub mod auth_files;
pub mod bootstrap;
pub mod cache;
pub mod connection;
pub mod context;
pub mod convert;
pub mod discovery;
pub mod filters;
pub mod foreign;
pub mod forms;
pub mod handler;
pub mod health;
pub mod limits;
pub mod metrics;
pub mod options;
pub mod own;
pub mod registry;
pub mod run;
pub mod server;
pub mod storage;
pub mod streams;
pub mod subresources;
pub mod tls;
pub mod verbs;
pub mod wire;
