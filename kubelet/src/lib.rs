//! kubelet: the node agent. Runs the pods bound to its node through CRI and reports what became of them.
//!
//! Pure core: `plan` (what to do), `status` (what to report), `runtime` (CRI messages), `volumes::payload` (files),
//! `admission`. Thin driver: `worker` (one task per pod), `pods` (all workers), `cri` (calls, timed), `images`,
//! `volumes`, `probes`, `server`, `node`. What is left out: persistent volumes and CSI, device plugins, eviction by
//! pressure, in-place resize, checkpoints.

pub mod admission;
pub mod cgroups;
pub mod client_certificate;
pub mod config;
pub mod configuration;
pub mod cri;
pub mod flags;
pub mod garbage;
pub mod handlers;
pub mod host;
pub mod images;
pub mod limits;
pub mod log_rotation;
pub mod metrics;
pub mod node;
pub mod objects;
pub mod plan;
pub mod pod;
pub mod pods;
pub mod probes;
pub mod quantity;
pub mod run;
pub mod runtime;
pub mod runtime_events;
pub mod server;
pub mod static_pods;
pub mod status;
pub mod volumes;
pub mod worker;
