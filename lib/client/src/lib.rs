//! What every Keelson component needs to be an ordinary API client.
//!
//! * [`connect`] — a `kube::Client` from a kubeconfig, HTTP/2 over rustls with aws-lc-rs, following certificate files.
//! * [`informer`] — one shared, memory-lean cache per kind and process, fed by a watch.
//! * [`events`] — core/v1 Events, aggregated and counted as upstream's recorder does.
//! * [`election`] — leader election on a Lease.
//!
//! Deliberately absent: work queues and plans (`lib/controller`), and any knowledge of a particular kind.
#![warn(missing_docs)]

pub mod changes;
pub mod connection;
pub mod correlator;
pub mod election;
pub mod events;
pub mod informer;
mod limits;
pub mod store;
pub mod subscription;
pub mod watch_failures;

pub use connection::{ConnectError, Connection, Token, connect, connect_config, load_config};
pub use events::{EventType, Recorder};
pub use informer::{Cache, Informer, Informers, Object, Progress, informer};
pub use store::{Event, Key};
pub use subscription::Subscription;
pub use watch_failures::WatchFailures;

pub use k8s_openapi;
pub use kube;
